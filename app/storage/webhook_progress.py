"""How far the journal, the cards and the checks were read for webhooks: one row, which one process at a time holds."""

from datetime import datetime

from app.domain.webhooks import Progress
from app.storage.cards import expiry
from app.storage.journal import code_or_kind
from app.storage.models import Card, Event, WebhookProgress


def begin(newest: int, expiring_until: datetime, now: datetime) -> None:
    """Begin here, in the caller's transaction: there was no webhook before."""
    WebhookProgress.delete().execute()
    WebhookProgress.insert(
        position=newest, newest=newest, expiring_until=expiring_until, checked_at=now, problems=None
    ).execute()


def hold() -> WebhookProgress | None:
    """Lock the row in the caller's transaction; return None where another process holds it, or nothing has begun."""
    found: WebhookProgress | None = WebhookProgress.select().for_update("FOR UPDATE SKIP LOCKED").first()
    return found


def progress_of(row: WebhookProgress) -> Progress:
    """Return how far the journal was read."""
    return Progress(row.position, row.newest, row.settles_at, row.settles_to)


def keep(**values: object) -> None:
    """Set columns."""
    WebhookProgress.update(**values).execute()


def take_turn(now: datetime, before: datetime) -> bool:
    """Take the turn of the checks, if the last one was before `before`; one process gets it."""
    return bool(WebhookProgress.update(checked_at=now).where(WebhookProgress.checked_at <= before).execute())


def entries(after: int, upto: int, kinds: list[str], limit: int) -> list[Event]:
    """Return the journal entries of these kinds and codes with an ID above `after` and up to `upto`, by ID."""
    between = (Event.id > after) & (Event.id <= upto)
    return list(Event.select().where(between & code_or_kind.in_(kinds)).order_by(Event.id).limit(limit))


def expiring(after: datetime, until: datetime, limit: int) -> list[Card]:
    """Return cards in use that expire after `after` and not after `until`, the first to expire first."""
    within = Card.is_activated & (expiry > after) & (expiry <= until) & Card.frozen_at.is_null()
    return list(Card.select().where(within).order_by(expiry, Card.id).limit(limit))


def cards_by_id(card_ids: list[str]) -> dict[str, Card]:
    """Return these cards by ID; those that were deleted are missing."""
    return {card.id: card for card in Card.select().where(Card.id.in_(card_ids))}
