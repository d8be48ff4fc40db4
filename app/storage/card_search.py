"""Card search: cards by ID, hardware, address or reference, each kind by its index."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from peewee import SQL, Expression, fn

from app.domain.addresses import canonical_address
from app.domain.cards.cards import ID_LENGTH, answers_to, card_id_of, parse_card_id_beginning, plain
from app.domain.cards.pasted import bare_reference, ids_in, keys_in, listed_keys, reference_in
from app.storage import cards
from app.storage.models import Card, Client, Event

MAX_HITS = 1_000
"""Of a kind: a text with more is too short."""

_ADDRESS_LIKE = re.compile(r"[0-9a-fA-F:.]+")
_INDEXED_HARDWARE = 64


def find(text: str, *, whole_hardware: bool) -> tuple[list[str], bool]:
    """Find cards by ID, imported key, bound hardware or bound address, whole or its beginning, or by a reference.

    `whole_hardware`: not by the beginning of hardware, for a seller who could find it out letter by letter.
    Return up to `MAX_HITS` hits of each kind, and whether these are all.
    """
    hits = [[row[0] for row in query.limit(MAX_HITS + 1).tuples()] for query in _kinds(text, whole_hardware)]
    return [card_id for ids in hits for card_id in ids[:MAX_HITS]], max(map(len, hits)) <= MAX_HITS


def find_typed(text: str) -> tuple[list[str], list[str]]:
    """Find the cards whose whole keys a text has; return their IDs, and the IDs without a card.

    The ID of an imported card is a digest of its key, by which a short key could be guessed. The key of one counts as
    the whole text alone, or one search could try many guesses.
    """
    named = dict.fromkeys([card_id_of(text), *ids_in(text)])
    rows = cards.with_keys(named)
    found = [
        row.id
        for row in rows
        if row.imported_key is None or (row.id == card_id_of(text) and answers_to(text, is_imported=True))
    ]
    lost = named.keys() - {row.id for row in rows}
    return found, [card_id for card_id in ids_in(text) if card_id in lost]


def find_pasted(text: str) -> tuple[list[str], list[str]]:
    """Find the cards that a message names amid other words; return their IDs, and the texts without a card.

    A word that may be an imported key, but is of no card, is among these if the text is a list with another card.
    """
    named = {card_id_of(key): key for key in keys_in(text)} | {card_id: card_id for card_id in ids_in(text)}
    found = cards.existing(named)
    listed = listed_keys(text) if found else []
    lost = {card_id: typed for card_id, typed in named.items() if card_id not in found}
    return list(found), [typed for card_id, typed in lost.items() if typed == card_id or typed in listed]


def _kinds(text: str, whole_hardware: bool) -> Iterator[Any]:  # noqa: FBT001  # as `find`
    """Yield for each kind the query for the cards' IDs, by one index."""
    beginning = parse_card_id_beginning(text)
    if beginning is not None:
        # A range: LIKE needs an index of its own in most collations.
        lowest, highest = beginning.ljust(ID_LENGTH, "0"), beginning.ljust(ID_LENGTH, "Z")
        yield Card.select(Card.id).where(Card.id.between(lowest, highest)).order_by(Card.id)
    reference = reference_in(text) or bare_reference(text)
    if reference is not None:
        yield Event.select(Event.card_id).where((Event.reference == reference) & Event.card_id.is_null(is_null=False))
    key = _c(Card.imported_key)
    with_key = Card.imported_key.is_null(is_null=False)  # the index's own condition
    yield Card.select(Card.id).where(with_key & Expression(key, "^@", plain(text) or text)).order_by(key)
    yield Client.select(Client.card).where(Client.hardware_sha256 == hashlib.sha256(text.encode()).hexdigest())
    if not whole_hardware:
        hardware = _c(fn.LEFT(Client.hardware, SQL(str(_INDEXED_HARDWARE))))
        starts = Expression(hardware, "^@", text[:_INDEXED_HARDWARE])
        if len(text) > _INDEXED_HARDWARE:
            starts &= Expression(Client.hardware, "^@", text)
        yield Client.select(Client.card).where(starts).order_by(hardware, Client.card)
    if _ADDRESS_LIKE.fullmatch(text):
        address = _c(Client.ip)
        within = Expression(address, "^@", _canonical(text))
        yield Client.select(Client.card).where(within).order_by(address, Client.card)


def _c(text: Any) -> Any:  # noqa: ANN401  # peewee expressions
    """Return the expression compared byte by byte, as in the indexes for beginnings."""
    return Expression(text, "COLLATE", SQL('"C"'))


def _canonical(text: str) -> str:
    """Return an address, or the beginning of one, in the form in which addresses are stored."""
    try:
        return canonical_address(text)
    except ValueError:
        # IPv6: lower case, no leading zeros in groups.
        return re.sub(r"\b0+(?=[0-9a-f])", "", text.lower()) if ":" in text else text
