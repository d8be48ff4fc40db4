"""What stands before a server, or in its place: TLS, a wire that is cut, a silent host, a name server."""

import contextlib
import select
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tests.support.services.http_exchange import quiet_port
from tests.support.services.pki import Issued


class Front:
    """Passes bytes on to a port of 127.0.0.1, until it is closed or told to be silent.

    Args:
        target: The port that they go to.
        port: Where to listen; 0 is any.
        listen_on: The address to listen on.
    """

    def __init__(self, target: int, *, port: int = 0, listen_on: str = "127.0.0.1") -> None:
        self._target = ("127.0.0.1", target)
        self._listen_on = listen_on
        self._listener: socket.socket | None = None
        self._sockets: list[socket.socket] = []
        self.silent = False
        self.port = port

    def listen(self) -> Self:
        """Listen, on the same port each time."""
        self._listener = socket.create_server((self._listen_on, self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def close(self) -> None:
        """Refuse connections, and end those that there are.

        Their own threads close them: OpenSSL may still write an alert, perhaps to the next socket of the same number.
        """
        listener, ends = self._listener, self._sockets
        self._listener, self._sockets = None, []
        for end in (*([listener] if listener else []), *ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        if listener:
            listener.close()

    @contextlib.contextmanager
    def away(self, *, silent: bool = False) -> Iterator[None]:
        """Refuse connections inside the block, or accept them and never answer; serve again at its end."""
        self.close()
        self.silent = silent
        try:
            if silent:
                self.listen()
            yield
        finally:
            self.silent = False
            self.close()
            self.listen()

    __enter__ = listen

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                self._sockets.append(near)
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError), near:
            if self.silent:
                while near.recv(65_536):
                    pass
                return
            with self._received(near) as received, socket.create_connection(self._target) as far:
                self._sockets += [received, far]
                _relay(received, far)

    def _received(self, near: socket.socket) -> socket.socket:
        """Return a connection as its bytes are to be passed on."""
        return near


class TlsFront(Front):
    """Takes TLS off.

    Args:
        folder: For the certificate.
        issued: The certificate that it shows.
        target: Where plain HTTP is served.
        listen_on: The address to listen on.
    """

    def __init__(self, folder: Path, issued: Issued, target: int, *, listen_on: str = "127.0.0.1") -> None:
        super().__init__(target, listen_on=listen_on)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.names: set[str | None] = set()
        self._context.sni_callback = lambda _end, name, _context: self.names.add(name)
        self._folder = folder
        self.show(issued)

    def show(self, issued: Issued) -> None:
        certificate, key = self._folder / "front.pem", self._folder / "front.key"
        certificate.write_bytes(issued.pem)
        key.write_bytes(issued.key_bytes())
        self._context.load_cert_chain(certificate, key)

    def _received(self, near: socket.socket) -> socket.socket:
        return self._context.wrap_socket(near, server_side=True)


class Wire(Front):
    """A wire to PostgreSQL: passes bytes on, until a transaction that wrote `marker` is committed.

    What then comes back is held until `cut` ends the connection.

    Args:
        database_url: Where PostgreSQL is.
        marker: A statement's text that tells which transaction is meant.
        tag: The tag in PostgreSQL's CommandComplete that tells of the commit.
    """

    def __init__(self, database_url: str, marker: bytes, tag: bytes = b"COMMIT") -> None:
        target = urlsplit(database_url).port or 0
        super().__init__(target, port=quiet_port())
        self.url = database_url.replace(f":{target}/", f":{self.port}/")
        self._marker = marker
        self._committed = b"C\0\0\0" + bytes([len(tag) + 5]) + tag + b"\0"
        self.held = threading.Event()
        self.armed = True
        self._cut = threading.Event()

    def cut(self) -> None:
        self._cut.set()

    def close(self) -> None:
        self.cut()
        super().close()

    def _serve(self, near: socket.socket) -> None:
        marked = False
        with contextlib.suppress(OSError, ValueError), near, socket.create_connection(self._target) as far:
            self._sockets.append(far)
            while True:
                for source in select.select([near, far], [], [])[0]:
                    received = source.recv(65_536)
                    if not received:
                        return
                    if source is near:
                        marked = marked or self._marker in received
                        far.sendall(received)
                    elif marked and self.armed and self._committed in received:
                        self.armed = False
                        self.held.set()
                        self._cut.wait()
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
        while self.held:
            with self.held.pop() as connection:
                connection.recv(1_000)
                connection.sendall(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.answer(b"")


def _relay(near: socket.socket, far: socket.socket) -> None:
    """Pass bytes on both ways, until one end is closed or shut down."""
    back = threading.Thread(target=_pump, args=(far, near), daemon=True)
    back.start()
    _pump(near, far)
    back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while piece := source.recv(65_536):
            target.sendall(piece)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class NameServer:
    """A name server on 127.0.0.1 whose every name has the address 127.0.0.1."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, client = self._socket.recvfrom(512)
                self._socket.sendto(_answer(query), client)


def _answer(query: bytes) -> bytes:
    """Answer a question for A with 127.0.0.1, and every other one with nothing (RFC 1035)."""
    end = query.index(b"\0", 12) + 5
    question = query[12:end]
    wants_a = question[-4:-2] == b"\0\1"
    header = query[:2] + struct.pack(">HHHHH", 0x8180, 1, int(wants_a), 0, 0)
    record = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 1, 4) + bytes([127, 0, 0, 1])
    return header + question + (record if wants_a else b"")


class Quiet:
    """Part of a handler of HTTP requests that logs nothing."""

    def log_message(self, *_: object) -> None:
        """Nothing: the peer on a unix socket has no address to log."""


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
