"""The process that sends the requests of webhooks: `python -m app.webhooks`. It has a network, and no secret."""

import contextlib
import os
import socketserver
import sys
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec

from app.environment import SettingsError, boolean, required
from app.webhooks.post import post

MAX_REQUEST_BYTES = 64 * 1024


class _Request(msgspec.Struct):
    url: str
    headers: dict[str, str]
    body: str


class _Handler(BaseHTTPRequestHandler):
    timeout = 10.0

    def __init__(self, *arguments: Any, allow_private: bool) -> None:  # noqa: ANN401  # socketserver's
        self._allow_private = allow_private
        super().__init__(*arguments)

    def do_POST(self) -> None:  # http.server's
        """Send what the request says, and answer with what became of it."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_REQUEST_BYTES:
            self.send_error(400, f"at most {MAX_REQUEST_BYTES} bytes")
            return
        try:
            asked = msgspec.json.decode(self.rfile.read(int(length)), type=_Request)
        except msgspec.MsgspecError as error:
            self.send_error(400, str(error))
            return
        sent = post(asked.url, asked.headers, asked.body.encode(), allow_private=self._allow_private)
        content = msgspec.json.encode(sent)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Log nothing: URLs may be secrets, and the service keeps what became of each request."""


def server() -> socketserver.ThreadingUnixStreamServer:
    """Return the server, listening on the socket of the settings.

    Raises:
        SettingsError: a setting is wrong or missing.
    """
    socket_path = Path(required(os.environ, "KADUN_WEBHOOKS_SOCKET"))
    handler = partial(_Handler, allow_private=boolean(os.environ, "KADUN_WEBHOOK_PRIVATE"))
    with contextlib.suppress(FileNotFoundError):
        socket_path.unlink()
    before = os.umask(0o007)  # for the app's group only
    try:
        made = socketserver.ThreadingUnixStreamServer(str(socket_path), handler)
    finally:
        os.umask(before)
    made.daemon_threads = True
    return made


def main() -> None:
    """Serve until a signal."""
    try:
        with server() as serving:
            serving.serve_forever()
    except SettingsError as error:
        sys.exit(f"kadun: {error}")


if __name__ == "__main__":
    main()
