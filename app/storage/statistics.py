"""What the vendor counts: cards, activations, requests, rejections. Each function is one query."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from peewee import SQL, Case, fn

from app.domain.codes import CardStatus, EventKind
from app.storage.cards import expiry, status_is
from app.storage.journal import what, whats
from app.storage.models import Card, Event, Usage


class Batch(NamedTuple):
    """A batch, None for the cards without one, and how many of its cards are in each state."""

    batch: str | None
    cards: int
    statuses: dict[str, int]


class Batches(NamedTuple):
    """How many batches there are, how many cards of all of them are in each state, and the largest ones."""

    batch_count: int
    statuses: dict[str, int]
    largest: list[Batch]


class Rejections(NamedTuple):
    """How often the journal has a code."""

    code: str
    last_24_hours: int
    last_7_days: int


class Expiring(NamedTuple):
    """An active card whose time is nearly over."""

    id: str
    expires_at: datetime
    batch: str | None
    note: str | None


def batches(now: datetime, limit: int) -> Batches:
    """Return the batches, which together are all cards; `largest` are up to `limit` of them, the largest first."""
    # Counted here and now, since there may be as many batches as cards. Each row tells what is true of all of them.
    in_state = [_count(status_is(status, now)) for status in CardStatus]
    of_all = [fn.COUNT(SQL("1")).over(), *(fn.SUM(count).over() for count in in_state)]
    query = (
        Card.select(*of_all, Card.batch, fn.COUNT(Card.id), *in_state)
        .group_by(Card.batch)
        .order_by(fn.COUNT(Card.id).desc(), Card.batch)
        .limit(limit)
    )
    rows = list(query.tuples())
    batch_count, *totals = rows[0][: len(of_all)] if rows else [0] * len(of_all)
    largest = [
        Batch(batch, cards, _by_status(counts)) for batch, cards, *counts in (row[len(of_all) :] for row in rows)
    ]
    return Batches(batch_count, _by_status(map(int, totals)), largest)


def expiring(now: datetime, within: timedelta, limit: int) -> tuple[int, list[Expiring]]:
    """Return how many active cards expire within that time, and those that do first."""
    query = (
        Card.select(fn.COUNT(Card.id).over(), Card.id, Card.expires_at, Card.batch, Card.note)
        .where(status_is(CardStatus.ACTIVE, now) & (expiry <= now + within))
        .order_by(expiry, Card.id)
        .limit(limit)
    )
    found = list(query.tuples())
    return (found[0][0] if found else 0), [Expiring(*row) for _count_of_all, *row in found]


def activations(since: datetime, zone: ZoneInfo) -> dict[date, int]:
    """Return how many cards were activated on each day of that zone."""
    day = fn.DATE(fn.TIMEZONE(zone.key, Event.at))
    query = (
        Event.select(day, fn.COUNT(Event.id)).where((what == EventKind.ACTIVATED) & (Event.at >= since)).group_by(day)
    )
    return dict(query.tuples())


def rejections(now: datetime) -> list[Rejections]:
    """Return the codes of the last 7 days' journalled rejections, the most frequent first."""
    total = fn.COUNT(Event.id)
    query = (
        Event.select(Event.code, _count(Event.at >= now - timedelta(hours=24)), total)
        .where(what.in_(whats(EventKind.REJECTED)) & (Event.at >= now - timedelta(days=7)))
        .group_by(Event.code)
        .order_by(total.desc(), Event.code)
    )
    return [Rejections(*row) for row in query.tuples()]


def rejections_by_day(since: datetime, zone: ZoneInfo) -> dict[date, dict[str, int]]:
    """Return how many rejections of each code the journal has of each day of that zone."""
    day = fn.DATE(fn.TIMEZONE(zone.key, Event.at))
    query = (
        Event.select(day, Event.code, fn.COUNT(Event.id))
        .where(what.in_(whats(EventKind.REJECTED)) & (Event.at >= since))
        .group_by(day, Event.code)
    )
    found: dict[date, dict[str, int]] = {}
    for of_day, code, count in query.tuples():
        found.setdefault(of_day, {})[code] = count
    return found


def expiring_by_day(now: datetime, until: datetime, zone: ZoneInfo) -> dict[date, int]:
    """Return how many active cards expire on each day of that zone."""
    day = fn.DATE(fn.TIMEZONE(zone.key, Card.expires_at))
    query = (
        Card.select(day, fn.COUNT(Card.id)).where(status_is(CardStatus.ACTIVE, now) & (expiry < until)).group_by(day)
    )
    return dict(query.tuples())


def requests(since: date) -> dict[date, int]:
    """Return how many requests were accepted on each day."""
    query = Usage.select(Usage.day, _sum(Usage.count)).where(Usage.day >= since).group_by(Usage.day)
    return dict(query.tuples())


def functions(since: date, limit: int) -> list[tuple[str, int]]:
    """Return the functions that were used most, and how often."""
    query = (
        Usage.select(Usage.function, _sum(Usage.count))
        .where(Usage.day >= since)
        .group_by(Usage.function)
        .order_by(_sum(Usage.count).desc(), Usage.function)
        .limit(limit)
    )
    return list(query.tuples())


def _by_status(counts: Iterable[int]) -> dict[str, int]:
    return dict(zip(map(str, CardStatus), counts, strict=True))


def _count(condition: Any) -> Any:  # noqa: ANN401  # peewee expressions
    return fn.COUNT(Case(None, [(condition, 1)]))


def _sum(column: Any) -> Any:  # noqa: ANN401  # peewee expressions
    return fn.SUM(column).cast("bigint")  # of bigints PostgreSQL makes a numeric
