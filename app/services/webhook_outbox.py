"""The messages of webhooks: what periodic tasks add to the outbox and delete from it, and what a message says.

Triggers on the journal add activations and mismatches.
"""

import hashlib
import json
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from app.domain.cards import masked
from app.domain.webhooks import EXPIRING_WITHIN, GIVEN_UP_AFTER, MAX_WAITING, Topic
from app.services import abuse_report
from app.services.formatting import local
from app.storage import webhooks
from app.storage.database import Database
from app.storage.models import Card, Webhook, WebhookOutbox

KEPT = timedelta(days=7)
MAX_KEPT = 1_000
"""Of each webhook's and topic's messages that are done so many are kept at most."""


def enqueue_expiring(database: Database, now: datetime) -> None:
    """Add messages of the cards that expire soon. It may run twice.

    Raises:
        UnavailableError: the database is away.
    """
    database.with_connection(lambda: webhooks.enqueue_expiring(now + EXPIRING_WITHIN, now))


def enqueue_shared(database: Database, zone: ZoneInfo, now: datetime) -> None:
    """Add messages of the cards that look shared. It may run twice.

    Raises:
        UnavailableError: the database is away.
    """
    wanted = Webhook.topics.contains(Topic.SHARED)
    if not database.with_connection(Webhook.select().where(wanted).exists):
        return  # the report reads much
    shared = {
        card.card_id: json.dumps({"last_24_hours": card.lately._asdict(), "last_7_days": card.whole._asdict()})
        for card in abuse_report.shown_cards(database, now, zone)[:MAX_WAITING]
    }
    database.with_connection(lambda: webhooks.enqueue_shared(shared, now))


def prune(database: Database, now: datetime) -> None:
    """Give up messages that are too old, and delete old ones that are done.

    Raises:
        UnavailableError: the database is away.
    """
    is_old = WebhookOutbox.next_at.is_null(is_null=False) & (WebhookOutbox.created_at < now - GIVEN_UP_AFTER)
    database.with_connection(WebhookOutbox.update(next_at=None, failed_at=now).where(is_old).execute)
    database.with_connection(lambda: webhooks.prune(now - KEPT, MAX_KEPT))


def body_of(message: WebhookOutbox, card: Card | None, zone: ZoneInfo) -> str:
    """Return the body of a message: `type`, `timestamp` and `data` (Standard Webhooks)."""
    data = ({} if message.card_id is None else _about(message.card_id, card, zone)) | message.data
    document = {"type": message.topic, "timestamp": message.created_at.isoformat(timespec="milliseconds"), "data": data}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _about(card_id: str, card: Card | None, zone: ZoneInfo) -> dict[str, str | None]:
    """Return what is told of a card; `card` is None if it was deleted since.

    The key is masked; its SHA-256 lets the vendor match it. Both are told of cards that Kadun made: the ID of an
    imported card is a digest of its key, and whoever gets either could check guesses at the key without this server.
    """
    is_ours = card is not None and card.imported_key is None
    return {
        "card": masked(card_id) if is_ours else None,
        "card_sha256": hashlib.sha256(card_id.encode()).hexdigest() if is_ours else None,
        "batch": None if card is None else card.batch,
        "expires_at": None if card is None else local(card.expires_at, zone),
    }
