"""A real HTTP server on a thread, whose every answer is written by the test, byte by byte where need be."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.client.fake_server import FakeServer

Respond = Callable[["Handler", bytes], None]


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
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        """Break the connection off as a firewall does, without the usual goodbye (FIN) of `close`."""
        with socket.socket(fileno=self.connection.detach()) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, *_args: object) -> None:
        """Be silent."""


class LocalServer(ThreadingHTTPServer):
    """Where it listens is `url`; `released` is set when the test is over, for answers that hang."""

    daemon_threads = False  # joined at the end: nothing of one test lives on in the next

    def __init__(self, respond: Respond, certificate: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if certificate:
            self.scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake is left to the handler's thread: a client that leaves during it stops nobody.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.respond = respond
        self.released = threading.Event()
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def handle_error(self, *_args: object) -> None:
        """The client hung up, as it may."""


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
    """Response as the forged server of the other tests does."""

    def respond(handler: Handler, body: bytes) -> None:
        language = handler.headers.get("Accept-Language", "")
        answer = fake.exchange(handler.path, body or None, language)
        handler.send(answer.status, answer.body, Content_Type=answer.content_type or "application/json")

    return respond
