"""Webhooks, as owners see and change them."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from app.clock import Clock
from app.domain.codes import EventKind
from app.domain.operators import check_name
from app.domain.texts import RefusedError
from app.domain.webhooks import EXPIRING_WITHIN, MAX_WEBHOOKS, Topic, read_topics, read_url
from app.services import webhook_messages
from app.services.ceilings import Limits
from app.services.formatting import escaped
from app.storage import journal, models, webhook_progress, webhooks
from app.storage.database import Database
from app.tokens.sealing_key import SealingKey
from app.tokens.webhooks import new_secret

PAGE_ROWS = 50
_ID_BYTES = 10
Changes = dict[str, object]


class WebhookNotFoundError(RefusedError):
    """There is no webhook of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"没有名为 {escaped(name)} 的 Webhook", f"there is no webhook {escaped(name)}")


class Webhook(NamedTuple):
    """A webhook. `waiting` messages are not delivered yet; `dropped` ones found no place."""

    id: int
    name: str
    url: str
    topics: tuple[str, ...]
    created_at: datetime
    paused_at: datetime | None
    failures: int
    next_request_at: datetime
    waiting: int
    dropped: int


class Message(NamedTuple):
    """A message. It waits while `next_at` is set; `status` and `error` are the last attempt's."""

    row: int
    id: str
    topic: str
    card_id: str | None
    body: str
    created_at: datetime
    next_at: datetime | None
    attempts: int
    attempted_at: datetime | None
    delivered_at: datetime | None
    failed_at: datetime | None
    status: int | None
    error: str | None


def new_message_id() -> str:
    """Return the ID of a message, which stays the same however often it is sent."""
    return f"msg_{secrets.token_hex(_ID_BYTES)}"


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The webhooks of one database. `actor` is the name in the journal of the person who makes the changes.

    In the console `limits` are the operator's: each journalled change counts among the cards that they change in a day.
    """

    database: Database
    actor: str
    clock: Clock
    key: SealingKey
    limits: Limits | None = None

    def list(self) -> tuple[Webhook, ...]:
        """Return all webhooks by name."""
        rows, waiting = self.database.with_connection(lambda: (webhooks.by_name(), webhooks.waiting()))
        return tuple(
            Webhook(
                *(row.id, row.name, row.url, tuple(row.topics), row.created_at, row.paused_at),
                *(row.failures, row.next_request_at, waiting.get(row.id, 0), row.dropped),
            )
            for row in rows
        )

    def find(self, name: str) -> Webhook:
        """Return a webhook.

        Raises:
            WebhookNotFoundError: there is none of that name.
        """
        found = next((each for each in self.list() if each.name == name), None)
        if found is None:
            raise WebhookNotFoundError(name)
        return found

    def add(self, name: str, url: str, topics: Sequence[str]) -> str:
        """Add a webhook; return its secret, for the only time.

        Raises:
            RefusedError: the name is invalid or taken, the URL or a topic is invalid, or there are too many.
        """
        check_name(name)
        read_url(url)
        wanted = read_topics(topics)
        secret, now = new_secret(), self.clock()

        def write() -> None:
            with self.database.atomic():
                webhooks.lock_additions(self.database)
                others = webhooks.by_name()
                if len(others) >= MAX_WEBHOOKS:
                    raise RefusedError(
                        f"最多 {MAX_WEBHOOKS} 个 Webhook", f"there can be at most {MAX_WEBHOOKS} webhooks"
                    )
                added = webhooks.add(name, url, wanted, now)
                if added is None:
                    raise RefusedError(f"已有名为 {name} 的 Webhook", f"there is a webhook {name} already")
                webhooks.change(added.id, secret=self.key.seal("webhook", added.id, secret))
                if not others:
                    webhook_progress.begin(journal.highest_event(), now + EXPIRING_WITHIN, now)
                details: Changes = {"webhook": name, "url": url, "topics": [*wanted]}
                self._journal(EventKind.WEBHOOK_ADDED, details, now)

        self.database.with_connection(write, once=True)
        return secret

    def set_paused(self, name: str, *, paused: bool) -> None:
        """Pause or resume a webhook. While it is paused nothing is sent, and nothing new is noted for it.

        Raises:
            WebhookNotFoundError: there is none of that name.
        """

        def write(webhook: models.Webhook, now: datetime) -> Changes | None:
            if (webhook.paused_at is not None) is paused:
                return None
            webhooks.change(webhook.id, paused_at=now if paused else None, failures=0, next_request_at=now)
            return {"paused": paused}

        self._change(name, EventKind.WEBHOOK_CHANGED, write)

    def renew_secret(self, name: str) -> str:
        """Give a webhook a new secret, at once; return it, for the only time.

        Raises:
            WebhookNotFoundError: there is none of that name.
        """
        secret = new_secret()

        def write(webhook: models.Webhook, _now: datetime) -> Changes:
            webhooks.change(webhook.id, secret=self.key.seal("webhook", webhook.id, secret))
            return {"changed": "secret"}

        self._change(name, EventKind.WEBHOOK_CHANGED, write)
        return secret

    def remove(self, name: str) -> None:
        """Remove a webhook and its messages.

        Raises:
            WebhookNotFoundError: there is none of that name.
        """

        def write(webhook: models.Webhook, _now: datetime) -> Changes:
            webhooks.remove(webhook.id)
            return {"url": webhook.url}

        self._change(name, EventKind.WEBHOOK_REMOVED, write)

    def test(self, name: str) -> str:
        """Have a test message sent; return its ID.

        Raises:
            WebhookNotFoundError: there is none of that name.
            RefusedError: it is paused.
        """
        message_id = new_message_id()

        def write(webhook: models.Webhook, now: datetime) -> Changes:
            if webhook.paused_at is not None:
                raise RefusedError("已暂停：请先恢复", "it is paused: resume it first")
            body = webhook_messages.document(Topic.TEST, now, {})
            row = webhook_messages.row(webhook.id, message_id, f"test:{message_id}", Topic.TEST, body, now)
            webhooks.enqueue([row])
            return {"sent": message_id}

        self._change(name, EventKind.WEBHOOK_CHANGED, write)
        return message_id

    def send_again(self, name: str, message_id: str) -> None:
        """Have a message sent again that was delivered or given up, under the same ID.

        Raises:
            WebhookNotFoundError: there is none of that name.
            RefusedError: the webhook has no such message, or it is waiting.
        """

        def write(webhook: models.Webhook, now: datetime) -> Changes:
            if not webhooks.again(webhook.id, message_id, now):
                raise RefusedError(
                    "没有这条消息，或者它正等待发送", "there is no such message, or it is waiting to be sent"
                )
            return {"sent": message_id}

        self._change(name, EventKind.WEBHOOK_CHANGED, write)

    def messages(self, webhook: Webhook, below: int | None = None) -> tuple[Message, ...]:
        """Return up to `PAGE_ROWS` messages, the newest first, below a `row` where one is given."""
        found = self.database.with_connection(lambda: webhooks.page(webhook.id, below, PAGE_ROWS))
        return tuple(
            Message(
                *(row.id, row.message_id, row.topic, row.card_id, row.body, row.created_at, row.next_at),
                *(row.attempts, row.attempted_at, row.delivered_at, row.failed_at, row.status, row.error),
            )
            for row in found
        )

    def _change(self, name: str, kind: EventKind, change: Callable[[models.Webhook, datetime], Changes | None]) -> None:
        """Change a webhook and journal the changes, in one transaction; None is not journalled."""

        def write() -> None:
            with self.database.atomic():
                now = self.clock()
                webhook = webhooks.lock(name) if name.isprintable() else None  # PostgreSQL refuses a NUL
                if webhook is None:
                    raise WebhookNotFoundError(name)
                changes = change(webhook, now)
                if changes is not None:
                    details: Changes = {"webhook": name, **changes}
                    self._journal(kind, details, now)

        self.database.with_connection(write, once=True)

    def _journal(self, kind: EventKind, details: Changes, now: datetime) -> None:
        """Journal a change in the caller's transaction.

        Raises:
            app.domain.ceilings.CeilingExceededError: `limits` allow no more today.
        """
        if self.limits is not None:
            self.limits.take_changes(1, now)
        journal.append([journal.Entry(at=now, kind=kind, actor=self.actor, details=details)])
