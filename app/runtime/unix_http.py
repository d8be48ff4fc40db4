"""HTTP over a Unix socket."""

import http.client
import os
import socket
from pathlib import Path


class UnixConnection(http.client.HTTPConnection):
    """A connection to a server that listens on a Unix socket, whose path may have any length."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        # A socket's address holds 107 bytes, its path may have more: a descriptor stands for its folder.
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


def ask(path: Path, request: str, body: bytes | None, *, seconds: float, max_bytes: int) -> tuple[int, bytes]:
    """Send a request such as `GET /functions`; return status and first bytes, or raise OSError or HTTPException."""
    method, _, target = request.partition(" ")
    connection = UnixConnection(path, seconds)
    try:
        connection.request(method, target, body)
        answer = connection.getresponse()
        return answer.status, answer.read(max_bytes)
    finally:
        connection.close()
