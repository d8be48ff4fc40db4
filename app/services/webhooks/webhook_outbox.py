"""The messages of webhooks: what tasks, and triggers on the journal, add; and what a message says."""

import hashlib
import json
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from app.domain.cards.cards import masked
from app.domain.webhooks import EXPIRING_WITHIN, GIVEN_UP_AFTER, MAX_WAITING, Topic
from app.services.formatting import local
from app.services.reports import abuse_report
from app.storage.database import Database
from app.storage.models import Card, Webhook, WebhookOutbox

KEPT = timedelta(days=7)
MAX_KEPT = 1_000
"""Of each webhook's and topic's messages that are done so many are kept at most."""
# Each webhook has its own mark. Two processes take turns at it, and the second finds it moved.
_ENQUEUE_EXPIRING = """
WITH marked AS (
    UPDATE webhook SET expiring_until = %(until)s
    FROM (
        SELECT id, expiring_until FROM webhook
        WHERE 'card.expiring' = ANY (topics) AND expiring_until < %(until)s ORDER BY id FOR NO KEY UPDATE
    ) AS before
    WHERE webhook.id = before.id
    RETURNING webhook.id, webhook.paused_at, before.expiring_until
)
INSERT INTO webhook_outbox (webhook_id, topic, card_id, created_at, next_at)
SELECT marked.id, 'card.expiring', card.id, %(now)s, %(now)s
FROM marked JOIN card ON card.is_activated AND card.frozen_at IS NULL
    AND COALESCE(card.expires_at, 'infinity') > marked.expiring_until
    AND COALESCE(card.expires_at, 'infinity') <= %(until)s
WHERE marked.paused_at IS NULL
"""
_ENQUEUE_SHARED = """
INSERT INTO webhook_outbox (webhook_id, topic, card_id, data, created_at, next_at)
SELECT webhook.id, 'card.shared', told.card_id, told.data::jsonb, %(now)s, %(now)s
FROM webhook CROSS JOIN unnest(%(cards)s, %(data)s) AS told (card_id, data)
WHERE 'card.shared' = ANY (webhook.topics) AND webhook.paused_at IS NULL AND NOT EXISTS (
    SELECT FROM webhook_outbox AS before
    WHERE before.webhook_id = webhook.id AND before.topic = 'card.shared' AND before.card_id = told.card_id
)
"""
# By topic, so that many activations do not push out what keeps a shared card from being told again.
_PRUNE = """
DELETE FROM webhook_outbox WHERE id IN (
    SELECT id FROM (
        SELECT id, created_at, row_number() OVER (PARTITION BY webhook_id, topic ORDER BY id DESC) AS place
        FROM webhook_outbox WHERE next_at IS NULL
    ) AS done
    WHERE place > %(most)s OR created_at < %(before)s
)
"""


def enqueue_expiring(database: Database, now: datetime) -> None:
    """Add messages of the cards in use that expire soon, each once for each webhook. It may run twice."""
    database.execute_sql(_ENQUEUE_EXPIRING, {"until": now + EXPIRING_WITHIN, "now": now})


def enqueue_shared(database: Database, zone: ZoneInfo, now: datetime) -> None:
    """Add messages of the cards that look shared, for the webhooks that have none of the card. It may run twice."""
    if not Webhook.select().where(Webhook.topics.contains(Topic.SHARED)).exists():
        return  # the report reads much
    shared = {
        card.card_id: json.dumps({"last_24_hours": card.lately._asdict(), "last_7_days": card.whole._asdict()})
        for card in abuse_report.shown_cards(now, zone)[:MAX_WAITING]
    }
    if shared:
        values = {"cards": [*shared], "data": [*shared.values()], "now": now}
        database.execute_sql(_ENQUEUE_SHARED, values)


def prune(database: Database, now: datetime) -> None:
    """Give up messages that are too old, and delete old ones that are done."""
    is_old = WebhookOutbox.next_at.is_null(is_null=False) & (WebhookOutbox.created_at < now - GIVEN_UP_AFTER)
    WebhookOutbox.update(next_at=None, failed_at=now).where(is_old).execute()
    database.execute_sql(_PRUNE, {"before": now - KEPT, "most": MAX_KEPT})


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
        "program": None if card is None else card.program,
        "batch": None if card is None else card.batch,
        "expires_at": None if card is None else local(card.expires_at, zone),
    }
