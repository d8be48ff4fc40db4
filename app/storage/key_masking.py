"""The cards that a seller or a shop issued: the keys of all others are masked from a seller, and not a shop's own."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from peewee import SQL, fn

from app.domain.codes import EventKind
from app.storage.journal import code_or_kind
from app.storage.models import Card, Event


class Issuer(NamedTuple):
    """The name in the journal of a seller or a shop, and since when it is theirs.

    Older entries of a seller's name are from a former operator, who was removed. Shops' names are theirs for ever.
    """

    actor: str
    since: datetime


def is_issued_by(issuer: Issuer) -> Any:  # noqa: ANN401  # a peewee expression
    """Return the condition for a card that `issuer` issued."""
    # A card's creation and the journal's entry about its issue bear the same time.
    issue = Event.select(SQL("1")).where((Event.actor == issuer.actor) & (code_or_kind == EventKind.ISSUED.value))
    return fn.EXISTS(issue.where((Event.at == Card.created_at) & (Event.at >= issuer.since)))


def issued_by(issuer: Issuer, card_ids: Collection[str]) -> frozenset[str]:
    """Return the cards among these that `issuer` issued."""
    own = Card.select(Card.id).where(Card.id.in_(card_ids) & is_issued_by(issuer))
    return frozenset(row[0] for row in own.tuples()) if card_ids else frozenset()


def imported_keys(card_ids: Collection[str]) -> dict[str, str]:
    """Return the imported keys of the cards among these that have one."""
    named = Card.select(Card.id, Card.imported_key).where(
        Card.id.in_(card_ids) & Card.imported_key.is_null(is_null=False)
    )
    return dict(named.tuples()) if card_ids else {}
