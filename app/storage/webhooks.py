"""Webhooks and their outbox, to which triggers on the journal add messages, too (migration 0005)."""

from datetime import datetime

from peewee import fn

from app.domain.webhooks import Topic
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
# The webhook's row, locked by the caller, keeps two processes from counting the same rows.
_DROP_EXCESS = """
WITH dropped AS (
    DELETE FROM webhook_outbox WHERE id IN (
        SELECT id FROM webhook_outbox
        WHERE webhook_id = %(webhook)s AND next_at IS NOT NULL AND topic <> 'webhook.test' ORDER BY id OFFSET %(most)s
    )
    RETURNING id
)
UPDATE webhook SET dropped = dropped + (SELECT count(*) FROM dropped) WHERE id = %(webhook)s
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
_is_waiting = WebhookOutbox.next_at.is_null(is_null=False)


def lock_additions() -> None:
    """Keep others from adding webhooks until the caller's transaction ends, even where there is none yet.

    This mode excludes itself, but no changes of rows: deliveries go on.
    """
    database.execute_sql("LOCK TABLE webhook IN SHARE UPDATE EXCLUSIVE MODE")


def add(**values: object) -> Webhook | None:
    """Add a webhook, without a secret yet; return None if the name is taken."""
    added = list(Webhook.insert(secret="", **values).on_conflict_ignore().returning(Webhook).execute())
    return added[0] if added else None


def lock(name: str) -> Webhook | None:
    """Lock a webhook in the caller's transaction; return None if there is none of that name.

    The triggers on the journal do not wait for this lock.
    """
    found: Webhook | None = Webhook.select().where(Webhook.name == name).for_update("FOR NO KEY UPDATE").first()
    return found


def by_name() -> list[Webhook]:
    """Return all webhooks by name, each with the number of its messages that are `waiting`."""
    of_each = (WebhookOutbox.webhook == Webhook.id) & _is_waiting
    waiting = WebhookOutbox.select(fn.COUNT(WebhookOutbox.id)).where(of_each)
    return list(Webhook.select(Webhook, waiting.alias("waiting")).order_by(Webhook.name))


def change(webhook_id: int, **values: object) -> None:
    """Set columns of a webhook."""
    Webhook.update(**values).where(Webhook.id == webhook_id).execute()


def remove(webhook_id: int) -> None:
    """Remove a webhook with its messages."""
    Webhook.delete().where(Webhook.id == webhook_id).execute()


def enqueue_test(webhook_id: int, now: datetime) -> str:
    """Add a test message; return its ID."""
    values = {"webhook": webhook_id, "topic": Topic.TEST, "created_at": now, "next_at": now}
    return str(WebhookOutbox.insert(values).returning(WebhookOutbox.message_id).execute()[0].message_id)


def enqueue_expiring(until: datetime, now: datetime) -> None:
    """Add messages of the cards in use that expire up to `until`, later than each webhook was told of before."""
    database.execute_sql(_ENQUEUE_EXPIRING, {"until": until, "now": now})


def enqueue_shared(data: dict[str, str], now: datetime) -> None:
    """Add messages of these cards, with `data` in JSON, for the webhooks that have none of the card any more."""
    if data:
        database.execute_sql(_ENQUEUE_SHARED, {"cards": [*data], "data": [*data.values()], "now": now})


def drop_excess(most: int) -> None:
    """Delete and count the messages of each webhook for which there is no place, the newest, but for tests."""
    for webhook in by_name():
        if webhook.waiting > most:
            with database.atomic():
                if lock(webhook.name) is not None:
                    database.execute_sql(_DROP_EXCESS, {"webhook": webhook.id, "most": most})


def claim(now: datetime, lease: datetime) -> tuple[WebhookOutbox, Card | None] | None:
    """Claim the next message that is due; return it with its webhook, and its card; None if none is due."""
    claimed = database.execute_sql(_CLAIM, {"now": now, "lease": lease}).fetchone()
    if claimed is None:
        return None
    query = WebhookOutbox.select(WebhookOutbox, Webhook).join(Webhook).where(WebhookOutbox.id == claimed[0])
    message = query.first()
    return None if message is None else (message, Card.get_or_none(Card.id == message.card_id))


def finish(message: WebhookOutbox, **values: object) -> None:
    """Set what became of an attempt, unless the message was claimed again meanwhile."""
    same = (WebhookOutbox.id == message.id) & (WebhookOutbox.attempts == message.attempts)
    WebhookOutbox.update(**values).where(same).execute()


def again(webhook_id: int, message_id: str, now: datetime) -> bool:
    """Have a message sent again; return False if the webhook has none of this ID that is not waiting."""
    done = WebhookOutbox.next_at.is_null() & (WebhookOutbox.message_id == message_id)
    values = {"next_at": now, "created_at": now, "attempts": 0, "failed_at": None, "delivered_at": None}
    return bool(WebhookOutbox.update(values).where(done & (WebhookOutbox.webhook == webhook_id)).execute())


def page(webhook_id: int, below: int | None, limit: int) -> list[WebhookOutbox]:
    """Return a webhook's messages with an ID below `below`, the newest first."""
    where = WebhookOutbox.webhook == webhook_id
    if below is not None:
        where &= WebhookOutbox.id < below
    return list(WebhookOutbox.select().where(where).order_by(WebhookOutbox.id.desc()).limit(limit))


def give_up(before: datetime, now: datetime) -> int:
    """Give up the messages that have waited since before `before`; return how many."""
    old = _is_waiting & (WebhookOutbox.created_at < before)
    count: int = WebhookOutbox.update(next_at=None, failed_at=now).where(old).execute()
    return count


def prune(before: datetime, most: int) -> int:
    """Delete messages that are done: those from before `before`, and all but the newest of a webhook and topic."""
    count: int = database.execute_sql(_PRUNE, {"before": before, "most": most}).rowcount
    return count
