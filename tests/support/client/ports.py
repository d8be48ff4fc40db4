"""Ports without an HTTP server: deaf, closed, silent, or ending each connection."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path

from tests.support.client.timing import STALLED


@contextmanager
def deaf_port() -> Iterator[str]:
    """A port with a full backlog: no connection is established, as behind a firewall that drops packets."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.socket()))
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            caller = stack.enter_context(closing(socket.socket()))
            caller.setblocking(False)  # noqa: FBT003 - the standard library's own signature
            caller.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def closed_port() -> Iterator[str]:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))  # taken, but not listening
        yield f"127.0.0.1:{unused.getsockname()[1]}"


@contextmanager
def accepting_port(handle: Callable[[socket.socket, ExitStack], None]) -> Iterator[str]:
    """A port that hands each connection to `handle`; what that leaves open is closed at the end."""
    with ExitStack() as stack, closing(socket.create_server(("127.0.0.1", 0), backlog=64)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _address = listener.accept()
                except OSError:
                    return
                handle(connection, stack)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def silent_port() -> AbstractContextManager[str]:
    """A port that reads the first bytes and sends nothing, so that no TLS handshake completes."""

    def handle(connection: socket.socket, stack: ExitStack) -> None:
        stack.enter_context(connection)
        connection.recv(1, socket.MSG_PEEK)
        STALLED.set()

    return accepting_port(handle)


def resetting_port(certificate: Path) -> AbstractContextManager[str]:
    """A port that reads the first byte of a request over TLS and resets the connection, as when a server is killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def handle(connection: socket.socket, _stack: ExitStack) -> None:
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)
            secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return accepting_port(handle)


def hanging_up_port(received: list[bytes] | None = None) -> AbstractContextManager[str]:
    """A port that closes each connection after the first bytes."""

    def handle(connection: socket.socket, _stack: ExitStack) -> None:
        with connection:
            first = connection.recv(100_000)
            if received is not None:
                received.append(first)

    return accepting_port(handle)


@contextmanager
def dripping_tls_port() -> Iterator[str]:
    """The URL of a port that begins a greeting of TLS, and sends a byte of it now and then."""
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(b"\x16\x03\x03\x3f\x00")
            while not over.wait(0.05):
                connection.sendall(b"\x02")

    threads: list[threading.Thread] = []

    def handle(connection: socket.socket, _stack: ExitStack) -> None:
        threads.append(threading.Thread(target=drip, args=(connection,)))
        threads[-1].start()

    with accepting_port(handle) as address:
        try:
            yield f"https://{address}"
        finally:
            over.set()
            for thread in threads:
                thread.join()
