"""Delivers the messages of webhooks, in a thread of each worker, while no transaction is open."""

import http.client
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

from app.domain.codes import EventKind
from app.domain.webhooks import GIVEN_UP_AFTER, MAX_WAITING, REQUEST_SECONDS, Sent, next_attempt, next_request
from app.runtime.clock import Clock
from app.runtime.settings import Settings
from app.runtime.unix_http import ask
from app.services.webhooks.webhook_outbox import body_of
from app.storage import journal
from app.storage.database import Database
from app.storage.models import Card, Webhook, WebhookOutbox
from app.tokens.sealing_key import SealingKey, SealingKeyError
from app.tokens.webhooks import signed_headers

LOOK_SECONDS = 2.0
_AWAY_SECONDS = 30.0
_PROCESS_SECONDS = REQUEST_SECONDS + 40  # a name may take long to resolve
_MAX_ANSWER_BYTES = 64 * 1024
LEASE = timedelta(minutes=2)
"""Longer than an attempt takes. If its process dies, another one tries the message after that."""
GONE = 410
logger = logging.getLogger(__name__)
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
Sender = Callable[[str, Mapping[str, str], bytes], Sent]
"""Sends a request: `app.webhooks.post` in this process, or `ask_process` where another one can reach the outside."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Delivers the messages of one database."""

    database: Database
    zone: ZoneInfo
    clock: Clock
    key: SealingKey
    send: Sender

    def turn(self) -> None:
        """Deliver all that is due."""
        while self.deliver():
            pass

    def deliver(self) -> bool:
        """Drop what finds no place, and deliver the next message that is due; return False if there is none."""
        now = self.clock()
        # Before each message: under load there may always be one that is due.
        self.database.execute_sql(_DROP_EXCESS, {"most": MAX_WAITING})
        claimed = self.database.execute_sql(_CLAIM, {"now": now, "lease": now + LEASE}).fetchone()
        if claimed is None:
            return False
        query = WebhookOutbox.select(WebhookOutbox, Webhook).join(Webhook).where(WebhookOutbox.id == claimed[0])
        message: WebhookOutbox | None = query.first()
        if message is None:
            return False
        card = Card.get_or_none(Card.id == message.card_id)
        body = message.body or body_of(message, card, self.zone)
        sent = self._send(message, body.encode(), now)
        self._note(message, body, sent, self.clock())
        return True

    def _send(self, message: WebhookOutbox, body: bytes, now: datetime) -> Sent:
        webhook = message.webhook
        try:
            secret = self.key.open("webhook", webhook.id, webhook.secret)
        except SealingKeyError as error:
            return Sent(
                None, f"the webhook's secret cannot be decrypted ({error}): make a new one: cardctl webhook secret"
            )
        headers = {"Content-Type": "application/json", "User-Agent": "Kadun-Webhooks"}
        return self.send(webhook.url, headers | signed_headers(secret, message.message_id, now, body), body)

    def _note(self, message: WebhookOutbox, body: str, sent: Sent, now: datetime) -> None:
        webhook = message.webhook
        # Another process may have claimed the message again meanwhile.
        same = (WebhookOutbox.id == message.id) & (WebhookOutbox.attempts == message.attempts)

        def finish(**values: object) -> None:
            WebhookOutbox.update(body=body, status=sent.status, error=sent.error, **values).where(same).execute()

        with self.database.transact():
            if sent.is_delivered:
                finish(next_at=None, delivered_at=now, failed_at=None)
                Webhook.set_by_id(webhook.id, {"failures": 0, "next_request_at": now})
            elif sent.status == GONE:
                finish(next_at=None, failed_at=now)
                Webhook.set_by_id(webhook.id, {"paused_at": now})
                details = {"webhook": webhook.name, "paused": True, "status": GONE}
                journal.append([journal.Entry(now, EventKind.WEBHOOK_CHANGED, actor="service", details=details)])
            else:
                next_at = next_attempt(message.attempts, now)
                if next_at > message.created_at + GIVEN_UP_AFTER:
                    finish(next_at=None, failed_at=now)
                else:
                    finish(next_at=next_at)
                failures = webhook.failures + 1
                retry = {"failures": failures, "next_request_at": next_request(failures, now)}
                Webhook.set_by_id(webhook.id, retry)


def start(database: Database, settings: Settings, clock: Clock) -> None:
    """Start this worker's thread, which ends with the process."""
    delivery = Delivery(database, settings.timezone, clock, SealingKey(settings.sealing_key), sender(settings))
    threading.Thread(target=_run, args=(delivery,), name="webhooks", daemon=True).start()


def sender(settings: Settings) -> Sender:
    """Return what sends requests: a process that can reach the outside, where the settings name one, or this one."""
    if settings.webhooks_socket is not None:
        return partial(ask_process, settings.webhooks_socket)
    from app.webhooks.post import post  # noqa: PLC0415  # urllib3 takes memory

    return partial(post, allow_private=settings.webhook_private)


def ask_process(socket_path: Path, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
    """Send a POST request through the process behind a socket, as `app.webhooks.post.post` does."""
    asked = msgspec.json.encode({"url": url, "headers": headers, "body": body.decode()})
    try:
        _, answer = ask(socket_path, "POST /send", asked, seconds=_PROCESS_SECONDS, max_bytes=_MAX_ANSWER_BYTES)
        # Not believed without a look: the process deals with the outside.
        return msgspec.json.decode(answer, type=Sent)
    except (OSError, http.client.HTTPException, ValueError, msgspec.MsgspecError) as error:
        return Sent(None, f"the process that sends webhooks does not answer: {error!r}")


def _run(delivery: Delivery) -> None:
    while True:
        time.sleep(LOOK_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311  # so that the workers take turns
        try:
            delivery.turn()
        except Exception:  # the thread must survive any error
            logger.warning("delivering webhooks failed; it is tried again", exc_info=True)
            time.sleep(_AWAY_SECONDS)
