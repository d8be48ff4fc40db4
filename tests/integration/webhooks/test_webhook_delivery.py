"""Webhooks: what operators do with them, and what becomes of their messages: delivered, tried again, given up."""
# Owns webhook-delivery.

import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import psycopg2
import pytest

from app.domain.texts import RefusedError
from app.domain.webhooks.webhooks import MAX_WEBHOOKS, Sent
from app.services.webhooks import webhook_delivery, webhook_outbox
from app.services.webhooks.webhook_delivery import LEASE, Delivery
from app.services.webhooks.webhooks import WebhookNotFoundError
from app.storage.models import Event, Webhook
from app.tokens.sealing_key import SealingKey
from tests.integration.conftest import with_keys
from tests.support.hooks import OK, URL, ZONE, Hooks
from tests.support.sealing import SEALING
from tests.support.services.service import Service, wait_for, wait_for_waiting
from tests.support.webhooks import example, receiving

pytestmark = pytest.mark.apart  # services deliver, too


def test_two_processes_claim_two_messages(hooks: Hooks) -> None:
    hooks.add()
    for _ in range(2):
        hooks.journal(hooks.card())
    in_flight: list[str] = []

    def send(_url: str, headers: Mapping[str, str], _body: bytes) -> Sent:
        in_flight.append(headers["webhook-id"])
        if len(in_flight) == 1:  # meanwhile another process looks
            assert hooks.delivery.deliver()
            assert not hooks.delivery.deliver()
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
    hooks.journal(hooks.card())
    hooks.journal(hooks.card())
    hooks.answer = Sent(500, "out of order")
    assert hooks.deliver() == 1, "the address rests"
    failed = next(each for each in hooks.messages() if each.attempts)
    soon = hooks.clock.now + timedelta(seconds=10)
    assert (failed.status, failed.error, failed.next_at) == (500, "out of order", soon)
    assert hooks.owned.find("shop").failures == 1
    hooks.clock.advance(timedelta(seconds=10))
    hooks.answer = OK
    assert hooks.deliver() == 2
    assert len({headers["webhook-id"] for _, headers, _ in hooks.sent}) == 2, "under the same ID"
    assert hooks.owned.find("shop").failures == 0


def test_a_message_is_given_up_after_three_days_and_later_deleted(hooks: Hooks) -> None:
    hooks.add_with_message()
    hooks.answer = Sent(None, "no answer in time")
    hours = 0
    while hooks.message().failed_at is None and hours < 73:
        hours += 1
        hooks.clock.advance(timedelta(hours=1))
        hooks.deliver()
    assert 24 < hours <= 72
    assert hooks.message().next_at is None
    hooks.answer = OK
    hooks.owned.send_again("shop", hooks.message().message_id)
    hooks.clock.advance(timedelta(hours=1))
    hooks.deliver()
    assert hooks.message().delivered_at
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
    assert hooks.owned.find("shop").paused_at == hooks.clock.now
    assert hooks.message().failed_at == hooks.clock.now
    entry = Event.select().order_by(Event.id.desc()).get()
    assert (entry.kind, entry.actor, entry.details["paused"]) == ("webhook_changed", "service", True)


def test_an_unexpected_failure_does_not_end_the_thread(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    turns = []

    def fail(*_: object) -> None:
        turns.append(1)
        if len(turns) == 3:
            raise SystemExit
        raise ValueError("A string literal cannot contain NUL (0x00) characters.")

    monkeypatch.setattr(Delivery, "turn", fail)
    monkeypatch.setattr(webhook_delivery.time, "sleep", lambda _: None)
    with pytest.raises(SystemExit):
        webhook_delivery._run(hooks.delivery)  # noqa: SLF001  # the thread's whole life
    assert caplog.text.count("delivering webhooks failed") == 2


@pytest.mark.usefixtures("database")
def test_an_activation_is_told_by_the_running_service(database_url: str, tmp_path: Path) -> None:
    secrets: dict[str, str] = {}
    with (
        receiving(tmp_path, secrets) as (port, certificate, messages),
        Service(
            with_keys(tmp_path), database_url, SSL_CERT_FILE=str(certificate), KADUN_WEBHOOK_PRIVATE="true"
        ) as service,
    ):
        url = f"https://localhost:{port}/hook"
        secrets["secret"] = service.cardctl("webhook", "add", "shop", url, "--topic", "card.activated").stdout.strip()
        (card_id,) = service.issue()
        asked = {"card_id": card_id, "hardware": "pc", "function": "打开程序", "nonce": "A" * 22}
        assert service.verify(asked).status == 200
        (message,) = wait_for(lambda: messages)
        assert (message["type"], message["data"]["card"]) == ("card.activated", f"{card_id[:4]}•••")
        (logged,) = wait_for(
            lambda: [each for each in service.cardctl_json("webhook", "log", "shop") if each["status"]]
        )
        assert (logged["status"], logged["attempts"], logged["error"]) == (204, 1, None)
        message_id = service.cardctl("webhook", "test", "shop").stdout.strip()
        assert wait_for(lambda: messages[1:])[0]["type"] == "webhook.test"
        wait_for(lambda: service.cardctl_json("webhook", "log", "shop")[0]["delivered_at"])
        service.cardctl("webhook", "again", "shop", message_id)
        assert card_id not in Path(service.folder / "service.log").read_text()


@pytest.mark.usefixtures("database")
def test_the_commands_change_a_webhook(offline: Service) -> None:
    add = ("webhook", "add", "shop", "https://shop.example/hook", "--topic", "card.mismatch")
    secret = offline.cardctl(*add).stdout.strip()
    assert secret.startswith("whsec_")
    assert "there is a webhook shop already" in offline.refusal(*add)
    for command, is_paused in (("pause", True), ("resume", False)):
        offline.cardctl("webhook", command, "shop")
        (listed,) = offline.cardctl_json("webhook", "list")
        assert (listed["name"], listed["topics"], listed["dropped"]) == ("shop", ["card.mismatch"], 0)
        assert bool(listed["paused_at"]) is is_paused
    assert offline.cardctl("webhook", "secret", "shop").stdout.strip() != secret
    offline.cardctl("webhook", "remove", "shop")
    assert offline.cardctl_json("webhook", "list") == []


def test_changes_are_journalled(hooks: Hooks) -> None:
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


def test_webhooks_added_at_once_are_all_added_up_to_the_limit(hooks: Hooks, database_url: str) -> None:
    refusals: list[str] = []

    def add(name: str) -> None:
        try:
            hooks.add(name=name)
        except RefusedError as error:
            refusals.append(error.text.en)

    for present, names in ((0, "ab"), (MAX_WEBHOOKS - 1, "cd")):
        for number in range(Webhook.select().count(), present):
            hooks.add(name=f"hook {number}")
        with contextlib.closing(psycopg2.connect(database_url)) as other, ThreadPoolExecutor(2) as pool:
            other.cursor().execute("LOCK TABLE webhook IN SHARE UPDATE EXCLUSIVE MODE")
            adding = pool.map(add, names)
            wait_for_waiting(hooks.database, 2)
            other.commit()
            list(adding)
        assert Webhook.select().count() == min(present + 2, MAX_WEBHOOKS), "each waits for the other"
    assert refusals == [f"there can be at most {MAX_WEBHOOKS} webhooks"]


def test_a_message_is_sent_again_under_its_id_once_it_was_sent(hooks: Hooks) -> None:
    hooks.add()
    message_id = hooks.owned.test("shop")
    hooks.deliver()
    assert (hooks.bodies[0]["type"], hooks.bodies[0]["data"]) == ("webhook.test", {})
    hooks.owned.send_again("shop", message_id)
    for refused in (message_id, "msg_none"):
        with pytest.raises(RefusedError):
            hooks.owned.send_again("shop", refused)
    hooks.deliver()
    assert [headers["webhook-id"] for _, headers, _ in hooks.sent] == [message_id] * 2


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
