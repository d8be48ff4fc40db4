"""System status in the console: files, functions, keys and health, without secrets."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.storage import schema
from app.storage.database import Database
from app.storage.models import FileBatch
from tests.integration.conftest import with_keys
from tests.support.console import Browser, add_operator
from tests.support.functions_service import FunctionsService
from tests.support.service import Service, wait_for

PAGES = ("/admin/files", "/admin/functions", "/admin/keys", "/admin/health")


@pytest.fixture
def own(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service whose keys and functions are the test's."""
    with Service(with_keys(tmp_path), database_url) as running:
        yield running


@pytest.fixture
def own_owner(own: Service, database: Database) -> Browser:
    add_operator("olga")
    return Browser(own, language="en").walk_in("olga")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("language", ["zh", "en"])
def test_no_page_has_a_secret_and_each_names_its_commands(
    olga: Browser, service: Service, path: str, language: str
) -> None:
    page = olga.get(f"{path}?lang={language}")
    assert page.status == 200
    assert "scripts/cardctl " in page.words
    ring = json.loads((service.folder / "keys/keyring.json").read_text())
    secrets = [key["private"] for key in ring["keys"] if key["private"]]
    assert len(secrets) == 2
    assert not any(secret in page.text for secret in [*secrets, service.environment["KERNAL_DATA_KEY"]])
    assert service.environment["DATABASE_URL"] not in page.text
    assert [form.action for form in page.forms] == ["/admin/logout"], "nothing is changed here"


def test_files_are_listed_with_batches_size_digest_and_missing_bytes(olga: Browser, service: Service) -> None:
    name = "核心 [v2].age"
    service.cardctl("file", "add", "-", "--name", name, "--batch", "<i>taobao", text="x" * 2048)
    service.cardctl("file", "add", "-", "--name", "every.bin", text="y")
    page = olga.get("/admin/files")
    digest = hashlib.sha256(b"x" * 2048).hexdigest()
    assert f"{name} 2.0 KiB <i>taobao 20" in page.words
    assert digest in page.words
    assert "every.bin 1 Byte all cards" in page.words
    assert "2 files" in page.words
    assert "content missing" not in page.words
    (service.folder / "files" / digest).unlink()
    assert f"{name} content missing" in olga.get("/admin/files").words
    assert name in olga.get("/admin/health").words, "the doctor knows it too"
    assert FileBatch.select().count() == 1
    assert "every.bin 1 字节" in olga.get("/admin/files?lang=zh").words
    service.cardctl("file", "remove", name, "every.bin")


def test_functions_are_listed_and_broken_modules_say_why(own: Service, own_owner: Browser) -> None:
    assert "does not answer" in own_owner.get("/admin/functions").words
    functions = FunctionsService(own.folder).with_shop()
    (functions.modules / "broken.py").write_text("def f():\n    raise ValueError('<b>no\u202e')\nf()\n")
    with functions:
        page = own_owner.get("/admin/functions")
        assert page.status == 200
        assert "This module cannot be loaded: broken" in page.words
        assert "raise ValueError(&#39;&lt;b&gt;no\\u202e&#39;)\nValueError: &lt;b&gt;no\\u202e" in page.text
        listing = functions.client.list()
        assert listing.functions
        assert all(function.name in page.words for function in listing.functions)
        assert "broken" in own_owner.get("/admin/health").words
        (functions.modules / "broken.py").unlink()
        wait_for(lambda: "its modules are being loaded" in own_owner.get("/admin/functions").words)
        wait_for(lambda: "being loaded" not in own_owner.get("/admin/functions").words)
    assert "does not answer" in own_owner.get("/admin/functions").words


def test_loading_functions_are_shown_as_busy(own: Service, own_owner: Browser) -> None:
    functions = FunctionsService(own.folder)
    gate = own.folder / "gate"
    (functions.modules / "slow.py").write_text(
        f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.05)\n"
    )
    functions.spawn()
    try:
        wait_for(lambda: "busy at the moment" in own_owner.get("/admin/functions").words)
        gate.touch()
        wait_for(lambda: "There are no core functions yet" in own_owner.get("/admin/functions").words)
    finally:
        functions.stop()


def shown(key: dict[str, Any]) -> str:
    """A key's ID as the page has it: whole, and its beginning for phones."""
    kid = str(key["public"]["kid"])
    return f"{kid} {kid[:12]}…"


def test_keys_show_their_states_and_what_clients_pin(own: Service, own_owner: Browser) -> None:
    own.cardctl("key", "rotate")
    exported = json.loads(own.cardctl("key", "export").stdout)
    retired, current, coming = json.loads((own.folder / "keys/keyring.json").read_text())["keys"]
    wait_for(lambda: coming["public"]["kid"] in own_owner.get("/admin/keys").words)
    page = own_owner.get("/admin/keys")
    assert f"{shown(coming)} next" in page.words
    assert f"{shown(current)} current" in page.words
    assert f"{shown(retired)} retired published until 15 minutes after" in page.words
    pinned = page.text.partition('id="pinned"')[2].partition(">")[2].partition("</textarea>")[0]
    assert json.loads(pinned.replace("&#34;", '"')) == exported
    assert "endorsements" not in pinned


def test_health_shows_failures_and_names_the_checks_of_the_host(own: Service, own_owner: Browser) -> None:
    (own.folder / "keys/keyring.json").chmod(0o644)
    page = own_owner.get("/admin/health")
    assert page.words.index("Readable by others") < page.words.index(f"Current: {schema.expected_version()}"), (
        "the worst first"
    )
    assert "Errors: 2" in page.words  # the tests' database does not wait for the disk
    assert "the certificate and its expiry" in page.words
    for setting in ("kadun", "Asia/Shanghai", "off", "false", "365", "30"):
        assert setting in page.words.partition("Settings")[2]
    assert "PostgreSQL" in page.words
    (own.folder / "keys/keyring.json").chmod(0o600)
    assert "permissions Only the service can read the signing keys" in own_owner.get("/admin/health").words


def test_the_health_page_changes_nothing_and_keeps_the_connection(olga: Browser, service: Service) -> None:
    for _ in range(20):
        assert olga.get("/admin/health").status == 200
        assert service.get("/readyz").status == 200
