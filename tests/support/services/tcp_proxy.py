"""A wire to PostgreSQL that a test can hold or cut at a commit's answer, and a host that answers when it is told to."""

import contextlib
import select
import socket
import threading
from typing import Self
from urllib.parse import urlsplit


class Wire:
    """Passes bytes on, until a transaction that wrote `marker` is committed: what then comes back is held for ever.

    Args:
        database_url: Where PostgreSQL is.
        marker: A statement's text that tells which transaction is meant.
        tag: The tag in PostgreSQL's CommandComplete that tells of the commit.
    """

    def __init__(self, database_url: str, marker: bytes, tag: bytes = b"COMMIT") -> None:
        self._target = (urlsplit(database_url).hostname or "", urlsplit(database_url).port or 0)
        self._marker = marker
        self._committed = b"C\0\0\0" + bytes([len(tag) + 5]) + tag + b"\0"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.url = database_url.replace(f":{self._target[1]}/", f":{self._listener.getsockname()[1]}/")
        self.held = threading.Event()
        self.armed = True
        self._held_sockets: tuple[socket.socket, ...] = ()

    def cut(self) -> None:
        """End the connection whose answer is held."""
        for end in self._held_sockets:
            end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        marked = False
        with contextlib.suppress(OSError, ValueError):
            while True:
                for source in select.select([near, far], [], [])[0]:
                    received = source.recv(65_536)
                    if not received:
                        near.shutdown(socket.SHUT_RDWR)
                        far.shutdown(socket.SHUT_RDWR)
                        return
                    if source is near:
                        marked = marked or self._marker in received
                        far.sendall(received)
                    elif marked and self.armed and self._committed in received:
                        self.armed, self._held_sockets = False, (near, far)
                        self.held.set()
                        return
                    else:
                        near.sendall(received)


class SilentHost:
    """Listens on a port of this machine; `held` are the connections that wait for an answer."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.held: list[socket.socket] = []
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.held.append(self._listener.accept()[0])
                self.accepted += 1

    def answer(self, answer: bytes) -> None:
        """Answer the connections that wait, and end them."""
        while self.held:
            with self.held.pop() as connection:
                connection.recv(1_000)
                connection.sendall(answer)

    def close(self) -> None:
        """End everything."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.answer(b"")
