"""Where calls of functions report that they run, and wait. They connect: they may write no file of the tests."""

import socket
from typing import Self


class Rendezvous:
    """A port of 127.0.0.1 to which calls connect; `release` lets all of them go on."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(60)
        self._callers: list[socket.socket] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def wait(self) -> socket.socket:
        """Wait for the next call to run."""
        connection, _ = self._listener.accept()
        connection.settimeout(60)
        self._callers.append(connection)
        return connection

    def report(self) -> str:
        """Wait for a call, and return what it sends."""
        with self.wait().makefile(encoding="utf-8") as text:
            return text.read()

    def release(self) -> None:
        for connection in self._callers:
            connection.close()
        self._callers.clear()

    def close(self) -> None:
        """Let all calls go on, and accept no others."""
        self.release()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
