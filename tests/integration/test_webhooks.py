"""What an operator does with webhooks: adds, tests, pauses and removes them, sends messages again, replaces secrets."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from app.domain.texts import RefusedError
from app.domain.webhooks import MAX_WEBHOOKS
from app.services.webhooks import WebhookNotFoundError
from app.storage.models import Event, Webhook
from tests.support.hooks import URL, Hooks
from tests.support.service import wait_for
from tests.support.webhooks import example


@pytest.fixture
def database_url(apart_url: str) -> str:
    """No other test's service, which delivers, too, sees these webhooks."""
    return apart_url


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


def _add_at_once(hooks: Hooks, url: str, *names: str) -> list[str]:
    """Have webhooks added at once, which wait for one another; return the refusals."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    def add(name: str) -> str | None:
        try:
            hooks.add(name=name)
        except RefusedError as error:
            return error.text.en
        return None

    with contextlib.closing(psycopg2.connect(url)) as other, ThreadPoolExecutor(len(names)) as pool:
        other.cursor().execute("LOCK TABLE webhook IN SHARE UPDATE EXCLUSIVE MODE")
        refusals = pool.map(add, names)
        wait_for(lambda: hooks.database.execute_sql(waits).fetchone()[0] == len(names))
        other.commit()
        return [refusal for refusal in refusals if refusal]


def test_webhooks_added_at_once_are_all_added_up_to_the_limit(hooks: Hooks, database_url: str) -> None:
    assert _add_at_once(hooks, database_url, "a", "b") == [], "the first of all"
    for number in range(MAX_WEBHOOKS - 3):
        hooks.add(name=f"hook {number}")
    assert _add_at_once(hooks, database_url, "c", "d") == [f"there can be at most {MAX_WEBHOOKS} webhooks"]
    assert Webhook.select().count() == MAX_WEBHOOKS


def test_a_test_and_a_message_sent_again(hooks: Hooks) -> None:
    hooks.add()
    message_id = hooks.owned.test("shop")
    hooks.deliver()
    assert hooks.bodies == [{"type": "webhook.test", "timestamp": hooks.bodies[0]["timestamp"], "data": {}}]
    hooks.owned.send_again("shop", message_id)
    with pytest.raises(RefusedError):
        hooks.owned.send_again("shop", message_id)
    hooks.deliver()
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
