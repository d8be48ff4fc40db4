"""Lists of the journal, newest first: filtered, page by page or whole, each read by an index (migration 0003)."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial, reduce
from operator import and_
from typing import Any, NamedTuple

from peewee import JOIN, SQL, Desc, Select, Tuple, Value, fn

from app.domain.codes import Code, EventKind
from app.domain.operators.operators import SHOP_ACTOR, Role, console_actor
from app.domain.programs import MAIN
from app.domain.texts import Text
from app.services.paging import PageRequest, Slice, read_slice
from app.storage import journal
from app.storage.journal import MAX_REFUSALS_PER_MINUTE, MAX_REFUSED_HARDWARE, code_or_kind, codes_or_kinds
from app.storage.models import Card, Event, Operator, database
from app.storage.paging import Cursor

MAX_LOOKED = 2_000
"""The number of entries that one page looks at for what several texts have in common."""
MAX_ENTRIES_PER_DAY = journal.MAX_ENTRIES_PER_DAY
NO_SUCH_REFERENCE = Text(
    f"日志中没有这个参考号：请求已被接受，同一地址的拒绝一分钟超过 {MAX_REFUSALS_PER_MINUTE} 条，"
    f"同一卡密的同类拒绝一天超过 {MAX_ENTRIES_PER_DAY} 条（卡密的页面与 card show 有次数），或已过期清理",
    "The journal has no such reference: the request was accepted, or its address had more than "
    f"{MAX_REFUSALS_PER_MINUTE} refusals in a minute, or its card more than {MAX_ENTRIES_PER_DAY} of the kind in a day "
    "(the card's page and card show count them), or the entry was pruned",
)
_PAGE_ROWS = 1_000
_NAMING_CARDS = ("moved_to", "with", "renewed")
"""The details that are cards."""
_ID_DIGITS = 18  # a bigint holds any number of so many digits
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_Stretch = tuple[tuple[datetime, int], tuple[datetime, int]]
"""The part of a list between two places, without these: the time and the ID of each."""


@dataclass(frozen=True, slots=True)
class JournalFilter:
    """Which entries a list has; None means any.

    `kind` is a kind of event or a code of rejection. `network` is an address as `app.domain.addresses.network_of`
    writes it. `card_text` is the text that names the card where it is no card ID: it stands in entries of the time when
    there was no such card. `since` is included, `until` is not. All texts are compared whole. An entry is of its card's
    `program`, else of the one that it names, else of `main`.
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
    card_text: str | None = None
    program: str | None = None


class Entries(NamedTuple):
    """Rows of a list, and the last place that was looked at if the reading stopped before the end of the list."""

    rows: list[Event]
    stopped_at: Cursor | None = None


def page_for(reader: Operator, wanted: JournalFilter, request: PageRequest) -> Slice[Event]:
    """Return a page of a list; a seller's names a card or a reference, or has what the seller did."""
    if reader.role != Role.OWNER and wanted.card_id is None and wanted.reference is None:
        # Entries of their name may be older than they are: of a former operator.
        since = max(wanted.since or reader.created_at, reader.created_at)
        wanted = replace(wanted, actor=console_actor(reader.name), since=since)
    return read_slice(request, partial(page, wanted), cursor)


def every(wanted: JournalFilter) -> Iterator[Event]:
    """Yield the whole list, read page by page."""
    after: Cursor | None = None

    while True:
        rows, stopped_at = page(wanted, after, limit=_PAGE_ROWS)
        yield from rows
        if len(rows) < _PAGE_ROWS and stopped_at is None:
            return
        after = stopped_at or cursor(rows[-1])


def rejection_first(events: Iterable[Event]) -> list[Event]:
    """Return a reference's entries with the rejection first: a move and a block that followed name it, too."""
    return sorted(events, key=lambda event: event.code is None)


def cards_of(events: Iterable[Event]) -> list[str | None]:
    """Return the cards of entries, and those that their details name."""
    return [
        card_id
        for event in events
        for card_id in (event.card_id, *((event.details or {}).get(name) for name in _NAMING_CARDS))
    ]


def page(
    wanted: JournalFilter, after: Cursor | None = None, *, limit: int | None = None, backwards: bool = False
) -> Entries:
    """Return up to `limit` entries that follow `after`, newest first; `backwards`: those before it, in that order.

    Takes bounded time: a filter by several texts reads on where it stopped, at `stopped_at`.
    """
    stretch, named = _stretch(wanted, after, backwards=backwards), _named(wanted)
    if wanted.reference is None and (len(named) > 1 or wanted.program is not None):
        return _by_pieces(wanted, stretch, named, limit, backwards=backwards)
    if wanted.reference is None and (wanted.kind is not None or named):
        where = reduce(and_, named, _exactly(wanted))
        nearest = _nearest_of_each(codes_or_kinds(wanted.kind), where, stretch, limit, rising=backwards)
        ids = Select((nearest,), (nearest.c.id,))
    else:
        where = matches(wanted) & _is_within(stretch)
        ids = Event.select(Event.id).where(where).order_by(*_order(Event.at, Event.id, rising=backwards)).limit(limit)
    return Entries(list(Event.select().where(Event.id.in_(ids)).order_by(*_order(Event.at, Event.id, rising=False))))


def matches(wanted: JournalFilter) -> Any:  # noqa: ANN401  # a peewee expression
    """Return the condition for the entries of a list, whatever their time."""
    found = reduce(and_, _named(wanted), _exactly(wanted))
    if wanted.reference is not None:
        found &= Event.reference == wanted.reference
    if wanted.kind is not None:
        found &= code_or_kind.in_(codes_or_kinds(wanted.kind))
    return found


def _by_pieces(
    wanted: JournalFilter, stretch: _Stretch, named: list[Any], limit: int | None, *, backwards: bool
) -> Entries:
    """Look for entries that several texts have in common, for which there is no index.

    The entries of one text are looked through: the first text that has at most `MAX_LOOKED`, else so many of the last;
    without a text, for a program, so many of all.
    """
    names, places = codes_or_kinds(wanted.kind), []
    for text in named or [SQL("true")]:
        of_text = _nearest_of_each(names, text, stretch, MAX_LOOKED + 1, rising=backwards)
        places = list(Select((of_text,), (of_text.c.id, of_text.c.at)).bind(database).tuples())
        if len(places) <= MAX_LOOKED:
            break
    # By their IDs: within one query the planner may walk through the journal, and look for each entry among these.
    is_looked_at = Event.id == fn.ANY(Value([event_id for event_id, _at in places[:MAX_LOOKED]], unpack=False))
    hits = Event.select().where(is_looked_at & reduce(and_, named, _exactly(wanted)))
    hits = list(hits.order_by(*_order(Event.at, Event.id, rising=backwards)).limit(limit))
    stopped_at = None
    if len(places) > MAX_LOOKED and (limit is None or len(hits) < limit):
        event_id, at = places[MAX_LOOKED - 1]
        stopped_at = Cursor(at, str(event_id))
    return Entries(hits[::-1] if backwards else hits, stopped_at)


def issued_by_hand(limit: int) -> list[Event]:
    """Return the newest entries of issues that operators made: no shop's."""
    by_hand = ~fn.starts_with(Event.actor, SHOP_ACTOR)  # as the index event_issued_by_hand says
    query = Event.select().where((Event.kind == EventKind.ISSUED) & by_hand)
    return list(query.order_by(*_order(Event.at, Event.id, rising=False)).limit(limit))


def cursor(event: Event) -> Cursor:
    """Return an entry's place in every list."""
    return Cursor(event.at, str(event.id))


def _is_within(stretch: _Stretch, *before: tuple[Any, Any]) -> Any:  # noqa: ANN401  # peewee's
    """Return the condition for an entry to lie there, after columns that stand before the place in an index."""
    columns, values = zip(*before, strict=True) if before else ((), ())
    place, (low, high) = Tuple(*columns, Event.at, Event.id), stretch
    return (place > Tuple(*values, *low)) & (place < Tuple(*values, *high))


def _stretch(wanted: JournalFilter, after: Cursor | None, *, backwards: bool) -> _Stretch:
    low, high = (wanted.since or _FIRST, 0), (wanted.until or _LAST, 0)  # IDs begin with 1
    if after is None:
        return low, high
    # A cursor stands in an address: anybody may write another ID there.
    mark = (after.at or _LAST, int(after.id) if after.id.isdecimal() and len(after.id) <= _ID_DIGITS else 0)
    return (max(low, mark), high) if backwards else (low, min(high, mark))


def _nearest_of_each(names: list[str], where: Any, stretch: _Stretch, limit: int | None, *, rising: bool) -> Any:  # noqa: ANN401
    """Return a table of the first places, `id` and `at`, of those that each name has.

    Each name is a range of one index. It is compared together with the place, and not by itself: else the planner takes
    the index of the time alone, and reads the whole journal for a code that has become rare. Nor does the planner see
    the names (`unnest` keeps them from it): it would take a range within the first of all for empty.
    """
    each = fn.unnest(Value(names, unpack=False)).alias("each")
    nearest = (
        Event.select(Event.id, Event.at)
        .where(where & _is_within(stretch, (code_or_kind, SQL('"each"'))))
        .order_by(*_order(code_or_kind, Event.at, Event.id, rising=rising))
        .limit(limit)
        .alias("nearest")
    )
    query = Select((each,), (nearest.c.id, nearest.c.at)).join(nearest, JOIN.LATERAL)
    return query.order_by(*_order(nearest.c.at, nearest.c.id, rising=rising)).limit(limit).alias("first")


def _order(*keys: Any, rising: bool) -> tuple[Any, ...]:  # noqa: ANN401  # peewee's
    return keys if rising else tuple(Desc(key) for key in keys)


def _named(wanted: JournalFilter) -> list[Any]:
    """Return the conditions for what stands before `code_or_kind` in an index each."""
    columns = (Event.ip_network, Event.actor, Event.function)
    values = (wanted.network, wanted.actor, wanted.function)
    texts = [text for text in (wanted.card_id, wanted.card_text) if text is not None]
    named = [Event.card_id.in_(texts)] if texts else []
    named += [column == value for column, value in zip(columns, values, strict=True) if value is not None]
    if wanted.hardware is not None:
        # Up to 1,024 characters are more than an index holds.
        forms = {wanted.hardware, wanted.hardware[:MAX_REFUSED_HARDWARE]}
        hashes = [fn.hashtextextended(form, SQL("0")) for form in forms]
        named.append(fn.hashtextextended(Event.hardware, SQL("0")).in_(hashes))
    return named


def _exactly(wanted: JournalFilter) -> Any:  # noqa: ANN401  # peewee's
    """Return what is left to look at in each entry: no index has its program, or more of hardware than a hash."""
    exactly = SQL("true")
    if wanted.program is not None:
        of_card = Card.select(Card.program).where(Card.id == Event.card_id)
        named = fn.JSONB_EXTRACT_PATH_TEXT(Event.details, "program")
        exactly &= fn.COALESCE(of_card, named, MAIN) == wanted.program
    if wanted.hardware is not None:
        digest = hashlib.sha256(wanted.hardware.encode()).hexdigest()
        exactly &= (Event.hardware == wanted.hardware) | (journal.hardware_sha256 == digest)
    return exactly
