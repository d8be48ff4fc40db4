"""The webhooks of a database without its service, and a receiver that a test answers for."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.codes import EventKind
from app.domain.webhooks.webhooks import Sent
from app.services.webhooks import webhook_outbox
from app.services.webhooks.webhook_delivery import Delivery
from app.services.webhooks.webhooks import Webhooks
from app.storage import journal
from app.storage.database import Database
from app.storage.models import Card, WebhookOutbox
from tests.conftest import Clock
from tests.support.licence.bound_cards import numbered_id
from tests.support.sealing import SEALING

ZONE = ZoneInfo("Asia/Shanghai")
URL = "https://shop.example/hook"
OK = Sent(204, None)


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
        """An activated card."""
        now, card_id = self.clock.now, numbered_id(Card.select().count())
        expires_at = None if expires_in is None else now + expires_in
        begun = {"is_activated": True, "activated_at": now, "expires_at": expires_at}
        Card.insert(id=card_id, validity=expires_in, created_at=now, **begun).execute()
        return card_id

    def journal(self, card_id: str, kind: EventKind = EventKind.ACTIVATED, **more: Any) -> None:
        journal.append([journal.Entry(self.clock.now, kind, card_id=card_id, **more)])
