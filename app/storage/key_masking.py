"""Keys that are still for sale: nobody but the owners, and whoever issued them, is to read them in lists."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from peewee import SQL, fn

from app.domain.codes import EventKind
from app.storage.journal import what
from app.storage.models import Card, Event


class Seller(NamedTuple):
    """Who is to read only the keys that they issued: by their name in the journal, since they are an operator.

    What the journal has of that name from before is a namesake's, who was removed.
    """

    actor: str
    since: datetime


def is_secret_from(seller: Seller) -> Any:  # noqa: ANN401  # a peewee expression
    """Return the condition for a card that was never activated, and that `seller` did not issue."""
    # A card has the time of the entry that tells of its issue.
    issue = Event.select(SQL("1")).where((Event.actor == seller.actor) & (what == EventKind.ISSUED.value))
    own = issue.where((Event.at == Card.created_at) & (Event.at >= seller.since))
    return ~Card.is_activated & ~fn.EXISTS(own)


def secret_from(seller: Seller, card_ids: Collection[str]) -> frozenset[str]:
    """Return those of the cards whose keys `seller` is not to read."""
    secret = Card.select(Card.id).where(Card.id.in_(card_ids) & is_secret_from(seller))
    return frozenset(row[0] for row in secret.tuples()) if card_ids else frozenset()
