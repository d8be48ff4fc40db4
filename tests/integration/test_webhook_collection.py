"""What webhooks are told: which events, once each, and what of a card."""

import hashlib
from datetime import datetime, timedelta
from itertools import pairwise

import psycopg2
import pytest

from app.domain.codes import Code, EventKind
from app.domain.webhooks import MAX_WAITING
from app.services.doctor import CheckResult, Status
from app.services.webhook_collection import CHECKED_EVERY
from app.services.webhook_delivery import turn
from app.storage import host_reports
from app.storage.models import Card, Webhook, WebhookMessage, WebhookProgress
from tests.support.changes import Environment, change
from tests.support.hooks import URL, ZONE, Hooks
from tests.support.query_plans import statements
from tests.support.reported_hosts import REPORT
from tests.support.webhooks import example


@pytest.fixture
def database_url(apart_url: str) -> str:
    """No other test's service, which collects and delivers, too, sees these webhooks."""
    return apart_url


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


def test_of_an_imported_key_nothing_is_told_that_a_guess_could_be_checked_by(hooks: Hooks) -> None:
    hooks.add()
    for key in ("123456", "abcdefghijklmnop"):
        card_id = hooks.card()
        Card.update(imported_key=key, batch="spring").where(Card.id == card_id).execute()
        hooks.journal(card_id, reference="ABCDEFGH")
        hooks.collect()
        hooks.deliver()
        data = hooks.bodies[-1]["data"]
        assert (data["card"], data["card_sha256"]) == (None, None), key
        assert (data["batch"], data["reference"]) == ("spring", "ABCDEFGH"), key
    hooks.journal("7Q3M" + "0" * 28)  # a card that is gone may have been imported
    hooks.collect()
    hooks.deliver()
    data = hooks.bodies[-1]["data"]
    assert (data["card"], data["card_sha256"]) == (None, None)


def test_each_webhook_is_told_of_its_topics_from_now_on(hooks: Hooks) -> None:
    card_id = hooks.card()
    hooks.journal(card_id)
    hooks.add("card.activated")
    assert hooks.collect() == 0, "what was before"
    hooks.add("card.mismatch", name="other")
    hooks.journal(card_id)
    hooks.journal(card_id, EventKind.REJECTED, code=Code.CLIENT_MISMATCH, reference="ABCDEFGH")
    hooks.journal("0" * 32, EventKind.REJECTED, code=Code.CARD_NOT_FOUND)
    assert hooks.collect() == 2
    assert [each.topic for each in hooks.messages()] == ["card.activated"]
    assert [each.topic for each in hooks.messages("other")] == ["card.mismatch"]
    hooks.deliver()
    references = {body["type"]: body["data"].get("reference") for body in hooks.bodies}
    assert references == {"card.activated": None, "card.mismatch": "ABCDEFGH"}, "which leads to its page"


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


def test_after_a_restore_on_another_cluster_entries_are_told_once(hooks: Hooks) -> None:
    """The dump has a transaction number that may be far ahead of the other cluster's."""
    hooks.add()
    hooks.journal(hooks.card())
    hooks.collection.collect()
    ahead = WebhookProgress.settles_at + 10_000_000
    assert WebhookProgress.update(settles_at=ahead).where(WebhookProgress.settles_at.is_null(is_null=False)).execute()
    hooks.journal(hooks.card())
    assert hooks.collect() == 2
    WebhookProgress.update(settles_at=ahead).execute()
    hooks.journal(hooks.card())
    assert hooks.collect() == 1


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


def test_each_host_tells_of_its_own_problems(hooks: Hooks) -> None:
    hooks.add("health.changed")
    fault = {"functions": CheckResult(Status.FAIL, "坏了", "broken")}

    def check(host: str, problems: dict[str, CheckResult]) -> int:
        hooks.clock.advance(CHECKED_EVERY)
        hooks.problems = problems
        return hooks.collection_of(host).check()

    for host in "ab":
        host_reports.write(host, REPORT)
    assert [check("a", {}), check("b", fault), check("a", {}), check("b", fault)] == [0] * 4, "nothing changes"
    assert [check("b", {}), check("a", fault), check("b", {})] == [1, 1, 0]
    hooks.deliver()
    resolved, begun = (body["data"] for body in hooks.bodies)
    assert resolved == {"problems": [], "resolved": ["functions"], "host": "b"}
    assert (begun["host"], [each["check"] for each in begun["problems"]]) == ("a", ["functions"])
    host_reports.forget("b")
    assert check("a", fault) == 0
    assert [*WebhookProgress.get().problems["by_host"]] == ["a"], "b is gone"


def test_a_card_that_looks_shared_is_told_once(hooks: Hooks) -> None:
    hooks.add("card.shared")
    card_id = hooks.card()
    now = hooks.clock.now
    machines = [Environment(f"m{number}", "198.51.100.1") for number in range(-1, 10)]
    for before, after in pairwise(machines):
        change(card_id, before, after, now)
    hooks.clock.advance(CHECKED_EVERY)
    assert hooks.collection.check() == 1
    hooks.clock.advance(CHECKED_EVERY)
    assert hooks.collection.check() == 0
    hooks.deliver()
    (body,) = hooks.bodies
    assert body["data"]["card"] == f"{card_id[:4]}•••"
    assert body["data"]["last_24_hours"]["machines"] == 11


def test_without_webhooks_nothing_is_read(hooks: Hooks) -> None:
    hooks.journal(hooks.card())
    with statements(hooks.database) as ran:
        turn(hooks.collection, hooks.delivery)
    assert len(ran) == 1  # whether there is a webhook
