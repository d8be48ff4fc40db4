"""What the search box finds: cards by what a vendor has of them."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from peewee import SQL, Expression, fn

from app.domain.addresses import canonical_address
from app.domain.cards import ID_LENGTH, REFERENCE_LENGTH, parse_card_id_beginning
from app.storage.models import Card, Client, Event

MOST_HITS = 1_000
"""So many cards are found of each kind; a text that finds more says too little."""

_ADDRESS_LIKE = re.compile(r"[0-9a-fA-F:.]+")
_INDEXED_HARDWARE = 64


def card_ids(text: str) -> list[str]:
    """Return the cards whose ID, bound hardware or bound address is or begins with `text`, or whose reference it is.

    Each kind is a scan of one index, `MOST_HITS` long at most.
    """
    return list(dict.fromkeys(row[0] for query in _queries(text) for row in query.limit(MOST_HITS).tuples()))


def is_broad(text: str) -> bool:
    """Tell whether a text finds so many cards that a list has only the first of them."""
    return any(query.limit(MOST_HITS + 1).count() > MOST_HITS for query in _queries(text))


def _queries(text: str) -> Iterator[Any]:
    beginning = parse_card_id_beginning(text)
    if beginning is not None:
        # A range, since LIKE wants an index of its own in most languages.
        lowest, highest = beginning.ljust(ID_LENGTH, "0"), beginning.ljust(ID_LENGTH, "Z")
        yield Card.select(Card.id).where(Card.id.between(lowest, highest)).order_by(Card.id)
        if len(beginning) == REFERENCE_LENGTH:  # of the same characters as an ID, and typed as carelessly
            refused = (Event.reference == beginning) & Event.card_id.is_null(is_null=False)
            yield Event.select(Event.card_id).where(refused)
    digest = hashlib.sha256(text.encode()).hexdigest()
    yield Client.select(Client.card).where(Client.hardware_sha256 == digest)
    hardware = _c(fn.LEFT(Client.hardware, SQL(str(_INDEXED_HARDWARE))))
    starts = Expression(hardware, "^@", text[:_INDEXED_HARDWARE])
    if len(text) > _INDEXED_HARDWARE:
        starts &= Expression(Client.hardware, "^@", text)
    yield Client.select(Client.card).where(starts).order_by(hardware, Client.card)
    if _ADDRESS_LIKE.fullmatch(text):
        address = _c(Client.ip)
        yield (
            Client.select(Client.card).where(Expression(address, "^@", _canonical(text))).order_by(address, Client.card)
        )


def _c(text: Any) -> Any:  # noqa: ANN401  # peewee expressions
    """Return the expression byte by byte, as the indexes for beginnings have it."""
    return Expression(text, "COLLATE", SQL('"C"'))


def _canonical(text: str) -> str:
    try:
        return canonical_address(text)
    except ValueError:
        return text
