"""What stands behind nginx where a test is about nginx alone: it tells what reached it, and answers at any length."""

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Self

from tests.support.services.bucket_host import Quiet

STYLES = b"p { color: red }\n" * 1000
EXPORT_BYTES = 32 * 1024 * 1024  # more than all buffers of the two connections hold
_PIECE = 64 * 1024


class _Handler(Quiet, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "ConsoleStandIn"

    def do_GET(self) -> None:
        if self.path.startswith("/admin/static/"):
            self._answer("text/css; charset=utf-8", STYLES)
        elif self.path == "/admin/session":
            self._answer("text/plain", b"", 204 if self.headers["Cookie"] else 401)
        elif self.path == "/admin/page":
            self._answer("text/html; charset=utf-8", b"<p>x" * 1000)
        elif self.path == "/admin/export":
            self._answer("text/csv; charset=utf-8", b"x" * EXPORT_BYTES)
        elif self.path.startswith("/v1/status/"):
            status = int(self.path.rpartition("/")[2])
            self._answer("application/json", json.dumps({"status": status}).encode(), status)
        else:
            self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        told = {"path": self.path, "body_bytes": len(body), "headers": {k.lower(): v for k, v in self.headers.items()}}
        self._answer("application/json", json.dumps(told).encode())

    def _answer(self, media_type: str, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Cookie-Seen", self.headers["Cookie"] or "none")
        self.send_header("X-Address-Seen", self.headers["X-Real-IP"])
        self.end_headers()
        for start in range(0, len(content), _PIECE):
            self.wfile.write(content[start : start + _PIECE])
            self.server.sent_bytes += _PIECE


class ConsoleStandIn(socketserver.ThreadingUnixStreamServer):
    """Serves on a unix socket while in use; `sent_bytes` have left it so far, in all its answers."""

    daemon_threads = True
    block_on_close = False  # nginx keeps its connections open
    sent_bytes = 0

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.path = path

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
