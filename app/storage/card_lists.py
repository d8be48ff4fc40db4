"""Cards in long lists: filtered, found, each list in an order that an index has (migration 0003)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

from peewee import JOIN, SQL, Desc, Select, Tuple, fn

from app.domain.codes import CardStatus
from app.storage import card_search
from app.storage.cards import expiry, of_batch, status_is
from app.storage.key_masking import Seller
from app.storage.models import Card, Client, database
from app.storage.paging import Cursor

Row = tuple[Card, Client | None]
PAGE_ROWS = 1_000
MOST_SEARCHED = 10_000
"""So many cards of a list are looked at for a text that says too little."""


@dataclass(frozen=True, slots=True)
class CardFilter:
    """Which cards a list has; None means any.

    `batch` is a whole name, the empty one for cards without a batch. `note` is contained in the card's. `expires_from`
    is included, `expires_before` is not; with either there are only activated cards, permanent ones among them where
    `expires_before` is None. `ids` are the cards that a text finds (`search`).
    """

    status: CardStatus | None = None
    batch: str | None = None
    note: str | None = None
    expires_from: datetime | None = None
    expires_before: datetime | None = None
    ids: tuple[str, ...] | None = None

    @property
    def is_by_expiry(self) -> bool:
        """Whether the list is in the order of expiry, permanent cards last; by birth, newest first, else."""
        of_a_time = self.expires_from is not None or self.expires_before is not None
        return of_a_time or self.status in (CardStatus.ACTIVE, CardStatus.EXPIRED)


class Searched(NamedTuple):
    """A filter with the cards that a text finds; these are only some of them unless `is_whole`."""

    wanted: CardFilter
    is_whole: bool


class _Order(NamedTuple):
    key: Any
    descending: bool


def search(wanted: CardFilter, text: str | None, now: datetime, seller: Seller | None = None) -> Searched:
    """Look a text up once for all pages of a list; None finds everything.

    A text that says too little is looked for in the first `MOST_SEARCHED` cards of the list, and finds up to
    `MOST_HITS` of these.

    Args:
        wanted: What else the list is filtered by.
        text: A card's ID, a bound machine's hardware or address, each whole or its beginning, or the reference of a
            message that a customer got.
        now: The time, aware.
        seller: Who looks, where not all keys are theirs to find.
    """
    if text is None:
        return Searched(wanted, is_whole=True)
    ids, broad = card_search.find(text, seller)
    is_whole = True
    if broad:
        listed = count_at_most(wanted, now, MOST_SEARCHED + 1)
        hits = _first_hits(wanted, now, reduce(or_, broad)) if listed else []
        is_whole = listed <= MOST_SEARCHED and len(hits) <= card_search.MOST_HITS
        ids += hits[: card_search.MOST_HITS]
    return Searched(replace(wanted, ids=tuple(dict.fromkeys(ids))), is_whole)


def _first_hits(wanted: CardFilter, now: datetime, is_hit: Any) -> list[str]:  # noqa: ANN401  # a peewee expression
    """Return the first hits of a list, one more than it may have; each card is read by itself, as they come."""
    key, descending = _order(wanted)
    among = Card.select(Card.id).where(_matches(wanted, now)).order_by(*_sorted(key, falling=descending))
    each = among.limit(MOST_SEARCHED).alias("each")
    with_client = Card.select(Card.id).join(Client, JOIN.LEFT_OUTER, on=(Client.card == Card.id))
    hit = with_client.where((Card.id == each.c.id) & is_hit).limit(1).alias("hit")  # the limit keeps it a loop
    query = Select((each,), (hit.c.id,)).join(hit, JOIN.LATERAL).limit(card_search.MOST_HITS + 1)
    return [row[0] for row in query.bind(database).tuples()]


def page(
    wanted: CardFilter, now: datetime, after: Cursor | None = None, *, limit: int, backwards: bool = False
) -> list[Row]:
    """Return up to `limit` cards with their clients (None when unbound), those that follow `after`.

    Active cards and those of an expiry range come by expiry, next first, permanent ones last; expired ones the other
    way round; all others newest first. `backwards`: those that go before `after`, in the same order.
    """
    key, descending = _order(wanted)
    falling = descending != backwards
    matches = _matches(wanted, now)
    if after is not None:
        matches = _beyond(key, after, falling=falling) & matches  # in this order: see there
    ids = Card.select(Card.id).where(matches).order_by(*_sorted(key, falling=falling)).limit(limit)
    query = (
        Card.select(Card, Client)
        .join(Client, JOIN.LEFT_OUTER, on=(Client.card == Card.id), attr="bound")
        .where(Card.id.in_(ids))
        .order_by(*_sorted(key, falling=descending))
    )
    return [(row, getattr(row, "bound", None)) for row in query]


def cursor(wanted: CardFilter, card: Card) -> Cursor:
    """Return the place of a card in that list."""
    return Cursor(card.expires_at if wanted.is_by_expiry else card.created_at, card.id)


def count_at_most(wanted: CardFilter, now: datetime, limit: int) -> int:
    """Return how many cards a list has, `limit` when it has more."""
    count: int = Card.select(SQL("1")).where(_matches(wanted, now)).limit(limit).count()
    return count


def every(wanted: CardFilter, now: datetime) -> Iterator[Row]:
    """Yield the whole list, page by page, without holding it."""
    after: Cursor | None = None
    while rows := page(wanted, now, after, limit=PAGE_ROWS):
        yield from rows
        after = cursor(wanted, rows[-1][0])


def _beyond(key: Any, after: Cursor, *, falling: bool) -> Any:  # noqa: ANN401  # peewee expressions
    """Return the condition for what follows a place.

    A status and a range of expiry are bounds on the same side. PostgreSQL's scan begins at the first bound that it
    meets, `<=` before `<`, and leaves out row by row what the others do: so this one is to be met first.
    """
    place, mark = Tuple(key, Card.id), Tuple(SQL("'infinity'::timestamptz") if after.at is None else after.at, after.id)
    return (place <= mark) & (Card.id != after.id) if falling else place > mark


def _order(wanted: CardFilter) -> _Order:
    key = expiry if wanted.is_by_expiry else Card.created_at
    if wanted.ids is not None:
        key += SQL("interval '0'")  # no index's order: the few cards that are found are read each by itself, and sorted
    return _Order(key, descending=not wanted.is_by_expiry or wanted.status is CardStatus.EXPIRED)


def _sorted(key: Any, *, falling: bool) -> tuple[Any, Any]:  # noqa: ANN401  # peewee expressions
    return (Desc(key), Card.id.desc()) if falling else (key, Card.id)


def _matches(wanted: CardFilter, now: datetime) -> Any:  # noqa: ANN401  # a peewee expression
    found = SQL("true") if wanted.status is None else status_is(wanted.status, now)
    if wanted.is_by_expiry:
        if wanted.status is CardStatus.UNUSED:
            return SQL("false")  # no such card has an expiry, but PostgreSQL would look at each in the range
        found &= Card.is_activated  # as the index says
    if wanted.batch is not None:
        found &= of_batch == wanted.batch
    if wanted.note is not None:
        # Not LIKE: no character means anything, and the planner keeps to the order's index, which has the note.
        found &= fn.strpos(Card.note, wanted.note) > 0
    if wanted.expires_from is not None:
        found &= expiry >= wanted.expires_from
    if wanted.expires_before is not None:
        found &= expiry < wanted.expires_before
    if wanted.ids is not None:
        found &= Card.id.in_(wanted.ids)
    return found
