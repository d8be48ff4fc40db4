"""The cards whose keys are masked: unused ones, from sellers who did not issue them."""

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


def is_masked_from(seller: Seller) -> Any:  # noqa: ANN401  # a peewee expression
    """Return the condition for a card that was never activated and that `seller` did not issue."""
    # A card's creation and the journal's entry about its issue bear the same time.
    issue = Event.select(SQL("1")).where((Event.actor == seller.actor) & (code_or_kind == EventKind.ISSUED.value))
    own = issue.where((Event.at == Card.created_at) & (Event.at >= seller.since))
    return ~Card.is_activated & ~fn.EXISTS(own)


def masked_from(seller: Seller, card_ids: Collection[str]) -> frozenset[str]:
    """Return the cards among these whose keys are masked from `seller`."""
    secret = Card.select(Card.id).where(Card.id.in_(card_ids) & is_masked_from(seller))
    return frozenset(row[0] for row in secret.tuples()) if card_ids else frozenset()
