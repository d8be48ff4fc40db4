"""Lists of cards, filtered and searched; each has an order that an index has (migration 0003)."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from peewee import SQL, Desc, Tuple, fn

from app.domain.codes import CardStatus
from app.storage import card_search
from app.storage.cards import expiry, of_batch, status_is, with_clients, with_keys
from app.storage.models import Card
from app.storage.paging import Cursor


class Sort(StrEnum):
    """An order that a reader asks for; each has activated cards only. A minus sign reverses it."""

    EXPIRY = "expiry"
    EXPIRY_LAST = "-expiry"


@dataclass(frozen=True, slots=True)
class CardFilter:
    """Which cards a list has; None means any.

    `batch` is a whole name, the empty one for cards without a batch. `note` is a part of the card's note.
    `expires_from` is included, `expires_before` is not; with either the list has activated cards only, permanent ones
    among them if `expires_before` is None. `text` is what a person searches for; `resolve_search` puts `ids` in its
    place. `operator_id` is the seller's who issued them, `program` theirs. `oldest_first` orders any list by the cards'
    creation, `sort` as a reader asks.
    """

    status: CardStatus | None = None
    batch: str | None = None
    note: str | None = None
    expires_from: datetime | None = None
    expires_before: datetime | None = None
    text: str | None = None
    ids: tuple[str, ...] | None = None
    operator_id: int | None = None
    program: str | None = None
    oldest_first: bool = False
    sort: Sort | None = None

    @property
    def has_expiry(self) -> bool:
        """Whether the list has only cards that expire or never will: activated ones."""
        of_a_time = self.expires_from is not None or self.expires_before is not None
        return of_a_time or self.sort is not None or self.status in (CardStatus.ACTIVE, CardStatus.EXPIRED)

    @property
    def is_by_expiry(self) -> bool:
        """Whether the list is in the order of expiry, permanent cards last, not of creation, newest first."""
        return self.has_expiry and not self.oldest_first


class Resolved(NamedTuple):
    """A filter with its text looked up: unless `is_complete`, some of its hits; `missing` are texts without a card."""

    wanted: CardFilter
    is_complete: bool = True
    missing: tuple[str, ...] = ()


def resolve_search(wanted: CardFilter) -> Resolved:
    """Look up the filter's text, once for all pages of the list.

    A text finds cards by their ID, by the hardware or the address of the bound machine, each whole or its beginning,
    and by the reference of a rejection. A text that finds none of these is a message with cards in it, or else looked
    for in notes. Of a kind with more than `MAX_HITS` hits only so many are found, whatever else the filter says. A
    seller who types whole keys finds their cards, whoever issued them.
    """
    if wanted.text is None:
        return Resolved(wanted)
    is_sellers = wanted.operator_id is not None
    typed, missing = card_search.find_typed(wanted.text) if is_sellers else ([], [])
    if typed:
        return Resolved(replace(wanted, text=None, ids=tuple(typed), operator_id=None), missing=tuple(missing))
    ids, is_complete = card_search.find(wanted.text, whole_hardware=is_sellers)
    if is_sellers:
        ids = [row.id for row in with_keys(ids) if row.operator_id == wanted.operator_id]
        missing = [] if ids or not is_complete else missing
    elif not ids:
        ids, missing = card_search.find_pasted(wanted.text)
    if not ids and is_complete and wanted.note is None:
        return Resolved(replace(wanted, text=None, note=wanted.text), missing=tuple(missing))
    return Resolved(replace(wanted, text=None, ids=tuple(dict.fromkeys(ids))), is_complete, tuple(missing))


def page(
    wanted: CardFilter, now: datetime, after: Cursor | None = None, *, limit: int, backwards: bool = False
) -> list[Card]:
    """Return up to `limit` cards that follow `after`, with their clients.

    Active cards and those of a range of expiry are ordered by expiry, the next to expire first, permanent ones last;
    expired ones the other way round; all others newest first; or as `sort` says. `backwards`: the cards before
    `after`, in that order.
    """
    key, descending = _order(wanted)
    falling = descending != backwards
    matches = _matches(wanted, now)
    if after is not None:
        matches = _beyond(key, after, falling=falling) & matches  # in this order: see there
    ids = Card.select(Card.id).where(matches).order_by(*_sorted(key, falling=falling)).limit(limit)
    return with_clients(Card.id.in_(ids), *_sorted(key, falling=descending))


def cursor(wanted: CardFilter, card: Card) -> Cursor:
    """Return the place of a card in that list."""
    return Cursor(card.expires_at if wanted.is_by_expiry else card.created_at, card.id)


def count_at_most(wanted: CardFilter, now: datetime, limit: int) -> int:
    """Return how many cards a list has, `limit` when it has more."""
    count: int = Card.select(SQL("1")).where(_matches(wanted, now)).limit(limit).count()
    return count


def _beyond(key: Any, after: Cursor, *, falling: bool) -> Any:  # noqa: ANN401  # peewee expressions
    """Return the condition for the rows after a place.

    A status and a range of expiry are bounds on the same side. PostgreSQL's scan starts at the first bound in the
    query, `<=` before `<`, and filters by the others row by row. So this bound has to come first.
    """
    place, mark = Tuple(key, Card.id), Tuple(SQL("'infinity'::timestamptz") if after.at is None else after.at, after.id)
    return (place <= mark) & (Card.id != after.id) if falling else place > mark


def _order(wanted: CardFilter) -> tuple[Any, bool]:
    """Return what orders the list, and whether it is descending."""
    key = expiry if wanted.is_by_expiry else Card.created_at
    if wanted.ids is not None:
        key += SQL("interval '0'")  # keeps the planner from the order's index: it reads the few cards and sorts them
    if wanted.sort is not None:
        descending = wanted.sort is Sort.EXPIRY_LAST
    else:
        descending = wanted.status is CardStatus.EXPIRED if wanted.is_by_expiry else not wanted.oldest_first
    return key, descending


def _sorted(key: Any, *, falling: bool) -> tuple[Any, Any]:  # noqa: ANN401  # peewee expressions
    return (Desc(key), Card.id.desc()) if falling else (key, Card.id)


def _matches(wanted: CardFilter, now: datetime) -> Any:  # noqa: ANN401  # a peewee expression
    found = SQL("true") if wanted.status is None else status_is(wanted.status, now)
    if wanted.has_expiry:
        if wanted.status is CardStatus.UNUSED:
            return SQL("false")  # PostgreSQL would look at each card of the range to find that none is unused
        found &= Card.is_activated  # the index's own condition
    if wanted.batch is not None:
        found &= of_batch == wanted.batch
    if wanted.note is not None:
        # Not LIKE: it has special characters, and would lead the planner away from the order's index.
        found &= fn.strpos(Card.note, wanted.note) > 0
    if wanted.expires_from is not None:
        found &= expiry >= wanted.expires_from
    if wanted.expires_before is not None:
        found &= expiry < wanted.expires_before
    if wanted.ids is not None:
        found &= Card.id.in_(wanted.ids)
    if wanted.operator_id is not None:
        found &= Card.operator_id == wanted.operator_id
    if wanted.program is not None:
        found &= Card.program == wanted.program
    return found
