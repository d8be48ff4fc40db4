"""Webhooks: what operators do with them, which events they are told, once each, and what becomes of the messages."""
# Owns webhook-topics, webhook-delivery.

import contextlib
import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from app.domain.codes import Code, EventKind
from app.domain.texts import RefusedError
from app.domain.webhooks import MAX_WAITING, MAX_WEBHOOKS, Sent
from app.services.webhooks import webhook_delivery, webhook_outbox
from app.services.webhooks.webhook_delivery import LEASE, Delivery
from app.storage.database import Database
from app.storage.models import Card, Event, Webhook, WebhookOutbox
from app.tokens.sealing_key import SealingKey
from tests.conftest import Clock
from tests.integration.conftest import with_keys
from tests.support.concurrency import outcomes_at_once
from tests.support.licence.bound_cards import Environment, change
from tests.support.query_plans import statements
from tests.support.secrets import SEALING
from tests.support.services.service import Service, question, wait_for, wait_for_waiting
from tests.support.webhooks import OK, URL, ZONE, Hooks, example, receiving

pytestmark = pytest.mark.apart  # services deliver, too


@pytest.fixture
def hooks(database: Database, clock: Clock) -> Hooks:
    return Hooks(database, clock)


def test_two_processes_claim_two_messages(hooks: Hooks) -> None:
    hooks.add()
    for _ in range(2):
        hooks.journal(hooks.card())
    in_flight: list[str] = []

    def send(_url: str, headers: Mapping[str, str], _body: bytes) -> Sent:
        in_flight.append(headers["webhook-id"])
        if len(in_flight) == 1:  # meanwhile another process looks
            assert [hooks.delivery.deliver(), hooks.delivery.deliver()] == [True, False]
        return OK

    assert Delivery(hooks.database, ZONE, hooks.clock, SEALING, send).deliver()
    assert len({*in_flight, *(headers["webhook-id"] for _, headers, _ in hooks.sent)}) == 2
    assert all(each.delivered_at for each in hooks.messages())


def test_a_message_of_a_process_that_died_is_sent_by_another(hooks: Hooks) -> None:
    hooks.add_with_message()

    def die(*_: object) -> Sent:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Delivery(hooks.database, ZONE, hooks.clock, SEALING, die).deliver()
    assert hooks.deliver() == 0
    hooks.clock.advance(LEASE)
    assert hooks.deliver() == 1
    assert hooks.message().attempts == 2


def test_a_failed_message_is_tried_again_and_its_address_rests(hooks: Hooks) -> None:
    hooks.add()
    for _ in range(2):
        hooks.journal(hooks.card())
    hooks.answer = Sent(500, "out of order")
    assert hooks.deliver() == 1, "the address rests"
    failed = next(each for each in hooks.messages() if each.attempts)
    soon = hooks.clock.now + timedelta(seconds=10)
    assert (failed.status, failed.error, failed.next_at) == (500, "out of order", soon)
    assert hooks.owned.find("shop").failures == 1
    hooks.clock.advance(timedelta(seconds=10))
    hooks.answer = OK
    assert (hooks.deliver(), hooks.owned.find("shop").failures) == (2, 0)
    assert len({headers["webhook-id"] for _, headers, _ in hooks.sent}) == 2, "under the same ID"


def test_a_message_is_given_up_after_three_days_and_later_deleted(hooks: Hooks) -> None:
    hooks.add_with_message()
    with pytest.raises(RefusedError):  # not sent yet
        hooks.owned.send_again("shop", hooks.message().message_id)
    hooks.answer, begun = Sent(None, "no answer in time"), hooks.clock.now
    while hooks.message().failed_at is None:
        hooks.clock.advance(timedelta(hours=1))
        hooks.deliver()
        assert hooks.clock.now <= begun + timedelta(hours=72)
    assert (hooks.clock.now > begun + timedelta(hours=24), hooks.message().next_at) == (True, None)
    hooks.answer = OK
    hooks.owned.send_again("shop", hooks.message().message_id)
    hooks.clock.advance(timedelta(hours=1))
    hooks.deliver()
    assert hooks.message().delivered_at
    assert len({headers["webhook-id"] for _, headers, _ in hooks.sent}) == 1, "under its ID"
    hooks.journal(hooks.card())
    hooks.clock.advance(timedelta(days=3, seconds=1))
    webhook_outbox.prune(hooks.database, hooks.clock.now)
    assert hooks.messages()[0].failed_at == hooks.clock.now, "it found no turn"
    hooks.clock.advance(webhook_outbox.KEPT)
    webhook_outbox.prune(hooks.database, hooks.clock.now)
    assert not hooks.messages()


def test_an_address_that_is_gone_is_paused(hooks: Hooks) -> None:
    hooks.add_with_message()
    hooks.answer = Sent(410, None)
    hooks.deliver()
    assert hooks.owned.find("shop").paused_at == hooks.message().failed_at == hooks.clock.now
    entry = Event.select().order_by(Event.id.desc()).get()
    assert (entry.kind, entry.actor, entry.details["paused"]) == ("webhook_changed", "service", True)


def test_the_thread_goes_on(hooks: Hooks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    turns = iter([ValueError("A string literal cannot contain NUL (0x00) characters."), ValueError(), SystemExit()])

    def fail(*_: object) -> None:
        raise next(turns)

    monkeypatch.setattr(Delivery, "turn", fail)
    monkeypatch.setattr(webhook_delivery.time, "sleep", lambda _: None)
    with pytest.raises(SystemExit):
        webhook_delivery._run(hooks.delivery)  # noqa: SLF001  # the thread's whole life
    assert caplog.text.count("delivering webhooks failed") == 2


@pytest.mark.usefixtures("database")
def test_an_activation_is_told_by_the_running_service(database_url: str, tmp_path: Path) -> None:
    secrets: dict[str, str] = {}
    with receiving(tmp_path, secrets) as (port, certificate, messages):
        settings = {"SSL_CERT_FILE": str(certificate), "KADUN_WEBHOOK_PRIVATE": "true"}
        with Service(with_keys(tmp_path), database_url, **settings) as service:
            add = ("webhook", "add", "shop", f"https://localhost:{port}/hook", "--topic", "card.activated")
            secrets["secret"] = service.cardctl(*add).stdout.strip()
            (card_id,) = service.issue()
            assert service.verify(question(card_id)).status == 200
            (message,) = wait_for(lambda: messages)
            assert (message["type"], message["data"]["card"]) == ("card.activated", f"{card_id[:4]}•••")
            log = ("webhook", "log", "shop")
            (logged,) = wait_for(lambda: [each for each in service.cardctl_json(*log) if each["status"]])
            assert (logged["status"], logged["attempts"], logged["error"]) == (204, 1, None)
            message_id = service.cardctl("webhook", "test", "shop").stdout.strip()
            assert wait_for(lambda: messages[1:])[0]["type"] == "webhook.test"
            wait_for(lambda: service.cardctl_json(*log)[0]["delivered_at"])
            service.cardctl("webhook", "again", "shop", message_id)
            assert card_id not in Path(service.folder / "service.log").read_text()


def test_the_commands_change_a_webhook_and_are_journalled(offline: Service) -> None:
    def add(name: str, url: str) -> tuple[str, ...]:
        return ("webhook", "add", name, url, "--topic", "card.mismatch")

    secret = offline.cardctl(*add("shop", URL)).stdout.strip()
    assert secret.startswith("whsec_")
    assert "there is a webhook shop already" in offline.refusal(*add("shop", URL))
    for command, is_paused in (("pause", True), ("pause", True), ("resume", False)):
        offline.cardctl("webhook", command, "shop")
        (listed,) = offline.cardctl_json("webhook", "list")
        assert (listed["name"], listed["topics"], listed["dropped"]) == ("shop", ["card.mismatch"], 0)
        assert bool(listed["paused_at"]) is is_paused
    assert offline.cardctl("webhook", "secret", "shop").stdout.strip() != secret
    offline.cardctl("webhook", "remove", "shop")
    assert offline.cardctl_json("webhook", "list") == []
    offline.refusal("webhook", "remove", "shop")
    entries = Event.select(Event.kind, Event.details).order_by(Event.id).tuples()
    assert list(entries) == [
        ("webhook_added", {"webhook": "shop", "url": URL, "topics": ["card.mismatch"]}),
        ("webhook_changed", {"webhook": "shop", "paused": True}),
        ("webhook_changed", {"webhook": "shop", "paused": False}),
        ("webhook_changed", {"webhook": "shop", "changed": "secret"}),
        ("webhook_removed", {"webhook": "shop", "url": URL}),
    ]
    assert {event.actor[:8] for event in Event.select()} == {"cardctl:"}


def test_of_webhooks_added_at_once_none_is_beyond_the_limit(hooks: Hooks, database_url: str) -> None:
    with pytest.raises(RefusedError, match="one of the topics"):
        hooks.owned.add("a", URL, [])
    for number in range(MAX_WEBHOOKS - 1):
        hooks.add(name=f"hook {number}")
    adds = [partial(hooks.add, name=name) for name in "ab"]
    with contextlib.closing(psycopg2.connect(database_url)) as other, ThreadPoolExecutor(1) as pool:
        other.cursor().execute("LOCK TABLE webhook IN SHARE UPDATE EXCLUSIVE MODE")
        adding = pool.submit(outcomes_at_once, hooks.database, adds, RefusedError)
        wait_for_waiting(hooks.database, 2)
        other.commit()
        assert adding.result().count(RefusedError) == 1
    assert Webhook.select().count() == MAX_WEBHOOKS


def test_a_secret_is_stored_sealed_replaced_at_once_and_one_that_does_not_open_is_said(hooks: Hooks) -> None:
    old = hooks.add()
    assert old not in Webhook.get().secret
    new = hooks.owned.renew_secret("shop")
    hooks.owned.test("shop")
    assert Delivery(hooks.database, ZONE, hooks.clock, SealingKey("a5" * 32), hooks.send).deliver()
    assert not hooks.sent
    assert "make a new one: cardctl webhook secret" in str(hooks.message().error)
    hooks.clock.advance(timedelta(minutes=1))
    hooks.deliver()
    ((_, headers, body),) = hooks.sent
    now = hooks.clock.now.timestamp()
    assert example().verify(new, headers, body, now)
    assert example().verify(old, headers, body, now) is None


def test_an_activation_is_told_with_a_masked_key(hooks: Hooks) -> None:
    secret, card_id = hooks.add(), hooks.card()
    Card.update(batch="spring", note="secret note").execute()
    hooks.journal(card_id)
    assert [hooks.deliver(), hooks.deliver()] == [1, 0], "once"
    ((url, headers, body),) = hooks.sent
    message = example().verify(secret, headers, body, hooks.clock.now.timestamp())
    assert (url, message["type"]) == (URL, "card.activated")
    assert datetime.fromisoformat(message["timestamp"]) == hooks.clock.now
    expires_at = (hooks.clock.now + timedelta(days=30)).astimezone(ZONE).isoformat()
    shown = {"card": f"{card_id[:4]}•••", "card_sha256": hashlib.sha256(card_id.encode()).hexdigest()}
    assert message["data"] == {**shown, "program": "main", "batch": "spring", "expires_at": expires_at}
    assert card_id not in body.decode()
    told = hooks.message()
    assert (told.card_id, told.delivered_at, told.attempts, told.status) == (card_id, hooks.clock.now, 1, 204)


def test_of_an_imported_key_nothing_is_told_that_a_guess_could_be_checked_by(hooks: Hooks) -> None:
    hooks.add()
    card_id = hooks.card()
    Card.update(imported_key="123456", batch="spring").execute()
    hooks.journal(card_id, reference="ABCDEFGH")
    hooks.journal("7Q3M" + "0" * 28)  # a card that is gone may have been imported
    hooks.deliver()
    imported, gone = (body["data"] for body in hooks.bodies)
    assert (imported["batch"], imported["reference"]) == ("spring", "ABCDEFGH")
    assert (imported["card"], imported["card_sha256"]) == (None, None)
    assert gone == dict.fromkeys(("card", "card_sha256", "program", "batch", "expires_at"))


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
        webhook_outbox.enqueue_shared(hooks.database, ZONE, hooks.clock.now)
    assert len(ran) == 3, "a worker asks what finds no place and what is due, the periodic task who wants the report"


def test_an_entry_neither_waits_for_a_change_of_a_webhook_nor_fails(hooks: Hooks, database_url: str) -> None:
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

    def share() -> None:
        for before, after in pairwise([Environment(f"m{number}", "198.51.100.1") for number in range(-1, 10)]):
            change(card_id, before, after, hooks.clock.now)

    share()
    hooks.clock.advance(timedelta(minutes=10))
    assert hooks.tell() == 1
    hooks.deliver()
    (body,) = hooks.bodies
    assert (body["type"], body["data"]["card"]) == ("card.shared", f"{card_id[:4]}•••")
    assert body["data"]["last_24_hours"]["machines"] == body["data"]["last_7_days"]["machines"] == 11
    assert hooks.tell() == 0
    for days in (6, 2):
        hooks.clock.advance(timedelta(days=days))
        webhook_outbox.prune(hooks.database, hooks.clock.now)
        assert hooks.tell() == 0
    share()
    assert hooks.tell() == 1
