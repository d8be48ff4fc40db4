"""Collects what webhooks are told of: from the journal, the cards' expiries, the abuse report and the checks of health.

One process at a time collects, by a lock on a row. Nothing that causes a message waits for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app.clock import Clock
from app.domain.codes import Code, EventKind
from app.domain.webhooks import EXPIRING_WITHIN, MAX_WAITING, Topic
from app.services import abuse_report
from app.services.doctor import CheckResult, Status
from app.services.webhook_messages import about_card, document, row
from app.services.webhooks import new_message_id
from app.storage import host_reports, journal_lists, webhook_progress, webhooks
from app.storage.database import Database
from app.storage.models import Webhook

ROWS = 500
"""The entries and the cards that one look reads at most."""
CHECKED_EVERY = timedelta(minutes=10)
_JOURNALLED = {str(EventKind.ACTIVATED): Topic.ACTIVATED, str(Code.CLIENT_MISMATCH): Topic.MISMATCH}
_BY_HOST = "by_host"
"""The key of the stored problems, which is no check's name."""
Checks = Callable[[], Mapping[str, CheckResult]]
Problems = dict[str, dict[str, str]]
"""What a look found, by the name of the check."""


class Told(NamedTuple):
    """Something to tell: `source` names it, so that it is told once."""

    topic: Topic
    source: str
    at: datetime
    data: dict[str, Any]
    card_id: str | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """Collects for the webhooks of one database. `checks` are those of the installation's health, as `host` sees it."""

    database: Database
    zone: ZoneInfo
    clock: Clock
    checks: Checks
    host: str

    def collect(self) -> int:
        """Look at the journal and the cards once; return how many messages are new.

        Raises:
            UnavailableError: the database is away.
        """
        return self.database.with_connection(self._collect)

    def check(self) -> int:
        """Look at the abuse report and the checks, if it is time and no other process does; return as `collect`."""
        now = self.clock()
        if not self.database.with_connection(lambda: webhook_progress.take_turn(now, now - CHECKED_EVERY)):
            return 0
        wanted = {topic for each in self.database.with_connection(_active) for topic in each.topics}
        told = self._shared(now) if Topic.SHARED in wanted else []
        results = self.checks() if Topic.HEALTH in wanted else None

        def write() -> int:
            with self.database.atomic():
                held = webhook_progress.hold()
                if held is None:
                    return 0
                if results is None:
                    webhook_progress.keep(problems=None)
                    return self._enqueue(told)
                return self._enqueue(told + self._health(held.problems, _problems(results), now))

        return self.database.with_connection(write)

    def _collect(self) -> int:
        with self.database.atomic():
            held = webhook_progress.hold()
            if held is None:
                return 0
            # The horizon first: the entries of all transactions that had ended by then are visible.
            horizon = journal_lists.horizon(self.database)
            progress = webhook_progress.progress_of(held)
            upto = progress.readable(horizon.oldest_running)
            found = webhook_progress.entries(progress.position, upto, [*_JOURNALLED], ROWS) if upto else []
            position = found[-1].id if len(found) == ROWS else upto
            until = self.clock() + EXPIRING_WITHIN
            cards = webhook_progress.expiring(held.expiring_until, until, ROWS)
            if len(cards) == ROWS:  # all that expire at one moment, or those left out would never be told of
                until = cards[-1].expires_at
                cards = webhook_progress.expiring(held.expiring_until, until, MAX_WAITING)
            webhook_progress.keep(
                **progress.looked(position, *horizon)._asdict(), expiring_until=max(until, held.expiring_until)
            )
            return self._enqueue(self._journalled(found) + self._expiring(cards))

    def _journalled(self, found: list[Any]) -> list[Told]:
        cards = webhook_progress.cards_by_id([entry.card_id for entry in found])
        told = []
        for entry in found:
            data = about_card(entry.card_id, cards.get(entry.card_id), self.zone)
            if entry.reference is not None:
                data["reference"] = entry.reference
            topic = _JOURNALLED[entry.code or entry.kind]
            told.append(Told(topic, f"event:{entry.id}", entry.at, data, entry.card_id))
        return told

    def _expiring(self, cards: list[Any]) -> list[Told]:
        return [
            Told(
                Topic.EXPIRING,
                f"expiring:{card.id}:{card.expires_at.isoformat()}",
                self.clock(),
                about_card(card.id, card, self.zone),
                card.id,
            )
            for card in cards
        ]

    def _shared(self, now: datetime) -> list[Told]:
        found = abuse_report.shown_cards(self.database, now, self.zone)[:MAX_WAITING]
        cards = self.database.with_connection(lambda: webhook_progress.cards_by_id([each.card_id for each in found]))
        told = []
        for each in found:
            data = about_card(each.card_id, cards.get(each.card_id), self.zone)
            data |= {"last_24_hours": each.lately._asdict(), "last_7_days": each.whole._asdict()}
            told.append(Told(Topic.SHARED, f"shared:{each.card_id}", now, data, each.card_id))
        return told

    def _health(self, kept: dict[str, Any] | None, problems: Problems, now: datetime) -> list[Told]:
        """Keep this host's problems, and return what changed since it looked last.

        Another host may have others: of its functions, keys, files or clock.
        """
        by_host = _by_host(kept, self.host)
        before = by_host.get(self.host)
        hosts = {self.host, *(each.name for each in host_reports.listed())}
        present = {name: theirs for name, theirs in by_host.items() if name in hosts}
        webhook_progress.keep(problems={_BY_HOST: present | {self.host: problems}})
        if before is None or problems.keys() == before.keys():
            return []
        data: dict[str, Any] = {"problems": [*problems.values()], "resolved": sorted(before.keys() - problems)}
        if len(hosts) > 1:
            data["host"] = self.host
        return [Told(Topic.HEALTH, f"health:{now.isoformat()}", now, data)]

    def _enqueue(self, told: list[Told]) -> int:
        """Add messages for the webhooks that want them, as far as there is place for them."""
        if not told:
            return 0
        waiting, now, count = webhooks.waiting(), self.clock(), 0
        for webhook in _active():
            wanted = [each for each in told if each.topic in webhook.topics]
            room = max(0, MAX_WAITING - waiting.get(webhook.id, 0))
            rows = []
            for each in wanted[:room]:
                body = document(each.topic, each.at, each.data)
                rows.append(row(webhook.id, new_message_id(), each.source, each.topic, body, now, each.card_id))
            count += webhooks.enqueue(rows)
            if len(wanted) > room:
                webhooks.drop(webhook.id, len(wanted) - room)
        return count


def _active() -> list[Webhook]:
    return [webhook for webhook in webhooks.by_name() if webhook.paused_at is None]


def _by_host(kept: dict[str, Any] | None, host: str) -> dict[str, Problems]:
    """Return the problems kept, by host; those kept before there were several hosts count as this one's."""
    if kept is None:
        return {}
    found: dict[str, Problems] = kept.get(_BY_HOST, {host: kept})
    return found


def _problems(results: Mapping[str, CheckResult]) -> Problems:
    return {
        name: {"check": name, "status": result.status, "zh": result.message_zh, "en": result.message_en}
        for name, result in results.items()
        if result.status is not Status.OK
    }
