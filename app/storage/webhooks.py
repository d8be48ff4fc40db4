"""The outbox of webhooks, to which triggers on the journal add messages, too (migration 0005)."""

from datetime import datetime

from app.storage.models import Card, Webhook, WebhookOutbox, database

# FOR UPDATE SKIP LOCKED: of several processes each claims another message. Until the lease ends, none claims it again.
_CLAIM = """
UPDATE webhook_outbox SET attempts = attempts + 1, attempted_at = %(now)s, next_at = %(lease)s
WHERE id = (
    SELECT message.id FROM webhook_outbox AS message JOIN webhook ON webhook.id = message.webhook_id
    WHERE message.next_at <= %(now)s AND webhook.paused_at IS NULL AND webhook.next_request_at <= %(now)s
    ORDER BY webhook.next_request_at, message.attempts, message.next_at LIMIT 1
    FOR UPDATE OF message SKIP LOCKED
)
RETURNING id
"""
# The lock on a webhook keeps two processes from counting the same messages. Somebody waits for a test.
_DROP_EXCESS = """
WITH locked AS (
    SELECT id FROM webhook WHERE id IN (
        SELECT webhook_id FROM webhook_outbox WHERE next_at IS NOT NULL GROUP BY webhook_id HAVING count(*) > %(most)s
    )
    FOR NO KEY UPDATE SKIP LOCKED
), waiting AS (
    SELECT message.id, row_number() OVER (PARTITION BY webhook_id ORDER BY message.id) AS place
    FROM webhook_outbox AS message JOIN locked ON locked.id = webhook_id
    WHERE next_at IS NOT NULL AND topic <> 'webhook.test'
), dropped AS (
    DELETE FROM webhook_outbox WHERE id IN (SELECT id FROM waiting WHERE place > %(most)s) RETURNING webhook_id
)
UPDATE webhook SET dropped = dropped + (SELECT count(*) FROM dropped WHERE webhook_id = webhook.id)
WHERE id IN (SELECT webhook_id FROM dropped)
"""
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


def claim(now: datetime, lease: datetime) -> tuple[WebhookOutbox, Card | None] | None:
    """Claim the next message that is due; return it with its webhook, and its card; None if none is due."""
    claimed = database.execute_sql(_CLAIM, {"now": now, "lease": lease}).fetchone()
    if claimed is None:
        return None
    query = WebhookOutbox.select(WebhookOutbox, Webhook).join(Webhook).where(WebhookOutbox.id == claimed[0])
    message = query.first()
    return None if message is None else (message, Card.get_or_none(Card.id == message.card_id))


def drop_excess(most: int) -> None:
    """Delete and count the messages of each webhook for which there is no place, the newest, but for tests."""
    database.execute_sql(_DROP_EXCESS, {"most": most})


def enqueue_expiring(until: datetime, now: datetime) -> None:
    """Add messages of the cards in use that expire up to `until`, later than each webhook was told of before."""
    database.execute_sql(_ENQUEUE_EXPIRING, {"until": until, "now": now})


def enqueue_shared(data: dict[str, str], now: datetime) -> None:
    """Add messages of these cards, with `data` in JSON, for the webhooks that have none of the card any more."""
    if data:
        database.execute_sql(_ENQUEUE_SHARED, {"cards": [*data], "data": [*data.values()], "now": now})


def prune(before: datetime, most: int) -> None:
    """Delete messages that are done: those from before `before`, and all but the newest of a webhook and topic."""
    database.execute_sql(_PRUNE, {"before": before, "most": most})
