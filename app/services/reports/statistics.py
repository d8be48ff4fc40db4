"""The vendor's figures at one moment: cards, activations, requests and rejections."""

from collections import Counter
from datetime import date, datetime, time, timedelta
from itertools import chain
from typing import Any
from zoneinfo import ZoneInfo

from peewee import SQL, Case, fn

from app.domain.codes import CardStatus, Code, EventKind
from app.services.formatting import local
from app.storage.cards import expiry, of_program, status_is
from app.storage.journal import MAX_ENTRIES_PER_DAY, code_or_kind, codes_or_kinds
from app.storage.models import Card, Client, DailyCount, Event, Usage

DAYS = 14
EXPIRING_WITHIN = timedelta(days=7)
ONLINE_WITHIN = timedelta(minutes=15)
TOP = 10
Row = dict[str, Any]


def collect(now: datetime, zone: ZoneInfo, program: str | None = None) -> dict[str, Any]:
    """Return the figures of a program's cards, None for all, as JSON has them, from eight queries.

    Times are in ISO 8601 in the zone, days are YYYY-MM-DD in the zone:
      cards: {total, frozen, expired, active, unused}
      batches: {count, largest: [{batch, cards, frozen, expired, active, unused}]} the first `TOP`
      days: [{day, activations, requests}] the last `DAYS`, today last
      customers: {online, today, yesterday} cards with an accepted request, `online` active ones within `ONLINE_WITHIN`
      rejections: [{code, last_24_hours, last_7_days}] the most frequent first
      expiring: {count, first: [{id, expires_at, batch, note}]} within `EXPIRING_WITHIN`; the first `TOP`
      functions: [{function, requests}] of the last `DAYS`; the first `TOP`

    Usage is counted by the days of `zone`, the vendor's.
    """
    days = last_days(now, zone)
    activated = _entries_by_day([EventKind.ACTIVATED], datetime.combine(days[0], time(), zone), zone, program)
    activations = {day: count for day, _kind, count in activated}
    requests = _by_day(_sum(Usage.count), days[0], program)
    customers = _by_day(fn.COUNT(Usage.card.distinct()), days[-2], program)
    is_online = (Client.requested_at > now - ONLINE_WITHIN) & status_is(CardStatus.ACTIVE, now)
    return {
        **_batches(now, program),
        "days": [
            {"day": day.isoformat(), "activations": activations.get(day, 0), "requests": requests.get(day, 0)}
            for day in days
        ],
        "customers": {
            "online": Client.select().join(Card).where(is_online & of_program(Card.id, program)).count(),
            "today": customers.get(days[-1], 0),
            "yesterday": customers.get(days[-2], 0),
        },
        "rejections": _rejections(now, program),
        "expiring": _expiring(now, zone, program),
        "functions": _functions(days[0], program),
    }


def last_days(now: datetime, zone: ZoneInfo) -> list[date]:
    """Return the days that figures are of, today last."""
    today = now.astimezone(zone).date()
    return [today - timedelta(days=back) for back in reversed(range(DAYS))]


def _batches(now: datetime, program: str | None) -> dict[str, Row]:
    """Return the batches, which together are all cards. `batch` is None for the cards without one."""
    # Window functions count all batches in PostgreSQL: there may be as many batches as cards.
    in_state = [fn.COUNT(Case(None, [(status_is(status, now), 1)])) for status in CardStatus]
    of_all = [fn.COUNT(SQL("1")).over(), *(fn.SUM(count).over() for count in in_state)]
    query = (
        Card.select(*of_all, Card.batch, fn.COUNT(Card.id), *in_state)
        .where(of_program(Card.id, program))
        .group_by(Card.batch)
        .order_by(fn.COUNT(Card.id).desc(), Card.batch)
        .limit(TOP)
    )
    rows = list(query.tuples())
    states = [str(status) for status in CardStatus]
    batch_count, *totals = map(int, rows[0][: len(of_all)] if rows else [0] * len(of_all))
    largest = [dict(zip(("batch", "cards", *states), row[len(of_all) :], strict=True)) for row in rows]
    return {
        "cards": {"total": sum(totals), **dict(zip(states, totals, strict=True))},
        "batches": {"count": batch_count, "largest": largest},
    }


def _expiring(now: datetime, zone: ZoneInfo, program: str | None) -> Row:
    query = (
        Card.select(fn.COUNT(Card.id).over().alias("count"), Card.id, Card.expires_at, Card.batch, Card.note)
        .where(status_is(CardStatus.ACTIVE, now) & (expiry <= now + EXPIRING_WITHIN) & of_program(Card.id, program))
        .order_by(expiry, Card.id)
        .limit(TOP)
    )
    found = list(query.dicts())
    counts = [row.pop("count") for row in found]  # the same in each row
    first = [{**card, "expires_at": local(card["expires_at"], zone)} for card in found]
    return {"count": counts[0] if counts else 0, "first": first}


def _entries_by_day(names: list[str], since: datetime, zone: ZoneInfo, program: str | None, *where: Any) -> Any:  # noqa: ANN401  # peewee expressions
    """Return a query for a day of that zone, a code or kind of `names`, and how many entries of it the day has."""
    day = _day(Event.at, zone)
    query = Event.select(day, code_or_kind, fn.COUNT(Event.id))
    where += (of_program(Event.card_id, program),)
    return query.where(code_or_kind.in_(names) & (Event.at >= since), *where).group_by(day, code_or_kind).tuples()


def _rejections(now: datetime, program: str | None) -> list[Row]:
    """Return how often each code was the answer; what has no entry counts at the time of that day's last one."""
    yesterday, week = now - timedelta(hours=24), now - timedelta(days=7)
    entries = Event.select(Event.code.alias("code"), Event.at.alias("at"), SQL("1").alias("times")).where(
        code_or_kind.in_(codes_or_kinds(EventKind.REJECTED)) & (Event.at >= week), of_program(Event.card_id, program)
    )
    uncounted = DailyCount.select(DailyCount.kind, DailyCount.last_at, _beyond).where(
        _is_code & (DailyCount.day >= week.date() - timedelta(days=1)) & (DailyCount.last_at >= week),
        of_program(DailyCount.card_id, program),
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


def _functions(since: date, program: str | None) -> list[Row]:
    total = _sum(Usage.count)
    where = (Usage.day >= since) & of_program(Usage.card, program)
    query = Usage.select(Usage.function, total.alias("requests")).where(where).group_by(Usage.function)
    return list(query.order_by(total.desc(), Usage.function).limit(TOP).dicts())


def _by_day(counted: Any, since: date, program: str | None) -> dict[date, int]:  # noqa: ANN401  # a peewee expression
    where = (Usage.day >= since) & of_program(Usage.card, program)
    return dict(Usage.select(Usage.day, counted).where(where).group_by(Usage.day).tuples())


def by_customers(since: datetime, zone: ZoneInfo, program: str | None = None) -> dict[tuple[date, str], int]:
    """Return how often customers unbound or renewed a card by themselves, by day of that zone and kind."""
    # A renewal has a second entry, of the card that was used up.
    is_first = fn.JSONB_EXTRACT_PATH_TEXT(Event.details, "renewed").is_null()
    entries = _entries_by_day([EventKind.SELF_UNBOUND, EventKind.RENEWED], since, zone, program, is_first)
    return {(day, kind): count for day, kind, count in entries}


def rejections_by_day(since: datetime, zone: ZoneInfo, program: str | None = None) -> dict[date, dict[str, int]]:
    """Return how many rejections of each code there were on each day of that zone."""
    entries = _entries_by_day(codes_or_kinds(EventKind.REJECTED), since, zone, program)
    uncounted = (
        DailyCount.select(DailyCount.day, DailyCount.kind, _sum(_beyond))
        .where(_is_code & (DailyCount.day >= since.astimezone(zone).date()), of_program(DailyCount.card_id, program))
        .group_by(DailyCount.day, DailyCount.kind)
        .having(_sum(_beyond) > 0)
    )
    found: dict[date, Counter[str]] = {}
    for of_day, code, count in chain(entries, uncounted.tuples()):
        found.setdefault(of_day, Counter())[code] += count
    return {of_day: dict(counts) for of_day, counts in found.items()}


def expiring_by_day(now: datetime, until: datetime, zone: ZoneInfo, program: str | None = None) -> dict[date, int]:
    """Return how many active cards expire on each day of that zone."""
    day = _day(Card.expires_at, zone)
    where = status_is(CardStatus.ACTIVE, now) & (expiry < until) & of_program(Card.id, program)
    query = Card.select(day, fn.COUNT(Card.id)).where(where)
    return dict(query.group_by(day).tuples())


_is_code = DailyCount.kind.in_([str(code) for code in Code])
_entries = fn.COALESCE(fn.CARDINALITY(DailyCount.environments) / 2, fn.LEAST(DailyCount.count, MAX_ENTRIES_PER_DAY))
_beyond = DailyCount.count - _entries
"""How many of a day's rejections are not in the journal."""


def _day(at: Any, zone: ZoneInfo) -> Any:  # noqa: ANN401  # peewee expressions
    return fn.DATE(fn.TIMEZONE(zone.key, at))


def _sum(column: Any) -> Any:  # noqa: ANN401  # peewee expressions
    return fn.SUM(column).cast("bigint")  # of bigints PostgreSQL makes a numeric
