"""The console's overview and reports, and the system status: figures, and no secret."""

import json
import re
from datetime import date, datetime, timedelta
from html import unescape
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.console.reports.charts import charts
from app.domain.codes import Code, EventKind
from app.storage import journal, schema
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.models import Usage
from tests.support.console.console import Browser, Seen, add_operator
from tests.support.services.functions_service import FunctionsService
from tests.support.services.service import Service, question, wait_for

ZONE = ZoneInfo("Asia/Shanghai")


@pytest.fixture
def owner(service: Service, database: Database) -> Browser:
    add_operator("alice")
    return Browser(service).log_in("alice")


def rows(page: Seen) -> int:
    return page.text.count("<tr>") - 1


def test_today_and_yesterday_link_to_the_rows_behind_them_by_the_vendors_day(service: Service, owner: Browser) -> None:
    cards = service.issue(2)
    for number, card in enumerate(cards):
        assert service.verify(question(card, f"machine-{number}")).status == 200
    today = datetime.now(ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    yesterday = today - timedelta(seconds=1)
    journal.append([Entry(at=yesterday, kind=EventKind.ACTIVATED)])
    journal.append([Entry(at=yesterday, kind=EventKind.REJECTED, code=Code.CARD_EXPIRED)] * 3)
    Usage.insert(card=cards[0], day=yesterday.date(), function="f", count=5, last_at=yesterday).execute()
    page = owner.get("/admin/")
    (section,) = re.findall(r'aria-labelledby="recent">.+?</section>', page.text, re.DOTALL)
    shown = [(int(number), unescape(link)) for link, number in re.findall(r'href="([^"]+)">(\d+)</a>', section)]
    assert [number for number, _link in shown] == [2, 1, 2, 1, 0, 3]
    assert [rows(owner.get(link)) for number, link in shown if number] == [2, 1, 2, 1, 3]
    assert "在线 2 （15 分钟内）" in page.words


def test_every_code_of_a_rejection_is_in_the_chart() -> None:
    day = {"day": date(2026, 3, 1).isoformat(), "counts": {str(code): 1 for code in Code if code is not Code.OK}}
    none: dict[str, Any] = {"days": [], "expiring_days": [], "functions": [], "batches": {"largest": []}}
    cards = dict.fromkeys(("active", "unused", "expired", "frozen"), 0)
    document = {**none, "cards": cards, "rejection_days": [day]}
    assert len(charts(document, str)["rejections"].series) == len(Code) - 1


@pytest.fixture
def own_owner(own_service: Service, database: Database) -> Browser:
    add_operator("olga")
    return Browser(own_service, language="en").walk_in("olga")


def test_no_page_has_a_secret_and_each_names_its_commands(olga: Browser, service: Service) -> None:
    ring = json.loads((service.folder / "keys/keyring.json").read_text())
    secrets = [key["private"] for key in ring["keys"] if key["private"]]
    assert len(secrets) == 2
    secrets += [service.environment[name] for name in ("KERNAL_DATA_KEY", "DATABASE_URL")]
    for path in ("/admin/files", "/admin/functions", "/admin/keys", "/admin/health"):
        page = olga.get(path)
        assert (page.status, "scripts/cardctl " in page.words) == (200, True), path
        assert not [secret for secret in secrets if secret in page.text], path
        assert [form.action for form in page.forms] == ["/admin/logout"], "nothing is changed here"


def test_functions_are_listed_and_broken_modules_say_why(own_service: Service, own_owner: Browser) -> None:
    assert "does not answer" in own_owner.get("/admin/functions").words
    functions = FunctionsService(own_service.folder).with_shop()
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
    assert "does not answer" in own_owner.get("/admin/functions").words


def shown(key: dict[str, Any]) -> str:
    """A key's ID as the page has it: whole, and its beginning for phones."""
    kid = str(key["public"]["kid"])
    return f"{kid} {kid[:12]}…"


def test_keys_show_their_states_and_what_clients_pin(own_service: Service, own_owner: Browser) -> None:
    own_service.cardctl("key", "rotate")
    exported = json.loads(own_service.cardctl("key", "export").stdout)
    retired, current, coming = json.loads((own_service.folder / "keys/keyring.json").read_text())["keys"]
    wait_for(lambda: coming["public"]["kid"] in own_owner.get("/admin/keys").words)
    page = own_owner.get("/admin/keys")
    assert f"{shown(coming)} next" in page.words
    assert f"{shown(current)} current" in page.words
    assert f"{shown(retired)} retired published until 15 minutes after" in page.words
    pinned = page.text.partition('id="pinned"')[2].partition(">")[2].partition("</textarea>")[0]
    assert json.loads(pinned.replace("&#34;", '"')) == exported
    assert "endorsements" not in pinned


def test_health_shows_failures_and_names_the_checks_of_the_host(own_service: Service, own_owner: Browser) -> None:
    (own_service.folder / "keys/keyring.json").chmod(0o644)
    page = own_owner.get("/admin/health")
    assert page.words.index("Readable by others") < page.words.index(f"Current: {schema.expected_version()}"), (
        "the worst first"
    )
    assert "Errors: 2" in page.words  # the tests' database does not wait for the disk
    assert "the certificate and its expiry" in page.words
    for setting in ("kadun", "Asia/Shanghai", "off", "false", "365", "30"):
        assert setting in page.words.partition("Settings")[2]
    assert "PostgreSQL" in page.words
    for _ in range(10):  # the page gives back its connection to the database
        assert own_owner.get("/admin/health").status == own_service.get("/readyz").status == 200
    (own_service.folder / "keys/keyring.json").chmod(0o600)
    assert "permissions Only the service can read the signing keys" in own_owner.get("/admin/health").words
