"""Counts of cards, activations, requests and rejections. Each function is one query."""

from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from peewee import SQL, Case, fn

from app.domain.codes import CardStatus, Code, EventKind
from app.storage.cards import expiry, status_is
from app.storage.journal import MAX_ENTRIES_PER_DAY, code_or_kind, codes_or_kinds
from app.storage.models import Card, Client, DailyCount, Event, Usage

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


def by_customers(since: datetime, zone: ZoneInfo) -> dict[date, dict[str, int]]:
    """Return how often customers unbound or renewed a card by themselves, by day of that zone and kind."""
    # A renewal has a second entry, of the card that was used up.
    is_first = fn.JSONB_EXTRACT_PATH_TEXT(Event.details, "renewed").is_null()
    day = fn.DATE(fn.TIMEZONE(zone.key, Event.at))
    query = (
        Event.select(day, Event.kind, fn.COUNT(Event.id))
        .where(code_or_kind.in_((EventKind.SELF_UNBOUND, EventKind.RENEWED)) & (Event.at >= since) & is_first)
        .group_by(day, Event.kind)
    )
    found: dict[date, dict[str, int]] = {}
    for of_day, kind, count in query.tuples():
        found.setdefault(of_day, {})[kind] = count
    return found


def rejections(now: datetime) -> list[Row]:
    """Return the codes of the last 7 days' rejections, the most frequent first.

    A row is {code, last_24_hours, last_7_days}. What the journal has no entry of, since a card repeated it or had too
    many of a day, counts at the time of that day's last one.
    """
    yesterday, week = now - timedelta(hours=24), now - timedelta(days=7)
    entries = Event.select(Event.code.alias("code"), Event.at.alias("at"), SQL("1").alias("times")).where(
        code_or_kind.in_(codes_or_kinds(EventKind.REJECTED)) & (Event.at >= week)
    )
    uncounted = DailyCount.select(DailyCount.kind, DailyCount.last_at, _beyond).where(
        _is_code & (DailyCount.day >= week.date() - timedelta(days=1)) & (DailyCount.last_at >= week)
    )
    all_ = entries.union_all(uncounted)
    total = _sum(all_.c.times)
    lately = _sum(Case(None, [(all_.c.at >= yesterday, all_.c.times)], 0))
    query = (
        all_.select_from(all_.c.code, lately.alias("last_24_hours"), total.alias("last_7_days"))
        .group_by(all_.c.code)
        .order_by(total.desc(), all_.c.code)
    )
    return list(query.dicts())


def rejections_by_day(since: datetime, zone: ZoneInfo) -> dict[date, dict[str, int]]:
    """Return how many rejections of each code there were on each day of that zone."""
    day = fn.DATE(fn.TIMEZONE(zone.key, Event.at))
    query = (
        Event.select(day, Event.code, fn.COUNT(Event.id))
        .where(code_or_kind.in_(codes_or_kinds(EventKind.REJECTED)) & (Event.at >= since))
        .group_by(day, Event.code)
    )
    uncounted = (
        DailyCount.select(DailyCount.day, DailyCount.kind, _sum(_beyond))
        .where(_is_code & (DailyCount.day >= since.astimezone(zone).date()))
        .group_by(DailyCount.day, DailyCount.kind)
        .having(_sum(_beyond) > 0)
    )
    found: dict[date, Counter[str]] = {}
    for of_day, code, count in chain(query.tuples(), uncounted.tuples()):
        found.setdefault(of_day, Counter())[code] += count
    return {of_day: dict(counts) for of_day, counts in found.items()}


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


def customers(since: date) -> dict[date, int]:
    """Return how many cards were used on each day."""
    query = Usage.select(Usage.day, fn.COUNT(Usage.card.distinct())).where(Usage.day >= since).group_by(Usage.day)
    return dict(query.tuples())


def online(now: datetime, within: timedelta) -> int:
    """Return how many active cards' last accepted request came within that time."""
    is_recent = Client.requested_at > now - within
    count: int = Client.select().join(Card).where(is_recent & status_is(CardStatus.ACTIVE, now)).count()
    return count


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


_is_code = DailyCount.kind.in_([str(code) for code in Code])
_entries = fn.COALESCE(fn.CARDINALITY(DailyCount.environments) / 2, fn.LEAST(DailyCount.count, MAX_ENTRIES_PER_DAY))
_beyond = DailyCount.count - _entries
"""How many of a day's rejections are not in the journal."""


def _by_status(counts: Iterable[int]) -> dict[str, int]:
    return dict(zip(map(str, CardStatus), counts, strict=True))


def _count(condition: Any) -> Any:  # noqa: ANN401  # peewee expressions
    return fn.COUNT(Case(None, [(condition, 1)]))


def _sum(column: Any) -> Any:  # noqa: ANN401  # peewee expressions
    return fn.SUM(column).cast("bigint")  # of bigints PostgreSQL makes a numeric
