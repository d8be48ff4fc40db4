"""A server that accepts connections and does not answer until it is told to."""

import contextlib
import socket
import threading


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
