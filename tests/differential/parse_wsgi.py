"""Tells what a WSGI application is given of a request: JSON of its environment in the answer's `x-environment`.

Prints its port; ends with its standard input. The names of header fields are folded, and those that become one are joined, as in CGI.
"""

import json
import sys
import threading
from urllib.parse import quote
from wsgiref.simple_server import WSGIRequestHandler, make_server


def application(environment, start_response):
    # Who reads the answer has the token already, and nobody's log is to have it.
    environment.pop("HTTP_AUTHORIZATION", None)
    told = {name: value for name, value in environment.items() if isinstance(value, str) and name.startswith(("HTTP_", "REMOTE_", "PATH_", "REQUEST_"))}
    start_response("200 OK", [("x-environment", quote(json.dumps(told))), ("content-length", "0")])
    return [b""]


class Handler(WSGIRequestHandler):
    def log_message(self, *_):
        pass


server = make_server("127.0.0.1", 0, application, handler_class=Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
