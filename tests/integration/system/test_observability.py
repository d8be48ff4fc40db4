"""What an operator sees of a service: metrics, log, health, why it does not start, its pages, and `cardctl doctor`."""
# Owns health.

import hashlib
import json
import re
import urllib.request
from datetime import UTC, date, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4
from zoneinfo import ZoneInfo

import hostfacts
import msgspec
import pyotp
import pyrage
import pytest

from app.console.reports.charts import charts
from app.domain.codes import Code, EventKind
from app.storage import journal
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.models import Event, Operator, Usage
from app.storage.schema import expected_version
from app.tokens.keys import KeyRing
from app.tokens.sealing_key import SealingKey
from tests.conftest import EmbeddedPostgres
from tests.support.console.console import Browser, add_operator
from tests.support.secrets import SEALING
from tests.support.services.service import Response, Service, question, wait_for


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


def test_health_shows_failures_and_names_the_checks_of_the_host(own_service: Service) -> None:
    add_operator("olga")
    own_owner = Browser(own_service, language="en").walk_in("olga")
    (own_service.folder / "keys/keyring.json").chmod(0o644)
    page = own_owner.get("/admin/health")
    worst, best = map(page.words.index, ("Readable by others", f"Current: {expected_version()}"))
    assert worst < best, "the worst first"
    assert "Errors: 2" in page.words  # the tests' database does not wait for the disk
    assert "the certificate and its expiry" in page.words
    assert "Asia/Shanghai" in page.words.partition("Settings")[2]
    for _ in range(10):  # the page gives back its connection to the database
        assert own_owner.get("/admin/health").status == own_service.get("/readyz").status == 200
    (own_service.folder / "keys/keyring.json").chmod(0o600)
    assert "permissions Only the service can read the signing keys" in own_owner.get("/admin/health").words


UNKNOWN_SCHEMA = dict.fromkeys(("schema", "hosts", "files", "sealing-key"), "WARN")


def differing(found: dict[str, Any]) -> dict[str, str]:
    """The checks that are not OK, apart from those of this machine's clock, of functions, which are down, and of the
    tests' database, which does not wait for the disk."""
    apart = {"clock", "functions", "durability"}
    return {check: line["status"] for check, line in found.items() if line["status"] != "OK" and check not in apart}


def require(found: dict[str, Any], check: str, status: str, said: str) -> None:
    line = found[check]
    assert (line["status"], said in line["message_en"]) == (status, True), line


@pytest.fixture
def host(tmp_path: Path) -> dict[str, Any]:
    """The facts of this host, without a stack."""
    return hostfacts.host_facts(tmp_path)


def test_a_trial_has_no_failure(keyed: Service, own_postgres: EmbeddedPostgres) -> None:
    url = keyed.environment["DATABASE_URL"] = own_postgres.url()  # which waits for the disk, as the trial's does
    found = keyed.doctor()
    assert differing(found) == {}
    assert "hosts" not in found  # no service reports itself
    assert (found["durability"]["status"], found["functions"]["status"]) == ("OK", "WARN")
    done = keyed.cardctl("doctor")
    assert "OK    schema           结构为最新：" in done.stdout
    assert done.stderr.startswith("没有发现错误 / Nothing is wrong: 1")
    port = url.rpartition(":")[2].partition("/")[0]
    keyed.environment["DATABASE_URL"] = url.replace("@", f"@127.0.0.1:1,localhost:{port},")
    found = keyed.doctor()
    require(found, "durability", "WARN", "no synchronous standby")


def test_a_forgetful_or_absent_database_and_readable_or_lost_keys_are_found(keyed: Service) -> None:
    require(keyed.doctor(), "durability", "FAIL", "fsync is off")
    here = keyed.environment["DATABASE_URL"]
    keyed.environment["DATABASE_URL"] = "postgresql://kadun:hidden@127.0.0.1:1/kadun"
    found = keyed.doctor()
    assert differing(found) == {"database": "FAIL", **UNKNOWN_SCHEMA}
    assert "hidden" not in json.dumps(found)
    keyed.environment["DATABASE_URL"] = here
    (keyed.folder / "keys/keyring.json").chmod(0o644)
    assert differing(keyed.doctor()) == {"permissions": "FAIL"}
    (keyed.folder / "keys/keyring.json").unlink()
    assert differing(keyed.doctor()) == {"keys": "FAIL"}


def test_signing_keys_from_before_the_last_rotation_are_found(keyed: Service, database: Database) -> None:
    ring = keyed.folder / "keys/keyring.json"
    for _ in range(2):
        older = ring.read_bytes()
        keyed.cardctl("key", "rotate", "--force")
        assert differing(keyed.doctor()) == {}
    # v1.0.0 journalled a rotation after it, and so some milliseconds later.
    current = {"kid": msgspec.json.decode(ring.read_bytes(), type=KeyRing).current.kid}
    journal.append([Entry(at=datetime.now(UTC), kind=EventKind.KEY_ROTATED, actor="cardctl:root", details=current)])
    assert differing(keyed.doctor()) == {}
    ring.write_bytes(older)
    found = keyed.doctor()
    assert differing(found) == {"keys": "FAIL"}
    require(found, "keys", "FAIL", "older than the journal's last rotation (2")


def test_with_a_wrong_setting_the_host_is_checked_alone(keyed: Service, host: dict[str, Any]) -> None:
    keyed.environment["KADUN_TIMEZONE"] = "Mars"
    found = keyed.doctor()
    assert list(found) == ["settings"]
    require(found, "settings", "FAIL", "KADUN_TIMEZONE")
    assert "disk" in keyed.doctor("--host-facts", "-", text=json.dumps(host))


def test_faulty_operators_files_and_secrets_are_named(keyed: Service, database: Database, host: dict[str, Any]) -> None:
    for name, status, said in (("alice", "OK", "Off: there are no operators"), ("bob", "WARN", "enough for alice:")):
        require(keyed.doctor("--host-facts", "-", text=json.dumps(host)), "console", status, said)
        keyed.cardctl("admin", "add", name, text="correct horse battery staple\n")
    for name in ("core.age", "other.bin"):
        keyed.cardctl("file", "add", "-", "--name", name, text=name)
    assert differing(keyed.doctor()) == {}
    Operator.update(totp_secret=pyotp.random_base32()).execute()
    (keyed.folder / "files" / hashlib.sha256(b"core.age").hexdigest()).unlink()
    found = keyed.doctor()
    require(found, "sealing-key", "WARN", "not sealed: operator alice, operator bob.")
    require(found, "files", "FAIL", "lost: core.age.")
    for operator in Operator.select():
        row = 1 if operator.name == "bob" else operator.id
        operator.totp_secret = SEALING.seal("operator", row, operator.totp_secret)
        operator.save()
    require(keyed.doctor(), "sealing-key", "FAIL", "does not open the secrets of operator bob:")


def test_a_key_that_is_not_the_one_in_use_is_found_until_it_is_accepted(keyed: Service) -> None:
    keyed.environment["KERNAL_DATA_KEY"] = "a scheme of my own, long enough"
    assert differing(keyed.doctor()) == {"data-key-in-use": "FAIL"}
    keyed.cardctl("key", "accept")
    assert differing(keyed.doctor()) == {}


def test_the_service_marks_its_key_when_it_starts_and_takes_over_a_new_one_beside_it(own_service: Service) -> None:
    old, new = own_service.environment["KERNAL_DATA_KEY"], str(pyrage.x25519.Identity.generate())
    assert own_service.doctor()["data-key-in-use"]["status"] == "OK"
    for key, status in ((f"{new}\n{old}", "OK"), (new, "OK"), (old, "FAIL")):
        own_service.stop()
        own_service.environment["KERNAL_DATA_KEY"] = key
        own_service.start()
        assert own_service.doctor()["data-key-in-use"]["status"] == status
    assert "KERNAL_DATA_KEY is not the one in use before" in own_service.log.read_text()


def test_a_missing_schema_column_or_right(keyed: Service, database: Database, postgres: EmbeddedPostgres) -> None:
    here = keyed.environment["DATABASE_URL"]
    postgres.create_database("for_the_doctor")
    keyed.environment["DATABASE_URL"] = postgres.url("for_the_doctor")
    found = keyed.doctor()
    assert differing(found) == UNKNOWN_SCHEMA | {"schema": "FAIL"}
    require(found, "schema", "FAIL", "cardctl migrate")
    keyed.environment["DATABASE_URL"] = here
    database.execute_sql("ALTER TABLE file RENAME COLUMN size TO length")
    try:
        assert differing(keyed.doctor()) == {"database": "FAIL", **UNKNOWN_SCHEMA}
    finally:
        database.execute_sql("ALTER TABLE file RENAME COLUMN length TO size")
    name = f"doctor_{uuid4().hex[:8]}"
    database.execute_sql(f"CREATE ROLE {name} LOGIN PASSWORD 'of-a-test'")
    try:
        url = urlsplit(keyed.environment["DATABASE_URL"])
        stranger = url._replace(netloc=f"{name}:of-a-test@{url.netloc.rpartition('@')[2]}")
        keyed.environment["DATABASE_URL"] = stranger.geturl()
        found = keyed.doctor()
        assert differing(found) == {"database": "FAIL", **UNKNOWN_SCHEMA}
        require(found, "database", "FAIL", "permission denied")
    finally:
        database.execute_sql(f"DROP ROLE {name}")


def test_the_recorded_address_is_compared_and_the_probe_deleted(proxied: Service, host: dict[str, Any]) -> None:
    true = "198.51.100.7"
    other = proxied.verify(question("0" * 32), address=true)
    for recorded, status in ((true, "OK"), ("172.18.0.1", "FAIL")):
        asked = proxied.verify(question("cardctl doctor", "cardctl doctor", "cardctl doctor"), address=recorded)
        ask = {"host": true, "address": true, "status": asked.status, "answer": json.dumps(asked.body)}
        found = proxied.doctor("--host-facts", "-", text=json.dumps(host | {"proxy": [ask]}))
        require(found, "proxy", status, "")
        assert [event.reference for event in Event.select()] == [other.claims["jti"][-8:]]
