"""The webhooks of a database without its service, and a receiver that a test answers for."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.codes import EventKind
from app.domain.webhooks import Sent
from app.services.doctor import CheckResult
from app.services.webhook_collection import Collection
from app.services.webhook_delivery import Delivery
from app.services.webhooks import Message, Webhooks
from app.storage import journal
from app.storage.database import Database
from app.storage.models import Card
from tests.conftest import Clock
from tests.support.bound_cards import numbered_id
from tests.support.sealing import SEALING
from tests.support.service import wait_for

ZONE = ZoneInfo("Asia/Shanghai")
URL = "https://shop.example/hook"
OK = Sent(204, None)
_NOBODY_WRITES_ELSEWHERE = """
SELECT NOT EXISTS (
    SELECT FROM pg_stat_activity WHERE backend_xid IS NOT NULL
        AND (datname IS DISTINCT FROM current_database() OR backend_type = 'autovacuum worker')
)
"""


class Hooks:
    """The webhooks of a database, and a receiver that answers what a test says."""

    problems: dict[str, CheckResult]

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database, self.clock = database, clock
        self.owned = Webhooks(database, "tester", clock, SEALING)
        self.sent: list[tuple[str, Mapping[str, str], bytes]] = []
        self.answer = OK
        self.problems = {}
        self.collection = self.collection_of("a")
        self.delivery = Delivery(database, clock, SEALING, self.send)

    def collection_of(self, host: str) -> Collection:
        """What a host collects, which has `problems` when it looks."""
        return Collection(self.database, ZONE, self.clock, lambda: self.problems, host)

    def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        self.sent.append((url, headers, body))
        return self.answer

    def add(self, *topics: str, name: str = "shop") -> str:
        return self.owned.add(name, URL, topics or ("card.activated", "card.mismatch"))

    def add_with_message(self) -> None:
        """Add one, for which a message waits."""
        self.add()
        self.journal(self.card())
        self.collect()

    def collect(self) -> int:
        """Look until the present entries are settled."""
        return sum(self._collect_undisturbed() for _ in range(4))

    def _collect_undisturbed(self) -> int:
        """Look while no other database has a writing transaction, which would keep entries unsettled."""
        wait_for(lambda: self.database.execute_sql(_NOBODY_WRITES_ELSEWHERE).fetchone()[0])
        return self.collection.collect()

    def deliver(self) -> int:
        count = 0
        while self.delivery.deliver():
            count += 1
        return count

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.sent]

    def messages(self, name: str = "shop") -> tuple[Message, ...]:
        return self.owned.messages(self.owned.find(name))

    def message(self) -> Message:
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
