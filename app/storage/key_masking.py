"""The cards that a seller issued: the keys of all others are masked from them."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from peewee import SQL, fn

from app.domain.codes import EventKind
from app.storage.journal import code_or_kind
from app.storage.models import Card, Event


class Seller(NamedTuple):
    """A seller's name in the journal, and when they became an operator.

    Older entries of that name are from a former operator, who was removed.
    """

    actor: str
    since: datetime


def is_issued_by(seller: Seller) -> Any:  # noqa: ANN401  # a peewee expression
    """Return the condition for a card that `seller` issued."""
    # A card's creation and the journal's entry about its issue bear the same time.
    issue = Event.select(SQL("1")).where((Event.actor == seller.actor) & (code_or_kind == EventKind.ISSUED.value))
    return fn.EXISTS(issue.where((Event.at == Card.created_at) & (Event.at >= seller.since)))


def issued_by(seller: Seller, card_ids: Collection[str]) -> frozenset[str]:
    """Return the cards among these that `seller` issued."""
    own = Card.select(Card.id).where(Card.id.in_(card_ids) & is_issued_by(seller))
    return frozenset(row[0] for row in own.tuples()) if card_ids else frozenset()
