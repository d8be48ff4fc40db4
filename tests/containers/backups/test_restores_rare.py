"""scripts/restore.sh: backups of other installations and other schemas, and interruptions at other moments."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.hosts.backups import Backups
from tests.support.hosts.restored import Restored, rows
from tests.support.hosts.stack import Stack, run
from tests.support.services.service import wait_for

pytestmark = [pytest.mark.xdist_group("restores"), pytest.mark.nightly]

FAILS_AFTERWARDS = """#!/bin/bash
# Replaces docker: the exchange of the databases is carried out, and the script is told that it failed.
[[ "$*" == *'RENAME TO "kadun_before_restore'* ]] || exec {docker} "$@"
{docker} "$@" >/dev/null
exit 1
"""


def test_a_database_that_postgresql_is_vacuuming_is_dropped(restored: Restored) -> None:
    restored.server.script("restore.sh", "--no-safety-dump", restored.server.take())
    (kept,) = restored.databases() - {"kadun"}
    with vacuum_under_way(restored.server.stack, kept):
        assert kept in restored.server.script("restore.sh", "--drop-old").stdout
    assert restored.databases() == {"kadun"}


@contextmanager
def vacuum_under_way(stack: Stack, database: str) -> Iterator[None]:
    """PostgreSQL itself is vacuuming a table of a database, and will be for minutes."""

    def execute(statement: str, where: str = "postgres") -> str:
        words = ("psql", "-qXtA", "-U", "postgres", "-d", where, "-c", statement)
        return stack.execute("database", *words).stdout.strip()

    slow = ("insert_threshold = 0", "cost_delay = 100", "cost_limit = 1")
    parameters = ", ".join(f"autovacuum_vacuum_{parameter}" for parameter in slow)
    execute(f"CREATE TABLE slow (n) WITH ({parameters}) AS SELECT generate_series(1, 500000)", database)
    execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
    execute("SELECT pg_reload_conf()")
    try:
        vacuums = f"SELECT FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND datname = '{database}'"
        wait_for(lambda: execute(f"SELECT EXISTS({vacuums})") == "t")
        yield
    finally:
        execute("ALTER SYSTEM RESET autovacuum_naptime")
        execute("SELECT pg_reload_conf()")


def test_a_backup_that_the_service_cannot_start_on_leaves_the_old_database_serving(restored: Restored) -> None:
    server, file = restored.server, with_schema(restored.server, "0000_")  # its tables are there: the migration fails
    before = rows(server)
    done = server.script("restore.sh", file, check=False)
    assert done.returncode == 1
    assert "The service is not ready on what was restored: migrate: " in done.stderr
    (kept,) = restored.databases() - {"kadun"}
    assert f"What was restored is kept as {kept}, with 0 journal entries more" in done.stderr
    assert rows(server) == before
    assert restored.serves(restored.acknowledged[1])
    assert kept in server.script("restore.sh", "--drop-old").stdout
    assert restored.databases() == {"kadun"}


def test_a_switch_interrupted_at_the_exchange_is_undone(restored: Restored, tmp_path: Path) -> None:
    server, before = restored.server, rows(restored.server)
    docker = run("sh", "-c", "command -v docker").stdout.strip()
    (tmp_path / "docker").write_text(FAILS_AFTERWARDS.format(docker=docker))
    (tmp_path / "docker").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    failed = server.script("restore.sh", "--no-safety-dump", restored.backup, check=False, PATH=path)
    assert failed.returncode == 1
    assert "Nothing was restored: the old database is in its place" in failed.stderr
    assert rows(server) == before
    assert restored.serves(restored.acknowledged[1])
    server.script("restore.sh", "--drop-old")


def test_a_restore_that_is_ended_halfway_changes_nothing(restored: Restored) -> None:
    before = rows(restored.server)
    restoring = restored.server.start("restore.sh", "--no-safety-dump", str(restored.backup))
    wait_for(lambda: "kadun_restoring" in restored.databases())
    restoring.terminate()
    said = restoring.communicate(timeout=300)
    assert restoring.returncode not in {0, 1}, said
    assert restored.databases() == {"kadun"}
    assert rows(restored.server) == before


def with_schema(server: Backups, prefix: str) -> Path:
    """A backup of a schema whose name begins so."""
    server.stack.sql("owner", f"UPDATE schema_migration SET name = '{prefix}' || name")  # noqa: S608
    try:
        return server.take()
    finally:
        server.stack.sql("owner", f"UPDATE schema_migration SET name = substr(name, {len(prefix) + 1})")  # noqa: S608
