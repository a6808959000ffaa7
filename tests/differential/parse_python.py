"""Tells how Python's http.server, and what applications build on it, read a request: JSON in the answer's `x-read`.

Prints its port; ends with its standard input.
"""

import json
import os
import posixpath
import sys
import threading
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit


def normal(path):
    short = posixpath.normpath(unquote(path))
    return short + "/" if path.endswith("/") and not short.endswith("/") else short


def served(handler, path):
    """The file that the standard library would serve, below its folder."""
    found = SimpleHTTPRequestHandler.translate_path(handler, path)
    return found[len(handler.directory.rstrip("/")):] or "/"


def value(body):
    """What an application would take from a body."""
    try:
        found = json.loads(body)["target"]["id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return str(found) if isinstance(found, (str, int, float)) and not isinstance(found, bool) else None


class Reader(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    directory = os.getcwd()

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.tell
        raise AttributeError(name)

    def body(self):
        if self.headers.get("transfer-encoding") is None:
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def tell(self):
        path, body = urlsplit(self.path).path, self.body()
        read = {
            "id": self.headers.get("x-request-id"),
            "route": self.headers.get("x-portcullis-route"),
            "method": self.command,
            "host": self.headers.get("host"),
            "paths": [path, unquote(path), normal(path), served(self, self.path)],
            "body": body.decode("latin-1"),
            "value": value(body),
        }
        self.send_response(200)
        self.send_header("x-read", quote(json.dumps(read)))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A body that breaks off, where the sidecar found that it is none."""


server = Server(("127.0.0.1", 0), Reader)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
