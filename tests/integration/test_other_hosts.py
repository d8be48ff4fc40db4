"""What scripts/lib/hosts.sh finds in a real database: sessions of other machines that have not been away."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg2
import pytest

from app.storage import host_reports
from app.storage.database import Database
from app.storage.models import Host
from tests.support.reported_hosts import REPORT
from tests.support.script_libraries import PRELUDE, SOURCES, checkout_in


@pytest.fixture
def database_url(apart_url: str) -> str:
    """A database in which no other test's service has sessions."""
    return apart_url


@pytest.fixture
def sessions(database_url: str) -> Iterator[None]:
    with ExitStack() as held:
        for name in (
            "kadun",
            "kadun@unnamed",
            "kadun@web-1",
            "kadun@web-2",
            "kadun@web-2",
            "kadun@web-3",
            "psql",
            "kadun@x y",
        ):
            held.enter_context(closing(psycopg2.connect(database_url, application_name=name)))
        yield


def others(folder: Path, url: str, binaries: Path, call: str = "other_hosts") -> list[str]:
    (psql,) = binaries.rglob("bin/psql")
    checkout = checkout_in(folder / "checkout")
    (checkout / ".env").write_text("KADUN_HOST=web-1\n")
    code = f"""
    owner_sql() {{ {str(psql)!r} -XAtq -v ON_ERROR_STOP=1 {url!r} -c "$2"; }}
    LIVE=$(owner_sql x 'SELECT current_database()')
    {call}"""
    command = ("bash", "-c", PRELUDE.format(sources=SOURCES) + code, "script.sh", checkout)
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


@pytest.mark.usefixtures("sessions")
def test_sessions_of_other_machines_are_found(
    tmp_path: Path, database: Database, database_url: str, postgres_binaries: Path
) -> None:
    for name in ("web-2", "web-3"):
        database.with_connection(lambda name=name: host_reports.write(name, REPORT))
    Host.raw("UPDATE host SET seen_at = seen_at - interval '61 seconds' WHERE name = 'web-3'").execute()
    assert others(tmp_path, database_url, postgres_binaries) == ["web-2"]


@pytest.mark.usefixtures("sessions")
def test_machines_that_have_not_reported_themselves_count(
    tmp_path: Path, database_url: str, postgres_binaries: Path
) -> None:
    assert others(tmp_path, database_url, postgres_binaries) == ["web-2", "web-3"]


def test_machines_with_an_older_program_are_found(
    tmp_path: Path, database: Database, database_url: str, postgres_binaries: Path
) -> None:
    for name, schema in (("web-1", "0019_old"), ("web-2", "0020_old"), ("web-3", "0019_old"), ("web-4", "0021_hosts")):
        facts = REPORT | {"schema": schema}
        database.with_connection(lambda name=name, facts=facts: host_reports.write(name, facts))
    Host.raw("UPDATE host SET seen_at = seen_at - interval '61 seconds' WHERE name = 'web-3'").execute()
    found = others(tmp_path, database_url, postgres_binaries, "older_hosts 0021_hosts")
    assert found == ["web-2 0020_old"], "not this machine, whose program is replaced, and none that is away"
