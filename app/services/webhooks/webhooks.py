"""Webhooks, as owners see and change them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from peewee import fn

from app.domain.codes import EventKind
from app.domain.operators.operators import check_name
from app.domain.texts import RefusedError
from app.domain.webhooks import EXPIRING_WITHIN, MAX_WEBHOOKS, Topic, read_topics, read_url
from app.runtime.clock import Clock
from app.services.formatting import escaped
from app.services.operators.ceilings import OwnerLimits
from app.storage import journal
from app.storage.database import Database
from app.storage.models import Webhook as Webhook  # noqa: PLC0414  # what pages get
from app.storage.models import WebhookOutbox
from app.tokens.sealing_key import SealingKey
from app.tokens.webhooks import new_secret

PAGE_ROWS = 50
Changes = dict[str, object]


class WebhookNotFoundError(RefusedError):
    """There is no webhook of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"没有名为 {escaped(name)} 的 Webhook", f"there is no webhook {escaped(name)}")


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The webhooks of one database. `actor` is the name in the journal of the person who makes the changes.

    In the console `limits` are the operator's: each journalled change counts among the cards that they change in a day.
    Methods that take a `name`, `add` apart, raise WebhookNotFoundError where there is none of that name.
    """

    database: Database
    actor: str
    clock: Clock
    key: SealingKey
    limits: OwnerLimits | None = None

    def list(self) -> Sequence[Webhook]:
        """Return all webhooks by name, each with the number of its messages that are `waiting`."""
        of_each = (WebhookOutbox.webhook == Webhook.id) & WebhookOutbox.next_at.is_null(is_null=False)
        waiting = WebhookOutbox.select(fn.COUNT(WebhookOutbox.id)).where(of_each).alias("waiting")
        return list(Webhook.select(Webhook, waiting).order_by(Webhook.name))

    def find(self, name: str) -> Webhook:
        """Return a webhook."""
        found = next((each for each in self.list() if each.name == name), None)
        if found is None:
            raise WebhookNotFoundError(name)
        return found

    def add(self, name: str, url: str, topics: Sequence[str]) -> str:
        """Add a webhook; return its secret, for the only time. Raise RefusedError if something of it is invalid."""
        check_name(name)
        read_url(url)
        wanted = read_topics(topics)
        secret, now = new_secret(), self.clock()
        times = {"created_at": now, "next_request_at": now, "expiring_until": now + EXPIRING_WITHIN}
        insert = Webhook.insert(name=name, url=url, topics=wanted, secret="", **times).on_conflict_ignore()

        with self.database.transact():
            # It excludes itself, even where there is no webhook yet, but no changes of rows: deliveries go on.
            self.database.execute_sql("LOCK TABLE webhook IN SHARE UPDATE EXCLUSIVE MODE")
            if Webhook.select().count() >= MAX_WEBHOOKS:
                raise RefusedError(f"最多 {MAX_WEBHOOKS} 个 Webhook", f"there can be at most {MAX_WEBHOOKS} webhooks")
            added = list(insert.returning(Webhook.id).execute())
            if not added:
                raise RefusedError(f"已有名为 {name} 的 Webhook", f"there is a webhook {name} already")
            Webhook.set_by_id(added[0].id, {"secret": self.key.seal("webhook", added[0].id, secret)})
            details: Changes = {"webhook": name, "url": url, "topics": [*wanted]}
            self._journal(EventKind.WEBHOOK_ADDED, details, now)
        return secret

    def set_paused(self, name: str, *, paused: bool) -> None:
        """Pause or resume a webhook. While it is paused nothing is sent, and nothing new is noted for it."""
        with self._changing(name) as (webhook, now, changes):
            if (webhook.paused_at is not None) is not paused:
                values = {"paused_at": now if paused else None, "failures": 0, "next_request_at": now}
                Webhook.set_by_id(webhook.id, values)
                changes["paused"] = paused

    def renew_secret(self, name: str) -> str:
        """Give a webhook a new secret, at once; return it, for the only time."""
        secret = new_secret()
        with self._changing(name) as (webhook, _now, changes):
            Webhook.set_by_id(webhook.id, {"secret": self.key.seal("webhook", webhook.id, secret)})
            changes["changed"] = "secret"
        return secret

    def remove(self, name: str) -> None:
        """Remove a webhook and its messages."""
        with self._changing(name, EventKind.WEBHOOK_REMOVED) as (webhook, _now, changes):
            webhook.delete_instance()
            changes["url"] = webhook.url

    def test(self, name: str) -> str:
        """Have a test message sent; return its ID. Raise RefusedError if it is paused."""
        with self._changing(name) as (webhook, now, changes):
            if webhook.paused_at is not None:
                raise RefusedError("已暂停：请先恢复", "it is paused: resume it first")
            values = {"webhook": webhook, "topic": Topic.TEST, "created_at": now, "next_at": now}
            (added,) = WebhookOutbox.insert(values).returning(WebhookOutbox.message_id).execute()
            changes["sent"] = added.message_id
        return str(added.message_id)

    def send_again(self, name: str, message_id: str) -> None:
        """Have a delivered or given-up message sent again, under the same ID; RefusedError if there is none."""
        with self._changing(name) as (webhook, now, changes):
            is_it = (WebhookOutbox.webhook == webhook) & (WebhookOutbox.message_id == message_id)
            fresh = {"next_at": now, "created_at": now, "attempts": 0, "failed_at": None, "delivered_at": None}
            if not WebhookOutbox.update(fresh).where(is_it & WebhookOutbox.next_at.is_null()).execute():
                raise RefusedError(
                    "没有这条消息，或者它正等待发送", "there is no such message, or it is waiting to be sent"
                )
            changes["sent"] = message_id

    def messages(self, webhook: Webhook, below: int | None = None) -> Sequence[WebhookOutbox]:
        """Return up to `PAGE_ROWS` messages, the newest first, with an `id` below `below` where that is given."""
        where = WebhookOutbox.webhook == webhook
        if below is not None:
            where &= WebhookOutbox.id < below
        return list(WebhookOutbox.select().where(where).order_by(WebhookOutbox.id.desc()).limit(PAGE_ROWS))

    @contextmanager
    def _changing(
        self, name: str, kind: EventKind = EventKind.WEBHOOK_CHANGED
    ) -> Iterator[tuple[Webhook, datetime, Changes]]:
        """Change a webhook in one transaction, and journal the changes that the block adds; without any, nothing."""
        with self.database.transact():
            now = self.clock()
            # PostgreSQL refuses a NUL; the triggers on the journal do not wait for this lock.
            named = Webhook.select().where(Webhook.name == name).for_update("FOR NO KEY UPDATE")
            webhook = named.first() if name.isprintable() else None
            if webhook is None:
                raise WebhookNotFoundError(name)
            changes: Changes = {}
            yield webhook, now, changes
            if changes:
                self._journal(kind, {"webhook": name, **changes}, now)

    def _journal(self, kind: EventKind, details: Changes, now: datetime) -> None:
        if self.limits is not None:
            self.limits.take_changes(1, now)
        journal.append([journal.Entry(at=now, kind=kind, actor=self.actor, details=details)])
