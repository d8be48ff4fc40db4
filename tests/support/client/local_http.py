"""Real servers on threads: HTTP whose every answer the test writes, byte by byte where need be; and ports without it.

Also waiting without real timeouts: for events, or until a server has stalled.
"""

import queue
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.client.fakes import FakeServer

Respond = Callable[["Handler", bytes], None]
Ending = Callable[["Handler"], object]

OK = b"HTTP/1.1 200 OK\r\n"
LONG = OK + b"Content-Length: 100000\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
RESET = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed without the usual goodbye (FIN)

SOON_SECONDS = 60.0  # the limit for an awaited event, far above what a loaded machine needs
LONG_SECONDS = 120.0  # a client's timeout that no test reaches, unless it passes early: see `StalledQueue`
STALLED = threading.Event()  # set by a server once it sends nothing more


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


class StalledQueue(queue.Queue[Any]):
    """Where a transport waits for its thread. Put in place of `queue.Queue`, the timeout passes at `STALLED`."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        STALLED.clear()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002 - the original's
        deadline = time.monotonic() + (timeout or 0)
        while time.monotonic() < deadline:
            try:
                return super().get(block, 0.005)
            except queue.Empty:
                if STALLED.is_set():
                    raise
        raise queue.Empty


class Handler(BaseHTTPRequestHandler):
    """Reads the request and leaves the answer to the server's `respond`."""

    protocol_version = "HTTP/1.1"
    server: "LocalServer"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, dict(self.headers.items()), body))
        self.close_connection = True
        self.server.respond(self, body)

    do_GET = do_CONNECT = do_POST  # noqa: N815 - the standard library's own names

    def send(self, status: int, body: bytes, **headers: Any) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        with socket.socket(fileno=self.connection.detach()) as connection:
            connection.setsockopt(*RESET)

    def log_message(self, *_args: object) -> None:
        """Be silent."""


class LocalServer(ThreadingHTTPServer):
    """Where it listens is `url`; `released` is set when the test is over, for answers that hang."""

    daemon_threads = False  # joined at the end: nothing of one test lives on in the next

    def __init__(self, respond: Respond, certificate: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        if certificate:
            # The handshake is left to the handler's thread: a client that leaves during it stops nobody.
            self.socket = tls(certificate).wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.server_port}"
        self.respond = respond
        self.released = threading.Event()
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []

    def handle_error(self, *_args: object) -> None:
        """The client hung up, as it may."""


def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@contextmanager
def serving(respond: Respond, certificate: Path | None = None) -> Iterator[LocalServer]:
    with LocalServer(respond, certificate) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


def forged(fake: FakeServer) -> Respond:
    def respond(handler: Handler, body: bytes) -> None:
        answer = fake.exchange(handler.path, body or None, handler.headers.get("Accept-Language", ""))
        handler.send(answer.status, answer.body, Content_Type=answer.content_type or "application/json")

    return respond


def send(raw: bytes, then: Ending = lambda _handler: None) -> Respond:
    """Send exactly these bytes; then close the connection, unless `then` does something else before."""

    def respond(handler: Handler, _body: bytes) -> None:
        handler.wfile.write(raw)
        then(handler)

    return respond


def stall(handler: Handler) -> None:
    STALLED.set()
    handler.server.released.wait()


def repeat(piece: bytes, pause_seconds: float = 0.0) -> Ending:
    """Send a piece again and again; the server counts as stalled after a few."""

    def ending(handler: Handler) -> None:
        for _ in range(5):
            handler.wfile.write(piece)
        STALLED.set()
        while not handler.server.released.wait(pause_seconds):
            handler.wfile.write(piece)

    return ending


def drip(drop: bytes) -> Ending:
    return repeat(drop, 0.02)


def half_close(handler: Handler) -> None:
    """Send no more, but keep the connection."""
    handler.connection.shutdown(socket.SHUT_WR)
    handler.server.released.wait()


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
    context = tls(certificate)

    def handle(connection: socket.socket, _stack: ExitStack) -> None:
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)
            secure.setsockopt(*RESET)

    return accepting_port(handle)


def hanging_up_port() -> AbstractContextManager[str]:
    """A port that closes each connection after the first bytes."""

    def handle(connection: socket.socket, _stack: ExitStack) -> None:
        with connection:
            connection.recv(100_000)

    return accepting_port(handle)


@contextmanager
def dripping_tls_port() -> Iterator[str]:
    """The URL of a port that begins a greeting of TLS, and sends a byte of it now and then."""
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(b"\x16\x03\x03\x3f\x00")
            while not over.wait(0.05):
                connection.sendall(b"\x02")

    def handle(connection: socket.socket, stack: ExitStack) -> None:
        stack.enter_context(connection)
        thread = threading.Thread(target=drip, args=(connection,))
        thread.start()
        stack.callback(thread.join)  # before the connection is closed

    with accepting_port(handle) as address:
        try:
            yield f"https://{address}"
        finally:
            over.set()
