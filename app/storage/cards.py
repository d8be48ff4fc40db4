"""Reads and writes cards, in bulk and one by one."""

import hashlib
import secrets
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from peewee import JOIN, SQL, fn
from psycopg2.extras import execute_values

from app.domain.cards import cards
from app.domain.cards.card_actions import Outcome
from app.domain.codes import CardStatus
from app.domain.programs import MAIN
from app.storage.database import Database
from app.storage.models import IMPORT, Card, Client, database

PAGE_ROWS = 5_000
expiry = fn.COALESCE(Card.expires_at, SQL("'infinity'::timestamptz"))
"""The expiry of an activated card, infinity for a permanent one, as in the indexes."""
of_batch = fn.COALESCE(Card.batch, SQL("''"))
"""A card's batch, empty for a card without one, as in the indexes."""
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class NewBinding:
    """The machine of an imported card; `ip` is UNKNOWN_ADDRESS where only its hardware is known."""

    hardware: str
    ip: str
    requested_at: datetime

    @property
    def hardware_sha256(self) -> str:
        """The digest by which a machine is found."""
        return hashlib.sha256(self.hardware.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class NewCard:
    """A card to be issued, or imported; an imported card may be in use."""

    id: str
    validity: timedelta | None
    batch: str | None
    note: str | None
    activated_at: datetime | None = None
    expires_at: datetime | None = None
    frozen_at: datetime | None = None
    imported_key: str | None = None
    binding: NewBinding | None = None
    renewed_card_id: str | None = None
    program: str = MAIN

    @property
    def key(self) -> str:
        """The key that people know the card by."""
        return self.imported_key or self.id


def as_domain(row: Card | NewCard) -> cards.CardFacts:
    """Return a card as the domain sees it."""
    times = (row.activated_at, row.expires_at, row.frozen_at)
    is_imported = row.imported_key is not None
    return cards.CardFacts(row.id, row.validity, *times, row.renewed_card_id, row.batch, is_imported, row.program)


class Owner(NamedTuple):
    """Who sent a request, or issued a card: an operator or a shop's token, by ID; the other one is None."""

    operator_id: int | None = None
    token_id: int | None = None

    def issued(self, card: Card) -> bool:
        """Whether they issued a card."""
        return (card.operator_id, card.token_id) == self


_NOBODY = Owner()


def insert(database: Database, new_cards: Iterable[NewCard], created_at: datetime, owner: Owner = _NOBODY) -> None:
    """Insert cards within the caller's transaction.

    They are sorted by ID: two imports of the same cards in different orders would deadlock. `owner` issued them.
    """
    ordered = sorted(new_cards, key=attrgetter("id"))
    with database.cursor() as cursor:
        for page in _pages(ordered):
            rows = [(*_columns(card, created_at), *owner) for card in page]
            execute_values(cursor, _INTO_CARD, rows, page_size=PAGE_ROWS)
        for clients in _pages(sorted(_client(card, card.binding) for card in ordered if card.binding is not None)):
            execute_values(cursor, _INTO_CLIENT, clients, page_size=PAGE_ROWS)


_INTO_CARD = """INSERT INTO "card" (
    id, validity, batch, note, is_activated, activated_at, expires_at, frozen_at, created_at, imported_key, program,
    operator_id, token_id
) VALUES %s"""
_INTO_CLIENT = """INSERT INTO "client" (
    hardware_sha256, program, hardware, card_id, id, ip, requested_at, function
) VALUES %s"""


def _client(card: NewCard, binding: NewBinding) -> tuple[object, ...]:
    """Return the values of `_INTO_CLIENT`; the digest comes first, so that all imports lock machines in one order."""
    client_id = cards.id_from_random(secrets.token_bytes(cards.ID_RANDOM_BYTES))
    machine = (binding.hardware_sha256, card.program, binding.hardware)
    return (*machine, card.id, client_id, binding.ip, binding.requested_at, IMPORT)


def _columns(card: NewCard, created_at: datetime) -> tuple[object, ...]:
    """Return the values of `_INTO_CARD` but the last two, which are of all cards."""
    times = (card.activated_at, card.expires_at, card.frozen_at, created_at)
    is_activated = card.activated_at is not None
    return (card.id, card.validity, card.batch, card.note, is_activated, *times, card.imported_key, card.program)


def of_program(card_id: Any, program: str | None) -> Any:  # noqa: ANN401  # peewee expressions
    """Return the condition for a column to have a card of a program, None for any."""
    return SQL("true") if program is None else card_id.in_(Card.select(Card.id).where(Card.program == program))


def status_is(status: CardStatus, now: datetime) -> Any:  # noqa: ANN401  # a peewee expression
    """Return the condition for a card's status: `CardFacts.status` in SQL. A test compares them."""
    spent = Card.renewed_card_id.is_null(is_null=False)
    frozen = Card.frozen_at.is_null(is_null=False)
    expired = expiry <= now
    match status:
        case CardStatus.SPENT:
            return spent
        case CardStatus.FROZEN:
            return frozen  # a spent card is not: a constraint
        case CardStatus.UNUSED:
            return ~frozen & ~Card.is_activated & ~spent
        case CardStatus.EXPIRED:
            return ~frozen & Card.is_activated & expired
        case CardStatus.ACTIVE:
            return ~frozen & Card.is_activated & ~expired


def find(card_id: str) -> Card | None:
    """Return a card with its client, or None."""
    return next(iter(find_all([card_id])), None)


def find_all(card_ids: list[str]) -> list[Card]:
    """Return the cards that exist, in the order of the IDs, with their clients."""
    found = {row.id: row for row in with_clients(Card.id.in_(card_ids))}
    return [found[card_id] for card_id in card_ids if card_id in found]


def with_clients(where: Any, *order: Any) -> list[Card]:  # noqa: ANN401  # peewee expressions
    """Return the cards that match, with their clients."""
    query = Card.select(Card, Client).join(Client, JOIN.LEFT_OUTER, on=(Client.card == Card.id), attr="client")
    return list(query.where(where).order_by(*order))


def with_keys(card_ids: Iterable[str]) -> list[Card]:
    """Return the cards that exist, with nothing but their keys and whose they are."""
    return list(Card.select(Card.id, Card.imported_key, Card.operator_id).where(Card.id.in_(set(card_ids))))


def has_batch(name: str) -> bool:
    """Return whether there are cards of this batch."""
    return bool(Card.select().where(of_batch == name).exists())


_WRITE = """
UPDATE card SET validity = new.validity, expires_at = new.expires_at, frozen_at = new.frozen_at
FROM unnest(
    %(ids)s::text[], %(validities)s::interval[], %(expiries)s::timestamptz[], %(frozen)s::timestamptz[]
) AS new (id, validity, expires_at, frozen_at)
WHERE card.id = new.id
"""


def write_outcomes(outcomes: Collection[Outcome]) -> None:
    """Write what an action does to cards, each kind of change in one statement; the caller holds their locks."""
    changed = [outcome.after for outcome in outcomes if outcome.after is not None and outcome.after != outcome.before]
    deleted = [outcome.before.id for outcome in outcomes if outcome.after is None]
    unbound = [outcome.before.id for outcome in outcomes if outcome.was_bound and not outcome.is_bound]
    if changed:
        values = {
            "ids": [card.id for card in changed],
            "validities": [card.validity for card in changed],
            "expiries": [card.expires_at for card in changed],
            "frozen": [card.frozen_at for card in changed],
        }
        database.execute_sql(_WRITE, values)
    if deleted:
        Card.delete().where(Card.id.in_(deleted)).execute()
    if unbound:
        Client.delete().where(Client.card.in_(unbound)).execute()


def existing(card_ids: Iterable[str]) -> set[str]:
    """Return the IDs that belong to existing cards, read page by page."""
    return {row.id for page in _pages(card_ids) for row in Card.select(Card.id).where(Card.id.in_(page)).namedtuples()}


def cards_of_machines(digests: Iterable[str], program: str) -> dict[str, str]:
    """Return a program's cards that these machines are bound to, by the machine's digest, read page by page."""
    found = Client.select(Client.hardware_sha256, Client.card).where(Client.program == program)
    return dict(row for page in _pages(digests) for row in found.where(Client.hardware_sha256.in_(page)).tuples())


def bound_cards(card_ids: list[str]) -> set[str]:
    """Return the IDs of the cards that have a client."""
    return {client.card_id for client in Client.select(Client.card).where(Client.card.in_(card_ids))}


def _pages(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while page := list(islice(iterator, PAGE_ROWS)):
        yield page
