"""What webhooks are told: which events, once each, and what of a card."""
# Owns webhook-topics.

import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg2
import pytest

from app.domain.codes import Code, EventKind
from app.domain.texts import RefusedError
from app.domain.webhooks.webhooks import MAX_WAITING, Sent
from app.services.webhooks import webhook_outbox
from app.services.webhooks.webhook_delivery import Delivery
from app.storage.models import Card, Webhook, WebhookOutbox
from tests.support.hooks import OK, URL, ZONE, Hooks
from tests.support.licence.changes import Environment, change
from tests.support.query_plans import statements
from tests.support.sealing import SEALING
from tests.support.services.service import wait_for_waiting
from tests.support.webhooks import example

pytestmark = pytest.mark.apart  # services deliver, too


def test_an_activation_is_told_with_a_masked_key(hooks: Hooks) -> None:
    secret = hooks.add()
    card_id = hooks.card()
    Card.update(batch="spring", note="secret note").execute()
    hooks.journal(card_id)
    assert hooks.deliver() == 1
    ((url, headers, body),) = hooks.sent
    assert url == URL
    message = example().verify(secret, headers, body, hooks.clock.now.timestamp())
    assert message["type"] == "card.activated"
    assert datetime.fromisoformat(message["timestamp"]) == hooks.clock.now
    data = message["data"]
    assert data.pop("card_sha256") == hashlib.sha256(card_id.encode()).hexdigest()
    expires_at = (hooks.clock.now + timedelta(days=30)).astimezone(ZONE).isoformat()
    assert data == {"card": f"{card_id[:4]}•••", "batch": "spring", "expires_at": expires_at}
    assert card_id not in body.decode()
    told = hooks.message()
    assert (told.card_id, told.delivered_at, told.attempts, told.status) == (card_id, hooks.clock.now, 1, 204)
    assert hooks.deliver() == 0, "once"


def test_of_an_imported_key_nothing_is_told_that_a_guess_could_be_checked_by(hooks: Hooks) -> None:
    hooks.add()
    card_id = hooks.card()
    Card.update(imported_key="123456", batch="spring").execute()
    hooks.journal(card_id, reference="ABCDEFGH")
    hooks.journal("7Q3M" + "0" * 28)  # a card that is gone may have been imported
    hooks.deliver()
    imported, gone = (body["data"] for body in hooks.bodies)
    assert (imported.pop("batch"), imported.pop("reference")) == ("spring", "ABCDEFGH")
    assert (imported.pop("card"), imported.pop("card_sha256")) == (None, None)
    assert gone == {"card": None, "card_sha256": None, "batch": None, "expires_at": None}


def test_each_webhook_is_told_of_its_topics_from_now_on(hooks: Hooks) -> None:
    card_id = hooks.card()
    hooks.journal(card_id)  # before
    hooks.add("card.activated")
    hooks.add("card.mismatch", name="other")
    hooks.journal(card_id)
    hooks.journal(card_id, EventKind.REJECTED, code=Code.CLIENT_MISMATCH, reference="ABCDEFGH")
    hooks.journal("0" * 32, EventKind.REJECTED, code=Code.CARD_NOT_FOUND)
    assert [each.topic for each in hooks.messages()] == ["card.activated"]
    assert [each.topic for each in hooks.messages("other")] == ["card.mismatch"]
    hooks.deliver()
    references = {body["type"]: body["data"].get("reference") for body in hooks.bodies}
    assert references == {"card.activated": None, "card.mismatch": "ABCDEFGH"}, "which leads to its page"


def test_a_paused_webhook_is_told_nothing_and_what_waits_goes_on_later(hooks: Hooks) -> None:
    hooks.add("card.activated", "card.expiring")
    hooks.journal(hooks.card())
    hooks.owned.set_paused("shop", paused=True)
    hooks.journal(hooks.card(expires_in=timedelta(days=3, hours=1)))
    hooks.clock.advance(timedelta(hours=2))
    assert (hooks.tell(), hooks.deliver()) == (0, 0)
    with pytest.raises(RefusedError):
        hooks.owned.test("shop")
    hooks.owned.set_paused("shop", paused=False)
    assert (hooks.tell(), hooks.deliver()) == (0, 1), "what was before"


def test_an_entry_costs_next_to_nothing_where_there_is_no_webhook(hooks: Hooks) -> None:
    insert = "INSERT INTO event (at, kind, code, card_id) VALUES (now(), %s, %s, 'x')"
    for entry, triggers in (
        (("issued", None), {}),
        (("rejected", "CARD_EXPIRED"), {}),
        (("activated", None), {"event_activated": 1}),
        (("rejected", "CLIENT_MISMATCH"), {"event_mismatch": 1}),
    ):
        ((told,),) = hooks.database.execute_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {insert}", entry).fetchall()
        assert {each["Trigger Name"]: each["Calls"] for each in told[0]["Triggers"]} == triggers, entry
    assert WebhookOutbox.select().count() == 0
    with statements(hooks.database) as ran:
        hooks.deliver()
    assert len(ran) == 2, "what a worker asks in each turn: what finds no place, and what is due"
    with statements(hooks.database) as ran:
        webhook_outbox.enqueue_shared(hooks.database, ZONE, hooks.clock.now)
    assert len(ran) == 1, "and the periodic task: who wants the abuse report"


def test_an_entry_neither_waits_for_a_change_of_a_webhook_nor_fails_by_its_removal(
    hooks: Hooks, database_url: str
) -> None:
    hooks.add()

    def begin(statement: str) -> Any:
        connection = psycopg2.connect(database_url, options="-c lock_timeout=5s")
        connection.cursor().execute(statement)
        return connection

    def write() -> None:
        with contextlib.closing(begin("INSERT INTO event (at, kind, card_id) VALUES (now(), 'activated', 'x')")) as own:
            own.commit()

    with hooks.database.atomic():
        hooks.owned.renew_secret("shop")
        write()
    assert WebhookOutbox.select().count() == 1
    with contextlib.closing(begin("DELETE FROM webhook")) as removing, ThreadPoolExecutor(1) as pool:
        written = pool.submit(write)
        wait_for_waiting(hooks.database, 1)
        removing.commit()
        written.result(20)
    assert WebhookOutbox.select().count() == 0, "they are gone with it"


def test_what_finds_no_place_is_counted(hooks: Hooks) -> None:
    hooks.add()
    webhook, now = Webhook.get(), hooks.clock.now
    Webhook.update(next_request_at=now + timedelta(hours=1)).execute()
    hooks.add(name="busy")
    hooks.owned.test("busy")

    def send(*_: object) -> Sent:
        """While one is sent, others come."""
        common = {"webhook": webhook.id, "topic": "card.activated", "created_at": now, "next_at": now}
        WebhookOutbox.insert_many([common] * (MAX_WAITING + 1)).execute()
        hooks.owned.test("shop")
        return OK

    Delivery(hooks.database, ZONE, hooks.clock, SEALING, send).turn()
    found = hooks.owned.find("shop")
    assert (found.waiting, found.dropped) == (MAX_WAITING + 1, 1)
    assert hooks.messages()[0].topic == "webhook.test", "somebody waits for it"


def test_a_card_is_told_when_three_days_are_left(hooks: Hooks) -> None:
    hooks.add("card.expiring")
    hooks.add("card.activated", name="other")
    later = hooks.card(expires_in=timedelta(days=3, hours=1))
    hooks.card(expires_in=timedelta(days=2))
    hooks.card(expires_in=None)
    frozen = hooks.card(expires_in=timedelta(days=3, hours=1))
    Card.update(frozen_at=hooks.clock.now).where(Card.id == frozen).execute()
    assert hooks.tell() == 0, "its owner has seen how long it lasts"
    hooks.clock.advance(timedelta(hours=1))
    assert hooks.tell() == 1
    assert hooks.message().card_id == later
    assert hooks.tell() == 0, "it may run twice"
    hooks.clock.advance(timedelta(hours=1))
    assert hooks.tell() == 0
    hooks.deliver()
    assert hooks.bodies[0]["type"] == "card.expiring"


def test_a_card_that_looks_shared_is_told_once_in_a_week(hooks: Hooks) -> None:
    hooks.add("card.shared")
    card_id = hooks.card()
    machines = [Environment(f"m{number}", "198.51.100.1") for number in range(-1, 10)]
    for before, after in pairwise(machines):
        change(card_id, before, after, hooks.clock.now)
    hooks.clock.advance(timedelta(minutes=10))
    assert hooks.tell() == 1
    hooks.deliver()
    (body,) = hooks.bodies
    assert (body["type"], body["data"]["card"]) == ("card.shared", f"{card_id[:4]}•••")
    assert body["data"]["last_24_hours"]["machines"] == body["data"]["last_7_days"]["machines"] == 11
    assert hooks.tell() == 0
    hooks.clock.advance(timedelta(days=6))
    webhook_outbox.prune(hooks.database, hooks.clock.now)
    assert hooks.tell() == 0
    hooks.clock.advance(timedelta(days=2))
    webhook_outbox.prune(hooks.database, hooks.clock.now)
    for before, after in pairwise(machines):
        change(card_id, before, after, hooks.clock.now)
    assert hooks.tell() == 1
