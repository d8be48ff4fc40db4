"""Cards in long lists: filtered, found, each list in an order that an index has (migration 0003)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from peewee import JOIN, SQL, Desc, Tuple, fn

from app.domain.codes import CardStatus
from app.storage import finding
from app.storage.cards import expiry, status_is
from app.storage.models import Card, Client
from app.storage.paging import Cursor

Row = tuple[Card, Client | None]
PAGE_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class CardFilter:
    """Which cards a list has; None means any.

    `note` is contained in the card's. `expires_from` is included, `expires_before` is not; with either there are only
    activated cards, permanent ones among them where `expires_before` is None. `text` is a card's ID, a bound machine's
    hardware or address, each whole or its beginning, or the reference of a message that a customer got
    (`app.storage.finding`).
    """

    status: CardStatus | None = None
    batch: str | None = None
    note: str | None = None
    expires_from: datetime | None = None
    expires_before: datetime | None = None
    text: str | None = None

    @property
    def is_by_expiry(self) -> bool:
        """Whether the list is in the order of expiry, permanent cards last; by birth, newest first, else."""
        of_a_time = self.expires_from is not None or self.expires_before is not None
        return of_a_time or self.status in (CardStatus.ACTIVE, CardStatus.EXPIRED)


class _Order(NamedTuple):
    key: Any
    descending: bool


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
    if wanted.text is not None:
        key += SQL("interval '0'")  # no index's order: the few cards that are found are read each by itself, and sorted
    return _Order(key, descending=not wanted.is_by_expiry or wanted.status is CardStatus.EXPIRED)


def _sorted(key: Any, *, falling: bool) -> tuple[Any, Any]:  # noqa: ANN401  # peewee expressions
    return (Desc(key), Card.id.desc()) if falling else (key, Card.id)


def _matches(wanted: CardFilter, now: datetime) -> Any:  # noqa: ANN401  # a peewee expression
    found = SQL("true") if wanted.status is None else status_is(wanted.status, now)
    if wanted.is_by_expiry:
        found &= Card.is_activated  # as the index says
    if wanted.batch is not None:
        found &= Card.batch == wanted.batch
    if wanted.note is not None:
        # Not LIKE: no character means anything, and the planner keeps to the order's index, which has the note.
        found &= fn.strpos(Card.note, wanted.note) > 0
    if wanted.expires_from is not None:
        found &= expiry >= wanted.expires_from
    if wanted.expires_before is not None:
        found &= expiry < wanted.expires_before
    if wanted.text is not None:
        found &= Card.id.in_(finding.card_ids(wanted.text))
    return found
