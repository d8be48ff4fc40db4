"""The journal in long lists, newest first, each by an index (migration 0003)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import and_
from typing import Any, NamedTuple

from peewee import JOIN, SQL, Desc, Select, Tuple, Value, fn

from app.domain.codes import Code, EventKind
from app.domain.operators import SHOP_ACTOR
from app.storage.journal import what, whats
from app.storage.models import Event, database
from app.storage.paging import Cursor

PAGE_ROWS = 1_000
MOST_LOOKED = 2_000
"""So many entries are looked at at once for several texts that each have more."""
_ID_DIGITS = 18  # what a bigint surely holds
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class _Place(NamedTuple):
    at: datetime
    id: int


@dataclass(frozen=True, slots=True)
class JournalFilter:
    """Which entries a list has; None means any.

    `kind` is a kind of event or a code of rejection; `network` an address as `app.domain.addresses.network_of` writes
    it (`read_network` there reads what people type); `since` is included, `until` is not; all texts are whole.
    """

    kind: EventKind | Code | None = None
    card_id: str | None = None
    hardware: str | None = None
    network: str | None = None
    actor: str | None = None
    reference: str | None = None
    function: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def page(wanted: JournalFilter, after: Cursor | None = None, *, limit: int, backwards: bool = False) -> list[Event]:
    """Return up to `limit` entries, newest first, those that follow `after`; `backwards`: those that go before it."""
    stretch, named = _stretch(wanted, after, backwards=backwards), _named(wanted)
    if wanted.reference is None and (wanted.kind is not None or named):
        where = reduce(and_, named, _exactly(wanted))
        nearest = _nearest_of_each(whats(wanted.kind), where, stretch, limit, rising=backwards)
        ids = Select((nearest,), (nearest.c.id,))
    else:
        where = reduce(and_, named, stretch.holds()) & _exactly(wanted)
        if wanted.reference is not None:
            where &= (Event.reference == wanted.reference) & what.in_(whats(wanted.kind))
        ids = Event.select(Event.id).where(where).order_by(*_order(Event.at, Event.id, rising=backwards)).limit(limit)
    return list(Event.select().where(Event.id.in_(ids)).order_by(*_order(Event.at, Event.id, rising=False)))


class Looked(NamedTuple):
    """A page, and where the look ended before all was looked at: the next one goes on from there."""

    rows: list[Event]
    ended_at: Cursor | None


def look(wanted: JournalFilter, after: Cursor | None = None, *, limit: int, backwards: bool = False) -> Looked:
    """Return a page as `page` does, in bounded time.

    No index has the entries of several texts together: those of one are looked through, the first that has few. Where
    each has more than `MOST_LOOKED` in the list, only so many are.
    """
    named = _named(wanted)
    if wanted.reference is not None or len(named) < 2:  # noqa: PLR2004  # several
        return Looked(page(wanted, after, limit=limit, backwards=backwards), None)
    stretch, names, places = _stretch(wanted, after, backwards=backwards), whats(wanted.kind), []
    for text in named:
        of_text = _nearest_of_each(names, text, stretch, MOST_LOOKED + 1, rising=backwards)
        places = list(Select((of_text,), (of_text.c.id, of_text.c.at)).bind(database).tuples())
        if len(places) <= MOST_LOOKED:
            break
    # By their numbers: within one query the planner may walk through the journal, and look for each entry among these.
    is_looked_at = Event.id == fn.ANY(Value([event_id for event_id, _at in places[:MOST_LOOKED]], unpack=False))
    hits = Event.select().where(is_looked_at & reduce(and_, named, _exactly(wanted)))
    hits = list(hits.order_by(*_order(Event.at, Event.id, rising=backwards)).limit(limit))
    ended_at = None
    if len(places) > MOST_LOOKED and len(hits) < limit:
        event_id, at = places[MOST_LOOKED - 1]
        ended_at = Cursor(at, str(event_id))
    return Looked(hits[::-1] if backwards else hits, ended_at)


def issued_by_hand(limit: int) -> list[Event]:
    """Return the newest entries of issues that operators made: no shop's."""
    by_hand = ~fn.starts_with(Event.actor, SHOP_ACTOR)  # as the index event_issued_by_hand says
    query = Event.select().where((Event.kind == EventKind.ISSUED) & by_hand)
    return list(query.order_by(*_order(Event.at, Event.id, rising=False)).limit(limit))


def cursor(event: Event) -> Cursor:
    """Return an entry's place in every list."""
    return Cursor(event.at, str(event.id))


def every(wanted: JournalFilter) -> Iterator[Event]:
    """Yield the whole list, page by page, without holding it."""
    after: Cursor | None = None
    while True:
        entries, ended_at = look(wanted, after, limit=PAGE_ROWS)
        yield from entries
        if len(entries) < PAGE_ROWS and ended_at is None:
            return
        after = ended_at or cursor(entries[-1])


class _Stretch(NamedTuple):
    """The part of a list between two places, without these."""

    low: _Place
    high: _Place

    def holds(self, *before: tuple[Any, Any]) -> Any:  # noqa: ANN401  # peewee's
        """Return the condition for an entry to lie there, after columns that stand before the place in an index."""
        columns, values = zip(*before, strict=True) if before else ((), ())
        place = Tuple(*columns, Event.at, Event.id)
        return (place > Tuple(*values, *self.low)) & (place < Tuple(*values, *self.high))


def _stretch(wanted: JournalFilter, after: Cursor | None, *, backwards: bool) -> _Stretch:
    low = _Place(wanted.since or _FIRST, 0)  # IDs begin with 1
    high = _Place(wanted.until or _LAST, 0)
    if after is None:
        return _Stretch(low, high)
    # A cursor stands in an address: anybody may write another ID there.
    mark = _Place(after.at or _LAST, int(after.id) if after.id.isdecimal() and len(after.id) <= _ID_DIGITS else 0)
    return _Stretch(max(low, mark), high) if backwards else _Stretch(low, min(high, mark))


def _nearest_of_each(names: list[str], where: Any, stretch: _Stretch, limit: int, *, rising: bool) -> Any:  # noqa: ANN401
    """Return a table of the first places, `id` and `at`, of those that each name has.

    Each name is a range of one index. It is compared together with the place, and not by itself: else the planner takes
    the index of the time alone, and reads the whole journal for a code that has become rare. Nor does the planner see
    the names (`unnest` keeps them from it): it would take a range within the first of all for empty.
    """
    each = fn.unnest(Value(names, unpack=False)).alias("each")
    nearest = (
        Event.select(Event.id, Event.at)
        .where(where & stretch.holds((what, SQL('"each"'))))
        .order_by(*_order(what, Event.at, Event.id, rising=rising))
        .limit(limit)
        .alias("nearest")
    )
    query = Select((each,), (nearest.c.id, nearest.c.at)).join(nearest, JOIN.LATERAL)
    return query.order_by(*_order(nearest.c.at, nearest.c.id, rising=rising)).limit(limit).alias("first")


def _order(*keys: Any, rising: bool) -> tuple[Any, ...]:  # noqa: ANN401  # peewee's
    return keys if rising else tuple(Desc(key) for key in keys)


def _named(wanted: JournalFilter) -> list[Any]:
    """Return the conditions for what stands before `what` in an index each."""
    columns = (Event.card_id, Event.ip_network, Event.actor, Event.function)
    values = (wanted.card_id, wanted.network, wanted.actor, wanted.function)
    named = [column == value for column, value in zip(columns, values, strict=True) if value is not None]
    if wanted.hardware is not None:
        # Up to 1,024 characters are more than an index holds.
        named.append(fn.hashtextextended(Event.hardware, SQL("0")) == fn.hashtextextended(wanted.hardware, SQL("0")))
    return named


def _exactly(wanted: JournalFilter) -> Any:  # noqa: ANN401  # peewee's
    """Return the condition that is left to look at in each entry: the index of hardware has only a hash of it."""
    return SQL("true") if wanted.hardware is None else Event.hardware == wanted.hardware
