"""`cardctl doctor` where the service runs, with a real database and real keys."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import hostfacts
import msgspec
import pyotp
import pyrage
import pytest

from app.domain.codes import EventKind
from app.storage import journal
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.models import Event, Operator
from app.tokens.keys import KeyRing
from tests.conftest import EmbeddedPostgres
from tests.support.doctor import SERVICE_CHECKS, UNKNOWN_SCHEMA, differing, results
from tests.support.sealing import SEALING
from tests.support.services.service import Service, question


def require(found: dict[str, Any], check: str, status: str, said: str) -> None:
    line = found[check]
    assert (line["status"], said in line["message_en"]) == (status, True), line


@pytest.fixture
def host(tmp_path: Path) -> dict[str, Any]:
    """The facts of this host, without a stack."""
    return hostfacts.host_facts(tmp_path)


def test_a_trial_has_no_failure(keyed: Service, own_postgres: EmbeddedPostgres) -> None:
    url = keyed.environment["DATABASE_URL"] = own_postgres.url()  # which waits for the disk, as the trial's does
    found = results(keyed)
    assert differing(found) == {}
    assert set(found) | {"hosts"} == SERVICE_CHECKS  # no service reports itself
    assert (found["durability"]["status"], found["functions"]["status"]) == ("OK", "WARN")
    done = keyed.cardctl("doctor")
    assert "OK    schema           结构为最新：" in done.stdout
    assert done.stderr.startswith("没有发现错误 / Nothing is wrong: 1")
    port = url.rpartition(":")[2].partition("/")[0]
    keyed.environment["DATABASE_URL"] = url.replace("@", f"@127.0.0.1:1,localhost:{port},")
    found = results(keyed)
    other_name = f"127.0.0.1:{port}: no standby"  # of the primary
    for said in ("no synchronous standby", "127.0.0.1:1: connection to server", other_name):
        require(found, "durability", "WARN", said)


def test_a_forgetful_or_absent_database_and_readable_or_lost_keys_are_found(keyed: Service) -> None:
    require(results(keyed), "durability", "FAIL", "fsync is off")
    here = keyed.environment["DATABASE_URL"]
    keyed.environment["DATABASE_URL"] = "postgresql://kadun:hidden@127.0.0.1:1/kadun"
    found = results(keyed)
    assert differing(found) == {"database": "FAIL", **UNKNOWN_SCHEMA}
    assert "hidden" not in json.dumps(found)
    keyed.environment["DATABASE_URL"] = here
    (keyed.folder / "keys/keyring.json").chmod(0o644)
    assert differing(results(keyed)) == {"permissions": "FAIL"}
    (keyed.folder / "keys/keyring.json").unlink()
    assert differing(results(keyed)) == {"keys": "FAIL"}


def test_signing_keys_from_before_the_last_rotation_are_found(keyed: Service, database: Database) -> None:
    ring = keyed.folder / "keys/keyring.json"
    for _ in range(2):
        older = ring.read_bytes()
        keyed.cardctl("key", "rotate", "--force")
        assert differing(results(keyed)) == {}
    # v1.0.0 journalled a rotation after it, and so some milliseconds later.
    current = {"kid": msgspec.json.decode(ring.read_bytes(), type=KeyRing).current.kid}
    journal.append([Entry(at=datetime.now(UTC), kind=EventKind.KEY_ROTATED, actor="cardctl:root", details=current)])
    assert differing(results(keyed)) == {}
    ring.write_bytes(older)
    found = results(keyed)
    assert differing(found) == {"keys": "FAIL"}
    require(found, "keys", "FAIL", "older than the journal's last rotation (2")


def test_wrong_settings_do_not_stop_it(keyed: Service) -> None:
    keyed.environment["KADUN_TIMEZONE"] = "Mars"
    found = results(keyed)
    assert differing(found) == {"settings": "FAIL", "data-key": "WARN", "data-key-in-use": "WARN"}
    require(found, "settings", "FAIL", "KADUN_TIMEZONE")
    del keyed.environment["DATABASE_URL"]
    assert differing(results(keyed))["database"] == "FAIL"


def test_an_operator_without_one_time_codes_is_named(keyed: Service, host: dict[str, Any]) -> None:
    for status, said in (("OK", "Off: there are no operators"), ("WARN", "enough for alice:")):
        require(results(keyed, "--host-facts", "-", text=json.dumps(host)), "console", status, said)
        keyed.cardctl("admin", "add", "alice", check=False, text="correct horse battery staple\n")


def test_lost_files_and_secrets_that_do_not_open_are_named(keyed: Service, database: Database) -> None:
    for name in ("alice", "bob"):
        keyed.cardctl("admin", "add", name, text="correct horse battery staple\n")
    for name in ("core.age", "other.bin"):
        keyed.cardctl("file", "add", "-", "--name", name, text=name)
    assert differing(results(keyed)) == {}
    Operator.update(totp_secret=pyotp.random_base32()).execute()
    (keyed.folder / "files" / hashlib.sha256(b"core.age").hexdigest()).unlink()
    found = results(keyed)
    require(found, "sealing-key", "WARN", "not sealed: operator alice, operator bob.")
    require(found, "files", "FAIL", "lost: core.age.")
    for operator in Operator.select():
        row = 1 if operator.name == "bob" else operator.id
        operator.totp_secret = SEALING.seal("operator", row, operator.totp_secret)
        operator.save()
    require(results(keyed), "sealing-key", "FAIL", "does not open the secrets of operator bob:")


def test_a_key_that_is_not_the_one_in_use_is_found_until_it_is_accepted(keyed: Service) -> None:
    before = keyed.environment["KERNAL_DATA_KEY"]
    for other in (str(pyrage.x25519.Identity.generate()), "a scheme of my own, long enough", before):
        keyed.environment["KERNAL_DATA_KEY"] = other
        assert differing(results(keyed)) == {"data-key-in-use": "FAIL"}
        keyed.cardctl("key", "accept")
        assert differing(results(keyed)) == {}


def test_the_service_marks_its_key_when_it_starts_and_takes_over_a_new_one_beside_it(own_service: Service) -> None:
    old, new = own_service.environment["KERNAL_DATA_KEY"], str(pyrage.x25519.Identity.generate())
    assert results(own_service)["data-key-in-use"]["status"] == "OK"
    for key, status in ((f"{new}\n{old}", "OK"), (new, "OK"), (old, "FAIL")):
        own_service.stop()
        own_service.environment["KERNAL_DATA_KEY"] = key
        own_service.start()
        assert results(own_service)["data-key-in-use"]["status"] == status
    assert "KERNAL_DATA_KEY is not the one in use before" in own_service.log.read_text()


def test_an_empty_database_a_missing_column_and_a_missing_right(
    keyed: Service, database: Database, postgres: EmbeddedPostgres
) -> None:
    here = keyed.environment["DATABASE_URL"]
    postgres.create_database("for_the_doctor")
    keyed.environment["DATABASE_URL"] = postgres.url("for_the_doctor")
    found = results(keyed)
    assert differing(found) == UNKNOWN_SCHEMA | {"schema": "FAIL"}
    require(found, "schema", "FAIL", "cardctl migrate")
    keyed.environment["DATABASE_URL"] = here
    database.execute_sql("ALTER TABLE file RENAME COLUMN size TO length")
    try:
        assert differing(results(keyed)) == {"files": "WARN"}
    finally:
        database.execute_sql("ALTER TABLE file RENAME COLUMN length TO size")
    name = f"doctor_{uuid4().hex[:8]}"
    database.execute_sql(f"CREATE ROLE {name} LOGIN PASSWORD 'of-a-test'")
    try:
        url = urlsplit(keyed.environment["DATABASE_URL"])
        stranger = url._replace(netloc=f"{name}:of-a-test@{url.netloc.rpartition('@')[2]}")
        keyed.environment["DATABASE_URL"] = stranger.geturl()
        assert differing(results(keyed)) == UNKNOWN_SCHEMA | {"schema": "FAIL"}
    finally:
        database.execute_sql(f"DROP ROLE {name}")


def test_the_recorded_address_is_compared_and_the_probe_deleted(proxied: Service, host: dict[str, Any]) -> None:
    true = "198.51.100.7"
    other = proxied.verify(question("0" * 32), address=true)
    for recorded, status in ((true, "OK"), ("172.18.0.1", "FAIL")):
        asked = proxied.verify(question("cardctl doctor", "cardctl doctor", "cardctl doctor"), address=recorded)
        ask = {"host": true, "address": true, "status": asked.status, "answer": json.dumps(asked.body)}
        found = results(proxied, "--host-facts", "-", text=json.dumps(host | {"proxy": [ask]}))
        require(found, "proxy", status, "")
        assert [event.reference for event in Event.select()] == [other.claims["jti"][-8:]]


def test_invalid_facts_and_wrong_usage_are_reported_in_one_line(keyed: Service, host: dict[str, Any]) -> None:
    for arguments, text, status in [
        *((["--host-facts", "-"], text, 1) for text in ("{}", "", json.dumps(host | {"unknown": 1}))),
        (["--host-only"], "", 2),
        (["--format", "xml"], "", 2),
    ]:
        done = keyed.cardctl("doctor", *arguments, check=False, text=text)
        assert (done.returncode, done.stdout) == (status, "")
        assert status == 2 or len(done.stderr.splitlines()) == 1
