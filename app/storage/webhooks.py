"""Webhooks and their messages."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from peewee import SQL, Case, fn

from app.storage.database import Database
from app.storage.models import Webhook, WebhookMessage

# FOR UPDATE SKIP LOCKED: of several processes each claims another message. Until the lease ends, none claims it again.
_CLAIM = """
UPDATE webhook_message SET attempts = attempts + 1, attempted_at = %(now)s, next_at = %(lease)s
WHERE id = (
    SELECT message.id FROM webhook_message AS message JOIN webhook ON webhook.id = message.webhook_id
    WHERE message.next_at <= %(now)s AND webhook.paused_at IS NULL AND webhook.next_request_at <= %(now)s
    ORDER BY webhook.next_request_at, message.attempts, message.next_at LIMIT 1
    FOR UPDATE OF message SKIP LOCKED
)
RETURNING id
"""


def lock_additions(database: Database) -> None:
    """Keep others from adding webhooks until the caller's transaction ends, even where there is none yet.

    This mode excludes itself, but no changes of rows: deliveries go on, and a collection that holds the progress, which
    the first webhook begins anew, can still count what it drops.
    """
    database.execute_sql("LOCK TABLE webhook IN SHARE UPDATE EXCLUSIVE MODE")


def add(name: str, url: str, topics: Sequence[str], now: datetime) -> Webhook | None:
    """Add a webhook, without a secret yet; return None if the name is taken."""
    values = {"name": name, "url": url, "topics": list(topics), "secret": "", "created_at": now, "next_request_at": now}
    added = list(Webhook.insert(**values).on_conflict_ignore().returning(Webhook).execute())
    return added[0] if added else None


def lock(name: str) -> Webhook | None:
    """Lock a webhook in the caller's transaction; return None if there is none of that name."""
    found: Webhook | None = Webhook.select().where(Webhook.name == name).for_update().first()
    return found


def by_name() -> list[Webhook]:
    """Return all webhooks by name."""
    return list(Webhook.select().order_by(Webhook.name))


def change(webhook_id: int, **values: object) -> None:
    """Set columns of a webhook."""
    Webhook.update(**values).where(Webhook.id == webhook_id).execute()


def remove(webhook_id: int) -> None:
    """Remove a webhook with its messages."""
    Webhook.delete().where(Webhook.id == webhook_id).execute()


def waiting() -> dict[int, int]:
    """Return how many messages wait, by webhook."""
    query = WebhookMessage.select(WebhookMessage.webhook, fn.COUNT(WebhookMessage.id))
    is_waiting = WebhookMessage.next_at.is_null(is_null=False)
    return dict(query.where(is_waiting).group_by(WebhookMessage.webhook).tuples())


def enqueue(rows: list[dict[str, Any]]) -> int:
    """Add messages; return how many were new: a webhook is told of each `source` once."""
    if not rows:
        return 0
    return len(list(WebhookMessage.insert_many(rows).on_conflict_ignore().returning(WebhookMessage.id).execute()))


def drop(webhook_id: int, count: int) -> None:
    """Count messages for which there was no place."""
    Webhook.update(dropped=Webhook.dropped + count).where(Webhook.id == webhook_id).execute()


def claim(database: Any, now: datetime, lease: datetime) -> WebhookMessage | None:  # noqa: ANN401
    """Claim the next message that is due, with its webhook; None if there is none."""
    claimed = database.execute_sql(_CLAIM, {"now": now, "lease": lease}).fetchone()
    if claimed is None:
        return None
    query = WebhookMessage.select(WebhookMessage, Webhook).join(Webhook).where(WebhookMessage.id == claimed[0])
    found: WebhookMessage | None = query.first()
    return found


def finish(message: WebhookMessage, **values: object) -> bool:
    """Set what became of an attempt, unless the message was claimed again meanwhile; return whether it was set."""
    same = (WebhookMessage.id == message.id) & (WebhookMessage.attempts == message.attempts)
    return bool(WebhookMessage.update(**values).where(same).execute())


def rest(webhook_id: int, failures: int, until: datetime) -> None:
    """Note failures in a row, and let a webhook rest; 0 failures is a success."""
    Webhook.update(failures=failures, next_request_at=until).where(Webhook.id == webhook_id).execute()


def again(webhook_id: int, message_id: str, now: datetime) -> bool:
    """Have a message sent again; return False if the webhook has none of this ID that is not waiting."""
    done = WebhookMessage.next_at.is_null() & (WebhookMessage.message_id == message_id)
    values = {"next_at": now, "created_at": now, "attempts": 0, "failed_at": None, "delivered_at": None}
    return bool(WebhookMessage.update(values).where(done & (WebhookMessage.webhook == webhook_id)).execute())


def page(webhook_id: int, below: int | None, limit: int) -> list[WebhookMessage]:
    """Return a webhook's messages with an ID below `below`, the newest first."""
    where = WebhookMessage.webhook == webhook_id
    if below is not None:
        where &= WebhookMessage.id < below
    return list(WebhookMessage.select().where(where).order_by(WebhookMessage.id.desc()).limit(limit))


def give_up(before: datetime, now: datetime) -> int:
    """Give up the messages that have waited since before `before`; return how many."""
    old = WebhookMessage.next_at.is_null(is_null=False) & (WebhookMessage.created_at < before)
    count: int = WebhookMessage.update(next_at=None, failed_at=now).where(old).execute()
    return count


def prune(before: datetime, keep: int) -> int:
    """Delete messages that are done: those from before `before`, and all but the newest `keep` of a webhook."""
    done = WebhookMessage.next_at.is_null()
    number = fn.ROW_NUMBER().over(partition_by=[WebhookMessage.webhook], order_by=[WebhookMessage.id.desc()])
    is_old = Case(None, [(WebhookMessage.created_at < before, SQL("true"))], SQL("false"))
    rows = WebhookMessage.select(WebhookMessage.id, number.alias("number"), is_old.alias("is_old")).where(done)
    numbered = rows.alias("numbered")
    old = numbered.select_from(numbered.c.id).where((numbered.c.number > keep) | numbered.c.is_old)
    count: int = WebhookMessage.delete().where(WebhookMessage.id.in_(old)).execute()
    return count
