"""A receiver of webhooks on HTTPS: the example of examples/webhooks, with a certificate of a test's own."""

import importlib.util
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.services.pki import Issued

EXAMPLE = Path(__file__).parents[2] / "examples" / "webhooks" / "receive.py"


def example() -> ModuleType:
    """The example, as a vendor would run it."""
    spec = importlib.util.spec_from_file_location("receive", EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def tls_server(handler: Any, folder: Path, asked: Callable[[str], None] | None = None) -> Iterator[tuple[int, Path]]:
    """Serve localhost on HTTPS; yield the port, and a file for SSL_CERT_FILE. `asked` gets the names of requests."""
    issued = Issued.make("localhost")
    certificate, key = folder / "receiver.pem", folder / "receiver.key"
    certificate.write_bytes(issued.pem)
    key.write_bytes(issued.key_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if asked is not None:
        context.sni_callback = lambda _socket, name, _context: asked(name)

    class Server(ThreadingHTTPServer):
        def get_request(self) -> tuple[Any, Any]:
            connection, address = super().get_request()
            connection.settimeout(20)
            return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

        def handle_error(self, *_: object) -> None:
            """A client that breaks off is what some tests are about."""

    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server.server_port, certificate
        finally:
            server.shutdown()


@contextmanager
def receiving(folder: Path, secrets: dict[str, str]) -> Iterator[tuple[int, Path, list[dict[str, Any]]]]:
    """Run the example; yield port, certificate and the messages that it accepts. `secrets` has its `secret`."""
    messages: list[dict[str, Any]] = []

    class Receiver(example().Receiver):  # type: ignore[misc]
        seen: set[str] = set()  # noqa: RUF012

        @property
        def secret(self) -> str:
            return secrets["secret"]

        def handle_message(self, message: dict[str, Any]) -> None:
            messages.append(message)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with tls_server(Receiver, folder) as (port, certificate):
        yield port, certificate, messages
