"""Hosts report themselves in the database; `cardctl hosts`, `doctor` and scripts read the reports."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from peewee import fn

from app.runtime.settings import Settings
from app.runtime.version import read_version
from app.services.system import hosts
from app.storage import schema
from app.storage.database import Database
from app.storage.models import Host
from app.tokens.key_folder import KeyFolder
from tests.integration.conftest import with_keys
from tests.support.hosts.script_libraries import PRELUDE, SOURCES, checkout_in
from tests.support.services.functions_service import FunctionsService
from tests.support.services.service import Service, wait_for

REPORT = {"version": "1.0", "schema": "0005_now", "kid": "K", "functions_sha256": "f" * 64, "clock_offset_ms": 0}


pytestmark = pytest.mark.apart  # services report themselves, too


def add(name: str, **changes: Any) -> None:
    """A host that reports itself now."""
    Host.insert(name=name, seen_at=fn.clock_timestamp(), **REPORT | changes).execute()


def report(database: Database, service: Service, name: str) -> None:
    hosts.report(database, Settings.from_env(service.environment | {"KADUN_HOST": name}))


def listed(service: Service) -> dict[str, dict[str, Any]]:
    return {host["name"]: host for host in service.cardctl_json("hosts")}


def age(name: str, interval: str) -> None:
    Host.raw("UPDATE host SET seen_at = seen_at - %s::interval WHERE name = %s", interval, name).execute()


def test_a_host_reports_itself(keyed: Service, database: Database) -> None:
    folder = Path(keyed.environment["KADUN_KEYS_DIR"])
    assert ("No host has reported yet" in keyed.cardctl("hosts").stderr, listed(keyed)) == (True, {})
    report(database, keyed, "web-1")
    assert listed(keyed)["web-1"]["functions_sha256"] is None
    with FunctionsService(folder.parent).with_shop():
        report(database, keyed, "web-1")
        host = listed(keyed)["web-1"]
        digest = keyed.cardctl_json("function", "list")["sha256"]
    assert (host["functions_sha256"], len(digest)) == (digest, 64)
    assert (host["version"], host["schema"]) == (read_version(), schema.expected_version())
    assert (host["kid"], host["present"]) == (KeyFolder(folder).load().current.kid, True)
    assert abs(host["clock_offset_ms"]) < 1_000  # one clock


def test_a_running_service_reports_itself(database_url: str, database: Database, tmp_path: Path) -> None:
    with Service(with_keys(tmp_path), database_url, KADUN_HOST="web-9"):
        wait_for(lambda: [host.name for host in hosts.listed(database)] == ["web-9"])


def test_hosts_are_forgotten_after_a_day_or_by_command(keyed: Service, database: Database) -> None:
    for name in ("web-1", "web-2", "web-3"):
        add(name)
    age("web-2", "25 hours")
    age("web-3", "23 hours")
    report(database, keyed, "web-1")
    assert {name: host["present"] for name, host in listed(keyed).items()} == {"web-1": True, "web-3": False}
    assert "Forgotten: web-3" in keyed.cardctl("hosts", "--forget", "web-3").stderr
    assert list(listed(keyed)) == ["web-1"]
    again = keyed.cardctl("hosts", "--forget", "web-3", check=False)
    assert (again.returncode, "There is no host web-3" in again.stderr) == (1, True)


def test_the_list_marks_what_differs_and_doctor_names_it(keyed: Service) -> None:
    add("web-1")
    add("web-2", kid="other", clock_offset_ms=2_500)
    done = keyed.cardctl("doctor", "--format", "json", check=False)
    (found,) = [result for result in json.loads(done.stdout) if result["check"] == "hosts"]
    said = "different signing keys; different time. See cardctl hosts"
    assert (found["status"], found["message_en"]) == ("WARN", said)
    printed = keyed.cardctl("hosts")
    assert re.findall(r"(\S+|\(ms\)) ≠", printed.stdout) == ["kid", "(ms)"]
    assert "different signing keys" in printed.stderr


def others(folder: Path, url: str, binaries: Path) -> list[str]:
    """What scripts/lib/database.sh finds: scripts that exchange the database refuse to while there are any."""
    (psql,) = binaries.rglob("bin/psql")
    checkout = checkout_in(folder)
    (checkout / ".env").write_text("KADUN_HOST=web-1\n")
    code = f"""
    owner_sql() {{ {str(psql)!r} -XAtq -v ON_ERROR_STOP=1 {url!r} -c "$2"; }}
    LIVE=$(owner_sql x 'SELECT current_database()')
    other_hosts"""
    command = ("bash", "-c", PRELUDE.format(sources=SOURCES) + code, "script.sh", checkout)
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


def test_scripts_find_machines_that_have_reported_themselves_of_late(
    tmp_path: Path, database: Database, database_url: str, postgres_binaries: Path
) -> None:
    for name in ("web-1", "web-2", "web-3", "unnamed"):
        add(name)
    age("web-3", "61 seconds")
    assert others(tmp_path / "1", database_url, postgres_binaries) == ["web-2"]
    database.execute_sql("ALTER TABLE host RENAME TO hidden")
    try:
        assert others(tmp_path / "2", database_url, postgres_binaries) == [], "a database of release 1.0"
    finally:
        database.execute_sql("ALTER TABLE hidden RENAME TO host")
