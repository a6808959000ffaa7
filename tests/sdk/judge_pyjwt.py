"""Judges tokens with `pyjwt`: a line of JSON in, a line out, empty where it accepts, else its reason.

Usage: python judge_pyjwt.py < LINES; the first line is {"keys", "issuer", "now", "leeway"}, every other {"token", "algorithm", "kid"}:
the key and the algorithm are pinned, the token chooses neither. Its clock is that of the tests.
"""

import datetime
import json
import sys

import jwt
import jwt.api_jwt

settings = json.loads(sys.stdin.readline())


class Standing(datetime.datetime):
    """The time of the tests."""

    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(settings["now"], tz)


jwt.api_jwt.datetime = Standing
keys = {key["kid"]: jwt.PyJWK(key) for key in settings["keys"]}


def verdict(token, algorithm, kid):
    try:
        jwt.decode(
            token,
            keys[kid],
            algorithms=[algorithm],
            issuer=settings["issuer"],
            leeway=settings["leeway"],
            options={"verify_aud": False},
        )
    except jwt.PyJWTError as error:
        return f"{type(error).__name__}: {error}".replace("\n", " ")
    return ""


for line in sys.stdin:
    print(verdict(**json.loads(line)), flush=True)
