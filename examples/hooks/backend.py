#!/usr/bin/env python3
"""A backend for Switchboard's hooks, in Python's standard library alone.

    export HOOK_SECRET=a-secret-of-at-least-16-bytes
    python3 examples/hooks/backend.py 8000

prints `listening on 8000` and answers the hooks of `switchboard.toml`:

    [hooks.connect]
    url = "http://127.0.0.1:8000/connect"
    [hooks.join]
    url = "http://127.0.0.1:8000/join"
    [hooks.say]
    url = "http://127.0.0.1:8000/say"
    [hooks.leave]
    url = "http://127.0.0.1:8000/leave"
    [[actions.remote]]
    name = "greet"
    url = "http://127.0.0.1:8000/greet"
    description = "Says hello"
    required = ["name"]

The same secret goes to the server: SWITCHBOARD__HOOKS__SECRET=$HOOK_SECRET switchboard serve.
What is asked and what may be answered: docs/protocols/hooks.md.
"""

import hashlib
import hmac
import json
import os
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ.get("HOOK_SECRET", "").encode()
# Older requests are refused: who recorded one cannot use it later.
OLDEST_SECONDS = 300


def is_genuine(signature, body, now):
    """Whether a signature is that of our server over this body, and fresh."""
    parts = re.fullmatch(r"t=(\d{1,15}),v1=([0-9a-f]{64})", signature or "")
    if not parts or abs(now - int(parts[1])) > OLDEST_SECONDS:
        return False
    expected = hmac.new(SECRET, parts[1].encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, parts[2])


def connect(question):
    """Lets everybody in, and gives him what rooms may ask for."""
    return {"state": {"guest": True}}


def join(question):
    """Keeps guests out of staff rooms."""
    if question["room"].startswith("staff") and question["connection"]["state"].get("guest"):
        return {"allow": False, "reason": "staff only"}
    return {}


def say(question):
    """Refuses shouting, and stars one word."""
    message = question["message"]
    if not isinstance(message, str):
        return {}
    if len(message) > 3 and message.isupper():
        return {"allow": False, "reason": "please do not shout"}
    return {"message": message.replace("damn", "****")}


def leave(question):
    """Hears of all who left since the last report."""
    for left in question["leaves"]:
        print(left["connection"]["id"], "left", left["room"], flush=True)
    return {}


def greet(question):
    """An action: what it returns is the reply."""
    name = question["params"]["name"]
    if not isinstance(name, str):
        return {"error": "name must be text"}
    return {"greeting": f"Hello, {name}!"}


ROUTES = {"/connect": connect, "/join": join, "/say": say, "/leave": leave, "/greet": greet}


class Handler(BaseHTTPRequestHandler):
    # Keeps the connection for the next question.
    protocol_version = "HTTP/1.1"
    # An answer goes out at once.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not is_genuine(self.headers.get("Switchboard-Signature"), body, time.time()):
            return self.answer(401, {})
        route = ROUTES.get(self.path)
        if route is None:
            return self.answer(404, {})
        return self.answer(200, route(json.loads(body)))

    def answer(self, status, answer):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def main():
    if len(SECRET) < 16:
        sys.exit("set HOOK_SECRET to at least 16 bytes")
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8000), Handler)
    print("listening on", server.server_address[1], flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
