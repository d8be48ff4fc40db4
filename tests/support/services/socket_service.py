"""The real service on a unix socket, behind a proxy, as in the container."""

import http.client
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

from tests.support.services.processes import children_of
from tests.support.services.service import Service, question, wait_for


class SocketService(Service):
    """`tests.support.services.service.Service` on a socket instead of a port."""

    def __init__(self, folder: Path, database_url: str, **settings: str) -> None:
        self.socket = folder / "kadun.sock"
        self._cards: list[str] = []
        at = {"KADUN_BIND": f"unix:{self.socket}", "KADUN_BEHIND_PROXY": "true"}
        super().__init__(folder, database_url, **at, **settings)

    def answers(self) -> bool:
        try:
            return self.ask_directly("/readyz") == b'{"status": "ready"}'
        except OSError:
            return False

    def ask_directly(self, path: str) -> bytes:
        """The body of a GET over the socket, with nginx left out."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(self.socket))
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def kill(self) -> None:
        """Kill the master and its workers; the socket's file stays behind, and nothing listens on it."""
        assert self.process is not None
        for pid in (self.process.pid, *children_of(self.process.pid)):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=60)
        wait_for(self._is_dead)

    def _is_dead(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self.socket))
            except ConnectionRefusedError:
                return True
            return False

    def new_card(self) -> str:
        self._cards = self._cards or self.issue(100)
        return self._cards.pop()


def body(card: str, hardware: str, **more: Any) -> bytes:
    """A request to open the program, as it travels."""
    return json.dumps(question(card, hardware, **more)).encode()
