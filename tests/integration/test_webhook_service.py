"""Webhooks from end to end: the running service tells a receiver on HTTPS, which is the example of the docs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.storage.database import Database
from app.storage.models import Webhook
from tests.integration.conftest import with_keys
from tests.support.service import Service, wait_for
from tests.support.webhooks import receiving

Telling = tuple[Service, int, dict[str, str], list[Any]]
"""The service, the receiver's port and secret, and the messages that it accepted."""


@pytest.fixture
def database_url(apart_url: str) -> str:
    """No other test's service, which collects and delivers, too, sees these webhooks."""
    return apart_url


@contextmanager
def telling(folder: Path, database_url: str, **settings: str) -> Iterator[Telling]:
    secrets: dict[str, str] = {}
    with (
        receiving(folder, secrets) as (port, certificate, messages),
        Service(with_keys(folder), database_url, SSL_CERT_FILE=str(certificate), **settings) as service,
    ):
        yield service, port, secrets, messages


def test_an_activation_is_told_by_the_running_service(database: Database, database_url: str, tmp_path: Path) -> None:
    assert database
    with telling(tmp_path, database_url, KADUN_WEBHOOK_PRIVATE="true") as (service, port, secrets, messages):
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
        (listed,) = service.cardctl_json("webhook", "list")
        assert (listed["name"], listed["topics"], listed["dropped"]) == ("shop", ["card.activated"], 0)
        assert card_id not in Path(service.folder / "service.log").read_text()


def test_a_private_address_is_not_called(database: Database, database_url: str, tmp_path: Path) -> None:
    assert database
    with telling(tmp_path, database_url) as (service, port, secrets, messages):
        url = f"https://localhost:{port}/"
        secrets["secret"] = service.cardctl("webhook", "add", "shop", url, "--topic", "card.activated").stdout.strip()
        service.cardctl("webhook", "test", "shop")
        (logged,) = wait_for(lambda: [each for each in service.cardctl_json("webhook", "log", "shop") if each["error"]])
        assert logged["error"].endswith("which is not a public address")
        assert not messages


@pytest.mark.usefixtures("database")
def test_the_commands_change_a_webhook(offline: Service) -> None:
    assert offline.cardctl_json("webhook", "list") == []
    add = ("webhook", "add", "shop", "https://shop.example/hook", "--topic", "card.mismatch")
    secret = offline.cardctl(*add).stdout.strip()
    assert secret.startswith("whsec_")
    assert "there is a webhook shop already" in offline.refusal(*add)
    assert "must begin with https://" in offline.refusal(*add[:3], "http://shop.example", *add[4:])
    offline.cardctl("webhook", "pause", "shop")
    assert offline.cardctl_json("webhook", "list")[0]["paused_at"]
    assert "resume it first" in offline.refusal("webhook", "test", "shop")
    offline.cardctl("webhook", "resume", "shop")
    assert offline.cardctl("webhook", "secret", "shop").stdout.strip() != secret
    assert "no such message" in offline.refusal("webhook", "again", "shop", "msg_none")
    offline.cardctl("webhook", "remove", "shop")
    assert "there is no webhook shop" in offline.refusal("webhook", "log", "shop")
    assert Webhook.select().count() == 0
