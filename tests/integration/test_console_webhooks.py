"""What the console asks for and counts before a webhook is changed; the service itself is in test_webhooks.py."""

import pytest

from app.clock import utc_now
from app.domain.ceilings import MAX_CHANGES_PER_DAY
from app.services.webhooks import Webhooks
from app.storage.database import Database
from app.storage.models import Event, IssueCount, Webhook
from app.tokens.webhooks import WebhookSecrets
from tests.support.console import OWN, Browser, add_operator
from tests.support.second_factors import TOTP_KEY
from tests.support.service import Service

ONE = "/admin/webhook"
NAME = {"name": "shop"}
COUNTED = {"pause": OWN, "resume": {}, "test": {}, "secret": OWN, "remove": OWN}


@pytest.fixture
def owner(service: Service, database: Database) -> Browser:
    add_operator("alice")
    secrets = WebhookSecrets(TOTP_KEY)
    Webhooks(database, "tester", utc_now, secrets).add("shop", "https://shop.invalid/hook", ["card.activated"])
    return Browser(service, language="en").walk_in("alice")


def changes() -> list[str]:
    return [event.kind for event in Event.select().where(Event.actor == "console:alice").order_by(Event.id)]


def test_pausing_a_webhook_takes_the_password(owner: Browser) -> None:
    """Otherwise a stolen session could silence what tells the vendor of it."""
    for given in ({}, {"own_password": "wrong"}):
        answer = owner.post(f"{ONE}/pause", {**NAME, **given})
        assert answer.status == 400
        assert "your own password is wrong" in answer.words
    assert Webhook.get().paused_at is None
    assert owner.post(f"{ONE}/pause", {**NAME, **OWN}).status == 303
    assert Webhook.get().paused_at is not None
    assert owner.post(f"{ONE}/resume", NAME).status == 303, "it takes nothing to have them again"


@pytest.mark.parametrize("action", COUNTED)
def test_changes_of_webhooks_count_among_the_changes_of_a_day(owner: Browser, action: str) -> None:
    if action == "resume":
        Webhook.update(paused_at=utc_now()).execute()
    assert owner.post(f"{ONE}/{action}", {**NAME, **COUNTED[action]}).status in {200, 303}
    assert IssueCount.get().changed == len(changes()) == 1


def test_a_new_webhook_counts_too(owner: Browser) -> None:
    fields = {"name": "other", "url": "https://other.invalid/", "topic": "card.activated", **OWN}
    assert owner.post("/admin/webhooks", fields).status == 200
    assert IssueCount.get().changed == 1


def test_beyond_the_bound_of_a_day_webhooks_are_not_changed(owner: Browser) -> None:
    owner.post(f"{ONE}/test", NAME)
    IssueCount.update(changed=MAX_CHANGES_PER_DAY).execute()
    before = changes()
    for action in ("test", "pause"):
        answer = owner.post(f"{ONE}/{action}", {**NAME, **COUNTED[action]})
        assert answer.status == 400
        assert "at most 10000 cards a day may be changed" in answer.words
    assert changes() == before
    assert Webhook.get().paused_at is None
