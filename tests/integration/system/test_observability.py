"""What an operator sees of a service: metrics, log, health, why it does not start, and the pages of its status."""
# Owns health.

import json
import re
import urllib.request
from datetime import date, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.console.reports.charts import charts
from app.domain.codes import Code, EventKind
from app.storage import journal
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.models import Operator, Usage
from app.storage.schema import expected_version
from app.tokens.sealing_key import SealingKey
from tests.support.console.console import Browser, add_operator
from tests.support.services.functions_service import FunctionsService
from tests.support.services.service import Response, Service, question, wait_for


@pytest.fixture
def own_owner(own_service: Service, database: Database) -> Browser:
    add_operator("olga")
    return Browser(own_service, language="en").walk_in("olga")


def test_metrics_add_up_across_the_processes(own_service: Service) -> None:
    for _ in range(40):
        own_service.verify(question("0" * 32))
    with urllib.request.urlopen(f"http://127.0.0.1:{own_service.port}/metrics") as answer:
        text = answer.read().decode()
    assert re.findall(r'kadun_verdicts_total\{code="CARD_NOT_FOUND"\} ([0-9.]+)', text) == ["40.0"]


def test_a_request_is_one_line_of_json_whatever_its_path(service: Service) -> None:
    def logged(answer: Response) -> dict[str, object]:
        request_id = answer.headers["x-request-id"]
        # Not `splitlines`: a path in a line may hold what Unicode calls a line's end. The last may be on its way.
        found = wait_for(lambda: [each for each in service.log.read_text().split("\n")[:-1] if request_id in each])
        assert found[0].isprintable()
        return dict(json.loads(found[0]))

    line = logged(service.verify(question("0" * 32)))
    assert (line["message"], line["status"], line["code"]) == ("request", 404, "CARD_NOT_FOUND")
    assert logged(service.get("/%C2%9B31m%E2%80%AE"))["path"] == r"/\x9b31m\u202e"
    assert logged(service.get("/long-" + "x" * 3000))["path"] == "/long-" + "x" * 194
    assert logged(service.get("/" + "%07" * 300))["path"] == "/" + r"\x07" * 49 + r"\x0"


def test_the_health_check_asks_the_running_service_and_the_journal_is_filtered(service: Service) -> None:
    assert service.cardctl("healthcheck").returncode == 0
    (card_id,) = service.issue()
    for asked in (card_id, "0" * 32):
        answer = service.verify(question(asked), **{"Accept-Language": "en"})
    reference = answer.claims["jti"][-8:]
    assert answer.body["message"].endswith(f"(reference {reference})")
    dashed = "-".join([card_id[:16].lower(), card_id[16:]])
    for arguments, kinds in (
        ((), ["rejected", "activated", "issued"]),
        (("--kind", "CARD_NOT_FOUND", "--since", "7d"), ["rejected"]),
        (("--card", dashed), ["activated"]),
        (("--reference", reference.lower()), ["rejected"]),
    ):
        assert [event["kind"] for event in service.cardctl_json("events", *arguments)] == kinds
    assert "no such reference" in service.cardctl("events", "--reference", "00000000").stderr


def refused_start(service: Service) -> str:
    """Start what must not run; return the one line that says why."""
    service.log.write_text("")
    assert service.spawn().wait(60) == 1
    (line,) = [line for line in service.log.read_text().splitlines() if line.startswith("kadun: ")]
    assert "Traceback" not in service.log.read_text()
    return line


def test_wrong_settings_schema_or_sealing_key(database: Database, database_url: str, tmp_path: Path) -> None:
    assert "KADUN_THREADS is 'many'" in refused_start(Service(tmp_path, database_url, KADUN_THREADS="many"))
    missing = Service(tmp_path, database_url, KERNAL_DATA_KEY="", KERNAL_DATA_KEY_FILE=str(tmp_path / "none"))
    assert "KERNAL_DATA_KEY_FILE: cannot read" in refused_start(missing)
    rename = "UPDATE schema_migration SET name = %s WHERE name = %s"
    database.execute_sql(rename, ("0000", expected_version()))
    try:
        line = refused_start(Service(tmp_path, database_url))
        assert re.search(f"schema is 0004_idempotency.*{expected_version()}", line)
    finally:
        database.execute_sql(rename, (expected_version(), "0000"))
    add_operator("olga")
    Operator.update(totp_secret=SealingKey("a5" * 32).seal("operator", Operator.get().id, "x")).execute()
    assert "does not open the secret of operator olga: put" in refused_start(Service(tmp_path, database_url))


def test_damaged_or_lost_signing_keys(own_service: Service, tmp_path: Path) -> None:
    service = own_service
    (card_id,) = service.issue()
    service.verify(question(card_id))
    service.stop()
    ring = tmp_path / "keys" / "keyring.json"
    ring.write_text("{")
    assert "damaged" in refused_start(service)
    ring.unlink()
    assert "put your copy of data/keys back" in refused_start(service)


def test_today_and_yesterday_link_to_the_rows_behind_them_by_the_vendors_day(service: Service, olga: Browser) -> None:
    cards = service.issue(2)
    for number, card in enumerate(cards):
        assert service.verify(question(card, f"machine-{number}")).status == 200
    today = datetime.now(ZoneInfo("Asia/Shanghai")).replace(hour=0, minute=0, second=0, microsecond=0)
    yesterday = today - timedelta(seconds=1)
    journal.append([Entry(at=yesterday, kind=EventKind.ACTIVATED)])
    journal.append([Entry(at=yesterday, kind=EventKind.REJECTED, code=Code.CARD_EXPIRED)] * 3)
    Usage.insert(card=cards[0], day=yesterday.date(), function="f", count=5, last_at=yesterday).execute()
    page = olga.get("/admin/")
    (section,) = re.findall(r'aria-labelledby="recent">.+?</section>', page.text, re.DOTALL)
    shown = [(int(number), unescape(link)) for link, number in re.findall(r'href="([^"]+)">(\d+)</a>', section)]
    assert [number for number, _link in shown] == [2, 1, 2, 1, 0, 3]
    assert [olga.get(link).text.count("<tr>") - 1 for number, link in shown if number] == [2, 1, 2, 1, 3]
    assert "Online 2 (last 15 minutes)" in page.words


def test_every_code_of_a_rejection_is_in_the_chart() -> None:
    day = {"day": date(2026, 3, 1).isoformat(), "counts": {str(code): 1 for code in Code if code is not Code.OK}}
    document: dict[str, Any] = {"days": [], "expiring_days": [], "functions": [], "batches": {"largest": []}}
    document |= {"cards": dict.fromkeys(("active", "unused", "expired", "frozen"), 0), "rejection_days": [day]}
    assert len(charts(document, str)["rejections"].series) == len(Code) - 1


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


def test_keys_show_their_states_and_what_clients_pin(own_service: Service, own_owner: Browser) -> None:
    own_service.cardctl("key", "rotate")
    exported = json.loads(own_service.cardctl("key", "export").stdout)
    ring = json.loads((own_service.folder / "keys/keyring.json").read_text())["keys"]
    ids = [key["public"]["kid"] for key in ring]
    wait_for(lambda: ids[2] in own_owner.get("/admin/keys").words)
    page = own_owner.get("/admin/keys")
    for kid, state in zip(ids, ("retired published until 15 minutes after", "current", "next"), strict=True):
        assert f"{kid} {kid[:12]}… {state}" in page.words  # whole, and its beginning for phones
    pinned = page.text.partition('id="pinned"')[2].partition(">")[2].partition("</textarea>")[0]
    assert json.loads(pinned.replace("&#34;", '"')) == exported
    assert "endorsements" not in pinned


def test_health_shows_failures_and_names_the_checks_of_the_host(own_service: Service, own_owner: Browser) -> None:
    (own_service.folder / "keys/keyring.json").chmod(0o644)
    page = own_owner.get("/admin/health")
    worst, best = map(page.words.index, ("Readable by others", f"Current: {expected_version()}"))
    assert worst < best, "the worst first"
    assert "Errors: 2" in page.words  # the tests' database does not wait for the disk
    assert "the certificate and its expiry" in page.words
    for setting in ("kadun", "Asia/Shanghai", "off", "false", "365", "30"):
        assert setting in page.words.partition("Settings")[2]
    assert "PostgreSQL" in page.words
    for _ in range(10):  # the page gives back its connection to the database
        assert own_owner.get("/admin/health").status == own_service.get("/readyz").status == 200
    (own_service.folder / "keys/keyring.json").chmod(0o600)
    assert "permissions Only the service can read the signing keys" in own_owner.get("/admin/health").words
