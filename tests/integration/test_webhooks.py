"""Webhooks: what they are told, once each, and what becomes of the messages."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg2
import pytest

from app.domain.codes import Code, Counted, EventKind
from app.domain.texts import RefusedError
from app.domain.webhooks import MAX_WAITING, MAX_WEBHOOKS
from app.services import webhook_delivery
from app.services.doctor import CheckResult, Status
from app.services.housekeeping import MESSAGES_KEPT, prune_webhooks
from app.services.webhook_collection import CHECKED_EVERY, Collection
from app.services.webhook_delivery import LEASE, Delivery, turn
from app.services.webhooks import Message, WebhookNotFoundError, Webhooks
from app.storage import journal
from app.storage.database import Database
from app.storage.models import Card, Event, Webhook, WebhookMessage
from app.tokens.webhooks import WebhookSecrets
from app.webhooks.post import Sent
from tests.conftest import Clock
from tests.support.bound_cards import numbered_id
from tests.support.query_plans import statements
from tests.support.webhooks import example

ZONE = ZoneInfo("Asia/Shanghai")
SEALS = WebhookSecrets("5a" * 32)
URL = "https://shop.example/hook"
OK = Sent(204, None)


class Hooks:
    """The webhooks of a database, and a receiver that answers what a test says."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database, self.clock = database, clock
        self.owned = Webhooks(database, "tester", clock, SEALS)
        self.sent: list[tuple[str, Mapping[str, str], bytes]] = []
        self.answer = OK
        self.problems: dict[str, CheckResult] = {}
        self.collection = Collection(database, ZONE, clock, lambda: self.problems)
        self.delivery = Delivery(database, clock, SEALS, self.send)

    def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        self.sent.append((url, headers, body))
        return self.answer

    def add(self, *topics: str, name: str = "shop") -> str:
        return self.owned.add(name, URL, topics or ("card.activated", "card.mismatch"))

    def collect(self) -> int:
        """Look until the present entries are settled."""
        return sum(self.collection.collect() for _ in range(4))

    def deliver(self) -> int:
        count = 0
        while self.delivery.deliver():
            count += 1
        return count

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.sent]

    def messages(self, name: str = "shop") -> tuple[Message, ...]:
        return self.owned.messages(self.owned.find(name))

    def message(self) -> Message:
        (found,) = self.messages()
        return found

    def card(self, *, expires_in: timedelta | None = timedelta(days=30)) -> str:
        """An activated card."""
        now, card_id = self.clock.now, numbered_id(Card.select().count())
        expires_at = None if expires_in is None else now + expires_in
        begun = {"is_activated": True, "activated_at": now, "expires_at": expires_at}
        Card.insert(id=card_id, validity=expires_in, created_at=now, **begun).execute()
        return card_id

    def journal(self, card_id: str, kind: EventKind = EventKind.ACTIVATED, **more: Any) -> None:
        journal.append([journal.Entry(self.clock.now, kind, card_id=card_id, **more)])


@pytest.fixture
def database_url(apart_url: str) -> str:
    """No other test's service, which collects and delivers, too, sees these webhooks."""
    return apart_url


@pytest.fixture
def hooks(database: Database, clock: Clock) -> Hooks:
    return Hooks(database, clock)


def test_an_activation_is_told_with_a_masked_key(hooks: Hooks) -> None:
    secret = hooks.add()
    card_id = hooks.card()
    Card.update(batch="spring", note="secret note").execute()
    hooks.journal(card_id)
    assert hooks.collect() == 1
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
    assert (hooks.collect(), hooks.deliver()) == (0, 0), "once"


def test_of_a_short_imported_key_nothing_is_told_that_a_guess_could_be_checked_by(hooks: Hooks) -> None:
    hooks.add()
    card_id = hooks.card()
    told = []
    for key in ("123456", "abcdefghijklmnop"):
        Card.update(imported_key=key).execute()
        hooks.journal(card_id)
        hooks.collect()
        hooks.deliver()
        data = hooks.bodies[-1]["data"]
        told.append((data["card"], bool(data["card_sha256"])))
    assert told == [(None, False), (f"{card_id[:4]}•••", True)]


def test_a_mismatch_has_the_reference_that_leads_to_its_page(hooks: Hooks) -> None:
    hooks.add()
    hooks.journal(hooks.card(), EventKind.REJECTED, code=Code.CLIENT_MISMATCH, reference="ABCDEFGH")
    hooks.journal("0" * 32, EventKind.REJECTED, code=Code.CARD_NOT_FOUND)
    assert hooks.collect() == 1
    hooks.deliver()
    ((body),) = hooks.bodies
    assert (body["type"], body["data"]["reference"]) == ("card.mismatch", "ABCDEFGH")


def test_each_webhook_is_told_of_its_topics_from_now_on(hooks: Hooks) -> None:
    card_id = hooks.card()
    hooks.journal(card_id)
    hooks.add("card.activated")
    assert hooks.collect() == 0, "what was before"
    hooks.add("card.mismatch", name="other")
    hooks.journal(card_id)
    hooks.journal(card_id, EventKind.REJECTED, code=Code.CLIENT_MISMATCH, reference="ABCDEFGH")
    assert hooks.collect() == 2
    assert [each.topic for each in hooks.messages()] == ["card.activated"]
    assert [each.topic for each in hooks.messages("other")] == ["card.mismatch"]


def test_an_entry_that_commits_late_is_told(hooks: Hooks, database_url: str) -> None:
    hooks.add()
    card_id = hooks.card()
    insert = "INSERT INTO event (at, kind, card_id) VALUES (now(), 'activated', %s)"
    slow = psycopg2.connect(database_url)
    try:
        with slow.cursor() as cursor:
            cursor.execute(insert, (card_id,))
            hooks.journal(card_id)  # a higher ID, visible at once
            assert hooks.collect() == 0, "nothing above an entry that may still come"
            slow.commit()
    finally:
        slow.close()
    assert hooks.collect() == 2
    assert {each.card_id for each in hooks.messages()} == {card_id}


def test_one_process_collects_at_a_time(hooks: Hooks, database_url: str) -> None:
    hooks.add()
    hooks.journal(hooks.card())
    other = psycopg2.connect(database_url)
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT FROM webhook_progress FOR UPDATE")
            assert hooks.collect() == 0
            other.rollback()
    finally:
        other.close()
    assert hooks.collect() == 1


def test_two_processes_claim_two_messages(hooks: Hooks) -> None:
    hooks.add()
    for _ in range(2):
        hooks.journal(hooks.card())
    hooks.collect()
    in_flight: list[str] = []

    def send(_url: str, headers: Mapping[str, str], _body: bytes) -> Sent:
        in_flight.append(headers["webhook-id"])
        if len(in_flight) == 1:  # meanwhile another process looks
            assert hooks.delivery.deliver()
            assert not hooks.delivery.deliver()
        return OK

    assert Delivery(hooks.database, hooks.clock, SEALS, send).deliver()
    assert len({*in_flight, *(headers["webhook-id"] for _, headers, _ in hooks.sent)}) == 2
    assert all(each.delivered_at for each in hooks.messages())


def test_a_message_of_a_process_that_died_is_sent_by_another(hooks: Hooks) -> None:
    hooks.add()
    hooks.journal(hooks.card())
    hooks.collect()

    def die(*_: object) -> Sent:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Delivery(hooks.database, hooks.clock, SEALS, die).deliver()
    assert hooks.deliver() == 0
    hooks.clock.advance(LEASE)
    assert hooks.deliver() == 1
    assert hooks.message().attempts == 2


def test_a_failed_message_is_tried_again_and_its_address_rests(hooks: Hooks) -> None:
    hooks.add()
    hooks.journal(hooks.card())
    hooks.journal(hooks.card())
    hooks.collect()
    hooks.answer = Sent(500, "out of order")
    assert hooks.deliver() == 1, "the address rests"
    failed = next(each for each in hooks.messages() if each.attempts)
    assert (failed.status, failed.error, failed.next_at) == (
        500,
        "out of order",
        hooks.clock.now + timedelta(seconds=10),
    )
    assert hooks.owned.find("shop").failures == 1
    hooks.clock.advance(timedelta(seconds=10))
    hooks.answer = OK
    assert hooks.deliver() == 2
    assert len({headers["webhook-id"] for _, headers, _ in hooks.sent}) == 2, "under the same ID"
    assert hooks.owned.find("shop").failures == 0


def test_a_message_is_given_up_after_three_days(hooks: Hooks) -> None:
    hooks.add()
    hooks.journal(hooks.card())
    hooks.collect()
    hooks.answer = Sent(None, "no answer in time")
    begun = hooks.clock.now
    while hooks.message().failed_at is None:
        hooks.clock.advance(timedelta(hours=1))
        hooks.deliver()
    assert timedelta(days=1) < hooks.clock.now - begun <= timedelta(days=3)
    assert hooks.message().next_at is None
    hooks.answer = OK
    hooks.owned.send_again("shop", hooks.message().id)
    hooks.clock.advance(timedelta(hours=1))
    hooks.deliver()
    assert hooks.message().delivered_at


def test_messages_that_found_no_turn_are_given_up_and_old_ones_deleted(hooks: Hooks) -> None:
    hooks.add()
    hooks.journal(hooks.card())
    hooks.collect()
    hooks.clock.advance(timedelta(days=3, seconds=1))
    prune_webhooks(hooks.clock.now)
    assert hooks.message().failed_at == hooks.clock.now
    hooks.clock.advance(MESSAGES_KEPT)
    prune_webhooks(hooks.clock.now)
    assert hooks.messages() == ()


def test_an_address_that_is_gone_is_paused(hooks: Hooks) -> None:
    hooks.add()
    hooks.journal(hooks.card())
    hooks.collect()
    hooks.answer = Sent(410, None)
    hooks.deliver()
    assert hooks.owned.find("shop").paused_at == hooks.clock.now
    assert hooks.message().failed_at == hooks.clock.now
    entry = Event.select().order_by(Event.id.desc()).get()
    assert (entry.kind, entry.actor, entry.details["paused"]) == ("webhook_changed", "service", True)


def test_a_paused_webhook_is_told_nothing_and_what_waits_goes_on_later(hooks: Hooks) -> None:
    hooks.add()
    hooks.journal(hooks.card())
    hooks.collect()
    hooks.owned.set_paused("shop", paused=True)
    hooks.journal(hooks.card())
    assert (hooks.collect(), hooks.deliver()) == (0, 0)
    with pytest.raises(RefusedError):
        hooks.owned.test("shop")
    hooks.owned.set_paused("shop", paused=False)
    assert (hooks.collect(), hooks.deliver()) == (0, 1)


def test_what_finds_no_place_is_counted(hooks: Hooks) -> None:
    hooks.add()
    webhook = Webhook.get()
    common = {"webhook": webhook.id, "topic": "card.activated", "body": "{}", "created_at": hooks.clock.now}
    rows = [
        {**common, "message_id": f"m{n}", "source": f"s{n}", "next_at": hooks.clock.now} for n in range(MAX_WAITING)
    ]
    WebhookMessage.insert_many(rows).execute()
    hooks.journal(hooks.card())
    assert hooks.collect() == 0
    assert (hooks.owned.find("shop").waiting, hooks.owned.find("shop").dropped) == (MAX_WAITING, 1)


def test_a_card_is_told_when_three_days_are_left(hooks: Hooks) -> None:
    hooks.add("card.expiring")
    later = hooks.card(expires_in=timedelta(days=3, hours=1))
    hooks.card(expires_in=timedelta(days=2))
    hooks.card(expires_in=None)
    frozen = hooks.card(expires_in=timedelta(days=3, hours=1))
    Card.update(frozen_at=hooks.clock.now).where(Card.id == frozen).execute()
    assert hooks.collect() == 0, "its owner has seen how long it lasts"
    hooks.clock.advance(timedelta(hours=1))
    assert hooks.collect() == 1
    assert hooks.message().card_id == later
    hooks.clock.advance(timedelta(hours=1))
    assert hooks.collect() == 0


def test_cards_that_expire_at_one_moment_are_all_told(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.webhook_collection.ROWS", 2)
    hooks.add("card.expiring")
    for seconds in (0, 0, 0, 0, 0, 1, 1):
        hooks.card(expires_in=timedelta(days=3, hours=1, seconds=seconds))
    hooks.clock.advance(timedelta(hours=2))
    assert hooks.collect() == 7


def test_changes_of_health_are_told(hooks: Hooks) -> None:
    hooks.add("health.changed")
    fault = CheckResult(Status.FAIL, "坏了", "broken")

    def check() -> int:
        hooks.clock.advance(CHECKED_EVERY)
        return hooks.collection.check()

    hooks.problems = {"disk": fault, "clock": CheckResult(Status.OK, "好", "fine")}
    assert check() == 0, "the first look is what it was"
    assert check() == 0
    hooks.problems = {"keys": fault}
    assert hooks.collection.check() == 0, "too soon"
    assert check() == 1
    hooks.deliver()
    problem = {"check": "keys", "status": "FAIL", "zh": "坏了", "en": "broken"}
    assert hooks.bodies[0]["data"] == {"problems": [problem], "resolved": ["disk"]}
    hooks.problems = {}
    assert check() == 1


def test_a_card_that_looks_shared_is_told_once(hooks: Hooks) -> None:
    hooks.add("card.shared")
    card_id = hooks.card()
    now = hooks.clock.now
    for number in range(10):
        entry = journal.Entry(
            now,
            EventKind.ENVIRONMENT_CHANGED,
            card_id=card_id,
            ip="198.51.100.1",
            hardware=f"m{number}",
            details={"before": {"hardware": f"m{number - 1}", "ip": "198.51.100.1"}},
            counted=Counted.HARDWARE_CHANGED,
        )
        journal.append_counted([entry], now.astimezone(ZONE).date())
    hooks.clock.advance(CHECKED_EVERY)
    assert hooks.collection.check() == 1
    hooks.clock.advance(CHECKED_EVERY)
    assert hooks.collection.check() == 0
    hooks.deliver()
    (body,) = hooks.bodies
    assert body["data"]["card"] == f"{card_id[:4]}•••"
    assert body["data"]["last_24_hours"]["machines"] == 11


def test_a_test_and_a_message_sent_again(hooks: Hooks) -> None:
    hooks.add()
    message_id = hooks.owned.test("shop")
    turn(hooks.collection, hooks.delivery)
    assert hooks.bodies == [{"type": "webhook.test", "timestamp": hooks.bodies[0]["timestamp"], "data": {}}]
    hooks.owned.send_again("shop", message_id)
    with pytest.raises(RefusedError):
        hooks.owned.send_again("shop", message_id)
    turn(hooks.collection, hooks.delivery)
    assert [headers["webhook-id"] for _, headers, _ in hooks.sent] == [message_id] * 2
    with pytest.raises(RefusedError):
        hooks.owned.send_again("shop", "msg_none")


def test_a_secret_is_stored_sealed_and_replaced_at_once(hooks: Hooks) -> None:
    old = hooks.add()
    assert old not in Webhook.get().secret
    new = hooks.owned.renew_secret("shop")
    hooks.owned.test("shop")
    hooks.deliver()
    ((_, headers, body),) = hooks.sent
    now = hooks.clock.now.timestamp()
    assert example().verify(new, headers, body, now)
    assert example().verify(old, headers, body, now) is None


def test_a_secret_that_does_not_open_is_said(hooks: Hooks) -> None:
    hooks.add()
    hooks.owned.test("shop")
    other = WebhookSecrets("a5" * 32)
    assert Delivery(hooks.database, hooks.clock, other, hooks.send).deliver()
    assert not hooks.sent
    assert "make a new one: cardctl webhook secret" in str(hooks.message().error)


def test_changes_are_journalled_and_limited(hooks: Hooks) -> None:
    hooks.add()
    for wrong in (("shop", URL, ["card.activated"]), ("a", "http://x", ["card.activated"]), ("b", URL, [])):
        with pytest.raises(RefusedError):
            hooks.owned.add(*wrong)
    hooks.owned.set_paused("shop", paused=True)
    hooks.owned.set_paused("shop", paused=True)
    hooks.owned.renew_secret("shop")
    hooks.owned.remove("shop")
    for name in ("shop", "\0"):
        with pytest.raises(WebhookNotFoundError):
            hooks.owned.remove(name)
    entries = Event.select(Event.kind, Event.actor, Event.details).order_by(Event.id).tuples()
    assert list(entries) == [
        ("webhook_added", "tester", {"webhook": "shop", "url": URL, "topics": ["card.activated", "card.mismatch"]}),
        ("webhook_changed", "tester", {"webhook": "shop", "paused": True}),
        ("webhook_changed", "tester", {"webhook": "shop", "changed": "secret"}),
        ("webhook_removed", "tester", {"webhook": "shop", "url": URL}),
    ]
    for number in range(MAX_WEBHOOKS):
        hooks.add(name=f"hook {number}")
    with pytest.raises(RefusedError):
        hooks.add()


def test_without_webhooks_nothing_is_read(hooks: Hooks) -> None:
    hooks.journal(hooks.card())
    with statements(hooks.database) as ran:
        turn(hooks.collection, hooks.delivery)
    assert len(ran) == 1  # whether there is a webhook


def test_an_unexpected_failure_does_not_end_the_thread(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    turns = []

    def fail(*_: object) -> None:
        turns.append(1)
        if len(turns) == 3:
            raise SystemExit
        raise ValueError("A string literal cannot contain NUL (0x00) characters.")

    monkeypatch.setattr(webhook_delivery, "turn", fail)
    monkeypatch.setattr(webhook_delivery.time, "sleep", lambda _: None)
    with pytest.raises(SystemExit):
        webhook_delivery._run(hooks.collection, hooks.delivery)  # noqa: SLF001  # the thread's whole life
    assert caplog.text.count("delivering webhooks failed") == 2
