"""Lists of cards: filtered, searched, page by page or whole; and single cards."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from typing import NamedTuple

from app.domain.cards.card_actions import Action, possible_actions
from app.domain.cards.cards import answers_to, card_id_of
from app.domain.operators.operators import Role
from app.domain.texts import RefusedError
from app.runtime.clock import Clock
from app.services.cards.card_actions import CardNotFoundError
from app.services.paging import PageRequest, Slice, read_slice
from app.storage import card_lists, cards
from app.storage.card_lists import CardFilter
from app.storage.cards import Owner
from app.storage.models import Card, DailyCount, Operator
from app.storage.paging import Cursor

MAX_COUNTED = 10_000
COUNTED_DAYS = 30
MAX_RENEWALS = 50
_PAGE_ROWS = 1_000


class CardResults(NamedTuple):
    """A page of a list.

    `total` is the length of the list, counted up to `MAX_COUNTED` + 1. A search whose text has too many hits has only
    some of them, and is not `is_complete`. `missing` are the texts of a search that name cards which do not exist.
    """

    found: Slice[Card]
    total: int = 0
    is_complete: bool = True
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CardLists:
    """Reads cards, with their clients and their status."""

    clock: Clock

    def find(self, card_id: str) -> Card | None:
        """Return the card with an ID, or None."""
        return next(iter(self.find_all([card_id])), None)

    def get(self, typed: str, issuer: Owner | None = None, program: str | None = None) -> Card:
        """Return a card by what a person typed, of this `issuer` and `program` if given, or raise CardNotFoundError."""
        found = self.find(card_id_of(typed))
        is_hidden = found is None or (issuer is not None and not issuer.issued(found))
        if found is None or is_hidden or program not in {None, found.program}:
            raise CardNotFoundError(typed)
        return found

    def daily_counts(self, card_id: str, since: date) -> list[DailyCount]:
        """Return how often what a client can repeat happened to a card, the latest day first."""
        of_card = DailyCount.select().where((DailyCount.card_id == card_id) & (DailyCount.day >= since))
        return list(of_card.order_by(DailyCount.day.desc(), DailyCount.kind))

    def renewed_by(self, card_id: str) -> list[str]:
        """Return up to `MAX_RENEWALS` cards that were used up to renew a card, the latest issued first."""
        used_up = Card.select(Card.id).where(Card.renewed_card_id == card_id)
        return [card.id for card in used_up.order_by(Card.created_at.desc(), Card.id).limit(MAX_RENEWALS)]

    def keys(self, reader: Operator, card_ids: Iterable[str | None], typed: str = "") -> dict[str, str]:
        """Return the keys that people know these cards by, by ID: all, or for a seller those that they may see.

        A seller sees the cards that they issued, and the one whose whole key they `typed`; an imported card by its key
        alone: by its ID, a digest, the key could be guessed. Cards need not exist: the journal has those of deleted
        cards, and what customers mistyped.
        """
        ids = {each for each in card_ids if each}
        rows = {row.id: row for row in cards.with_keys(ids)} if ids else {}
        keys = {each: str(rows[each].key) if each in rows else each for each in ids}
        if reader.role == Role.OWNER:
            return keys
        named = card_id_of(typed)
        is_imported = named in rows and rows[named].imported_key is not None
        shown = {row.id for row in rows.values() if row.operator_id == reader.id}
        shown |= {named, typed} if answers_to(typed, is_imported=is_imported) else set()
        return {each: key for each, key in keys.items() if each in shown}

    def has_batch(self, name: str) -> bool:
        """Whether a batch of this name has cards."""
        return cards.has_batch(name)

    def find_all(self, card_ids: list[str]) -> list[Card]:
        """Return the cards with these IDs that exist, in this order."""
        return _with_status(cards.find_all(card_ids), self.clock())

    def possible_actions(self, card: Card) -> list[Action]:
        """Return the actions that would change a card."""
        return possible_actions(cards.as_domain(card), self.clock(), is_bound=card.client is not None)

    def page(self, wanted: CardFilter, request: PageRequest, reader: Operator) -> CardResults:
        """Return a page of a list; a seller's has the cards that they issued, or whose whole keys they type."""
        operator_id = None if reader.role == Role.OWNER else reader.id
        now = self.clock()
        wanted, is_complete, missing = card_lists.resolve_search(replace(wanted, operator_id=operator_id))

        def fetch(after: Cursor | None, *, limit: int, backwards: bool = False) -> tuple[list[Card], None]:
            rows = card_lists.page(wanted, now, after, limit=limit, backwards=backwards)
            return _with_status(rows, now), None

        found = read_slice(request, fetch, partial(card_lists.cursor, wanted))
        # Counting costs as much as reading where hits are rare: not for a list that is on one page.
        is_whole = found.before is None and found.after is None
        total = len(found.rows) if is_whole else card_lists.count_at_most(wanted, now, MAX_COUNTED + 1)
        return CardResults(found, total, is_complete, missing)

    def missing(self, wanted: CardFilter) -> tuple[str, ...]:
        """Return the texts of a search that name cards which do not exist."""
        return card_lists.resolve_search(wanted).missing

    def every(self, wanted: CardFilter) -> Iterator[Card]:
        """Return the cards of the whole list, read page by page; refuse a text to search for with too many hits."""
        resolved = card_lists.resolve_search(wanted)
        if not resolved.is_complete:
            raise RefusedError(
                "搜索内容太短，符合的太多，不能全部列出：请多输入几个字符",
                "the search text has too many hits to list them all: type a few characters more",
            )
        return _every(resolved.wanted, self.clock())


def _every(wanted: CardFilter, now: datetime) -> Iterator[Card]:
    after: Cursor | None = None
    while rows := card_lists.page(wanted, now, after, limit=_PAGE_ROWS):
        yield from _with_status(rows, now)
        after = card_lists.cursor(wanted, rows[-1])


def _with_status(rows: list[Card], now: datetime) -> list[Card]:
    for row in rows:
        row.status = cards.as_domain(row).status(now)
    return rows
