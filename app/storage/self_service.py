"""What self-service reads and writes beside the rows of cards."""

from datetime import datetime

from app.domain.codes import EventKind
from app.storage.journal import code_or_kind
from app.storage.models import Card, Event


def unbound_at(card_id: str, since: datetime, limit: int) -> list[datetime]:
    """Return when the customer unbound the card after `since`, the latest first, at most `limit` times."""
    own = (Event.card_id == card_id) & (code_or_kind == EventKind.SELF_UNBOUND.value) & (Event.at > since)
    return [row[0] for row in Event.select(Event.at).where(own).order_by(Event.at.desc()).limit(limit).tuples()]


def spend(card_id: str, renewed_card_id: str) -> None:
    """Mark an unused card as used up to renew another; the caller holds the locks of both."""
    Card.update(renewed_card_id=renewed_card_id).where(Card.id == card_id).execute()
