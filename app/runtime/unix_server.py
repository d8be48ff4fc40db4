"""HTTP on a Unix socket, for processes beside the app that only the app and its command line ask."""

import os
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

Answer = Callable[[str, bytes], tuple[HTTPStatus, bytes]]
"""Takes a request such as `GET /functions` and its body; returns the status and a body of JSON. Threads call it."""


def listen(path: Path, answer: Answer, max_bytes: int) -> ThreadingUnixStreamServer:
    """Return a server on a socket of the socket's group only; this changes the working directory."""
    path.unlink(missing_ok=True)
    os.chdir(path.parent)  # a socket's address holds 107 bytes, its path may have more
    before = os.umask(0o007)
    try:
        return ThreadingUnixStreamServer(path.name, partial(_Handler, answer, max_bytes))
    finally:
        os.umask(before)


class _Handler(BaseHTTPRequestHandler):
    timeout = 30.0

    def __init__(self, answer: Answer, max_bytes: int, *arguments: Any) -> None:  # noqa: ANN401  # socketserver's
        self._answer = answer
        self._max_bytes = max_bytes
        super().__init__(*arguments)

    def do_GET(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if length.isdecimal() and int(length) <= self._max_bytes:
            status, content = self._answer(f"{self.command} {self.path}", self.rfile.read(int(length)))
        else:
            status, content = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"{}"
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815  # http.server's name

    def log_message(self, *_arguments: object) -> None:
        """Log nothing: the answering side knows what may be logged."""
