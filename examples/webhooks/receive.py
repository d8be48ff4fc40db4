"""Receives webhooks: checks the signature, answers at once, and handles each message once.

    WEBHOOK_SECRET=whsec_… python receive.py

It listens on http://127.0.0.1:8080; have your web server forward https://… to it.
"""

import base64
import hmac
import json
import os
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOLERANCE_SECONDS = 300
MAX_BYTES = 64 * 1024


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> dict[str, Any] | None:
    """Return the message, or None if it is not genuine or too old."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return None
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    expected = "v1," + base64.b64encode(digest).decode()
    given = headers.get("webhook-signature", "").split()
    if not any(hmac.compare_digest(expected.encode(), each.encode()) for each in given):
        return None
    message: dict[str, Any] = json.loads(body)
    return message


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to a genuine message, 401 to any other."""

    secret = os.environ.get("WEBHOOK_SECRET", "")
    seen: set[str] = set()  # noqa: RUF012  # a real receiver keeps the IDs in its database
    timeout = 10

    def do_POST(self) -> None:  # http.server's
        """Check the message, and handle it."""
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > MAX_BYTES:
            self.send_error(413)
            return
        message = verify(
            self.secret,
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(int(length)),
            time.time(),
        )
        if message is None:
            self.send_error(401)
            return
        message_id = self.headers["webhook-id"]
        if message_id not in self.seen:  # a message may come twice
            self.seen.add(message_id)
            self.handle_message(message)
        self.send_response(204)
        self.end_headers()

    def handle_message(self, message: dict[str, Any]) -> None:
        """Do what the message means to you; put slow work in a queue."""
        print(message["type"], message["data"], flush=True)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 8080), Receiver).serve_forever()
