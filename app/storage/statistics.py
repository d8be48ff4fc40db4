"""Counts of cards, activations, requests and rejections. Each function is one query."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from peewee import SQL, Case, fn

from app.domain.codes import CardStatus, EventKind
from app.storage.cards import expiry, status_is
from app.storage.journal import code_or_kind, codes_or_kinds
from app.storage.models import Card, Event, Usage

Row = dict[str, Any]


class Batches(NamedTuple):
    """How many batches there are, how many cards of all of them are in each state, and the largest batches.

    A batch is {batch, cards, frozen, expired, active, unused}; `batch` is None for the cards without one.
    """

    batch_count: int
    statuses: dict[str, int]
    largest: list[Row]


def batches(now: datetime, limit: int) -> Batches:
    """Return the batches, which together are all cards; `largest` are up to `limit` of them, the largest first."""
    # Window functions count all batches in PostgreSQL: there may be as many batches as cards.
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
        {"batch": batch, "cards": cards, **_by_status(counts)}
        for batch, cards, *counts in (row[len(of_all) :] for row in rows)
    ]
    return Batches(batch_count, _by_status(map(int, totals)), largest)


def expiring(now: datetime, within: timedelta, limit: int) -> tuple[int, list[Row]]:
    """Return how many active cards expire within that time, and the first to: {id, expires_at, batch, note}."""
    query = (
        Card.select(fn.COUNT(Card.id).over().alias("count"), Card.id, Card.expires_at, Card.batch, Card.note)
        .where(status_is(CardStatus.ACTIVE, now) & (expiry <= now + within))
        .order_by(expiry, Card.id)
        .limit(limit)
    )
    found = list(query.dicts())
    counts = [row.pop("count") for row in found]  # the same in each row
    return (counts[0] if counts else 0), found


def activations(since: datetime, zone: ZoneInfo) -> dict[date, int]:
    """Return how many cards were activated on each day of that zone."""
    day = fn.DATE(fn.TIMEZONE(zone.key, Event.at))
    query = (
        Event.select(day, fn.COUNT(Event.id))
        .where((code_or_kind == EventKind.ACTIVATED) & (Event.at >= since))
        .group_by(day)
    )
    return dict(query.tuples())


def rejections(now: datetime) -> list[Row]:
    """Return the codes of the last 7 days' journalled rejections, the most frequent first.

    A row is {code, last_24_hours, last_7_days}.
    """
    total, lately = fn.COUNT(Event.id), _count(Event.at >= now - timedelta(hours=24))
    query = (
        Event.select(Event.code, lately.alias("last_24_hours"), total.alias("last_7_days"))
        .where(code_or_kind.in_(codes_or_kinds(EventKind.REJECTED)) & (Event.at >= now - timedelta(days=7)))
        .group_by(Event.code)
        .order_by(total.desc(), Event.code)
    )
    return list(query.dicts())


def rejections_by_day(since: datetime, zone: ZoneInfo) -> dict[date, dict[str, int]]:
    """Return how many rejections of each code the journal has of each day of that zone."""
    day = fn.DATE(fn.TIMEZONE(zone.key, Event.at))
    query = (
        Event.select(day, Event.code, fn.COUNT(Event.id))
        .where(code_or_kind.in_(codes_or_kinds(EventKind.REJECTED)) & (Event.at >= since))
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


def functions(since: date, limit: int) -> list[Row]:
    """Return the functions that were used most: {function, requests}."""
    query = (
        Usage.select(Usage.function, _sum(Usage.count).alias("requests"))
        .where(Usage.day >= since)
        .group_by(Usage.function)
        .order_by(_sum(Usage.count).desc(), Usage.function)
        .limit(limit)
    )
    return list(query.dicts())


def _by_status(counts: Iterable[int]) -> dict[str, int]:
    return dict(zip(map(str, CardStatus), counts, strict=True))


def _count(condition: Any) -> Any:  # noqa: ANN401  # peewee expressions
    return fn.COUNT(Case(None, [(condition, 1)]))


def _sum(column: Any) -> Any:  # noqa: ANN401  # peewee expressions
    return fn.SUM(column).cast("bigint")  # of bigints PostgreSQL makes a numeric
