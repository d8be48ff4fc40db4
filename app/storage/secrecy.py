"""Keys that are still for sale: nobody but the owners, and whoever issued them, is to read them in lists."""

from collections.abc import Collection
from typing import Any

from peewee import SQL, fn

from app.domain.codes import EventKind
from app.storage.journal import what
from app.storage.models import Card, Event


def is_secret_from(actor: str) -> Any:  # noqa: ANN401  # a peewee expression
    """Return the condition for a card that was never activated, and that `actor` did not issue."""
    # A card has the time of the entry that tells of its issue.
    issue = Event.select(SQL("1")).where((Event.actor == actor) & (what == EventKind.ISSUED.value))
    return ~Card.is_activated & ~fn.EXISTS(issue.where(Event.at == Card.created_at))


def secret_from(actor: str, card_ids: Collection[str]) -> frozenset[str]:
    """Return those of the cards whose keys `actor` is not to read."""
    secret = Card.select(Card.id).where(Card.id.in_(card_ids) & is_secret_from(actor))
    return frozenset(row[0] for row in secret.tuples()) if card_ids else frozenset()
