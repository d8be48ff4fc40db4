"""Webhooks of a database without its service, and receivers: a test's own answers, or the example on HTTPS."""

import importlib.util
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.codes import EventKind
from app.domain.webhooks import Sent
from app.services.webhooks import webhook_outbox
from app.services.webhooks.webhook_delivery import Delivery
from app.services.webhooks.webhooks import Webhooks
from app.storage import journal
from app.storage.database import Database
from app.storage.models import Card, WebhookOutbox
from tests.conftest import Clock
from tests.support.licence.bound_cards import numbered_id
from tests.support.secrets import SEALING
from tests.support.services.pki import Issued

EXAMPLE = Path(__file__).parents[2] / "examples" / "webhooks" / "receive.py"
ZONE = ZoneInfo("Asia/Shanghai")
URL = "https://shop.example/hook"
OK = Sent(204, None)


def example() -> ModuleType:
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


class Hooks:
    """The webhooks of a database, and a receiver that answers what a test says."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database, self.clock = database, clock
        self.owned = Webhooks(database, "tester", clock, SEALING)
        self.sent: list[tuple[str, Mapping[str, str], bytes]] = []
        self.answer = OK
        self.delivery = Delivery(database, ZONE, clock, SEALING, self.send)

    def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        self.sent.append((url, headers, body))
        return self.answer

    def add(self, *topics: str, name: str = "shop") -> str:
        return self.owned.add(name, URL, topics or ("card.activated", "card.mismatch"))

    def add_with_message(self) -> None:
        """Add one, for which a message waits."""
        self.add()
        self.journal(self.card())

    def tell(self) -> int:
        """Run the periodic tasks; return how many messages are new."""
        before = int(WebhookOutbox.select().count())
        webhook_outbox.enqueue_expiring(self.database, self.clock.now)
        webhook_outbox.enqueue_shared(self.database, ZONE, self.clock.now)
        return int(WebhookOutbox.select().count()) - before

    def deliver(self) -> int:
        before = len(self.sent)
        self.delivery.turn()
        return len(self.sent) - before

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.sent]

    def messages(self, name: str = "shop") -> Sequence[WebhookOutbox]:
        return self.owned.messages(self.owned.find(name))

    def message(self) -> WebhookOutbox:
        (found,) = self.messages()
        return found

    def card(self, *, expires_in: timedelta | None = timedelta(days=30)) -> str:
        now, card_id = self.clock.now, numbered_id(Card.select().count())
        expires_at = None if expires_in is None else now + expires_in
        begun = {"is_activated": True, "activated_at": now, "expires_at": expires_at}
        Card.insert(id=card_id, validity=expires_in, created_at=now, **begun).execute()
        return card_id

    def journal(self, card_id: str, kind: EventKind = EventKind.ACTIVATED, **more: Any) -> None:
        journal.append([journal.Entry(self.clock.now, kind, card_id=card_id, **more)])
