"""A database with several hosts, of which one is silent, refuses connections, or accepts no writes."""
# Owns database-failover.

import contextlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from app.domain.errors import DatabaseUnavailableError
from app.services.system.doctor.gather_database import durability, standbys
from app.storage import database as database_module
from app.storage.database import Database
from tests.support.services.service import wait_for
from tests.support.services.tcp_proxy import SilentHost
from trial.postgres import EmbeddedPostgres

THREADS = 8
STARTING = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0"
TRY_ANOTHER = b"E" + (len(STARTING) + 4).to_bytes(4) + STARTING
"""What a server says that is not ready (PostgreSQL manual, 53.7): libpq goes on to the next host, as it does after its
time-out."""


def execute(postgres: EmbeddedPostgres, *statements: str) -> None:
    """Execute statements, each in a transaction of its own."""
    with contextlib.closing(psycopg2.connect(postgres.url())) as connection:
        connection.autocommit = True
        for statement in statements:
            connection.cursor().execute(statement)


def host_of(postgres: EmbeddedPostgres) -> str:
    """The address and the port, as they stand in a URL."""
    return postgres.url().rpartition("@")[2].partition("/")[0]


class Standby(EmbeddedPostgres):
    """Follows a primary by streaming replication; made from a copy of its stopped cluster."""

    @classmethod
    def of(cls, primary: EmbeddedPostgres, binaries: Path, cluster: Path, name: str) -> "Standby":
        """Copy the primary's cluster; `name` is what its `synchronous_standby_names` calls the standby."""
        primary.stop()
        copied = cluster.with_name(f"{cluster.name}-standby")
        shutil.copytree(cluster, copied, copy_function=_copy_with_owner)
        for folder in (cluster, *cluster.rglob("*/")):
            owner = folder.stat()
            shutil.chown(copied / folder.relative_to(cluster), owner.st_uid, owner.st_gid)
        signal = copied / "data/standby.signal"
        signal.touch()
        primary.start()
        url = primary.url()
        return cls(binaries, copied, settings={"primary_conninfo": f"{url}?application_name={name}"})


def _copy_with_owner(source: str, target: str) -> None:
    shutil.copy2(source, target)
    owner = Path(source).stat()
    shutil.chown(target, owner.st_uid, owner.st_gid)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentHost]:
    connect = psycopg2.connect

    def patient(*arguments: Any, **options: Any) -> Any:
        # The tests say when it ends.
        return connect(*arguments, **options | {"connect_timeout": 60, "sslmode": "disable"})

    monkeypatch.setattr(psycopg2, "connect", patient)
    with contextlib.closing(SilentHost()) as host:
        yield host


def beside(database_url: str, host: SilentHost) -> Database:
    """The database, with the silent host before it."""
    return Database(database_url.replace("@", f"@127.0.0.1:{host.port},"))


def select(database: Database) -> int:
    """One statement on this thread's connection."""
    (found,) = database.with_connection(lambda: database.execute_sql("SELECT 1").fetchone())
    return int(found)


def answers(database: Database) -> bool:
    """Whether a statement is answered."""
    with contextlib.suppress(DatabaseUnavailableError):
        return select(database) == 1
    return False


def test_threads_connect_beside_each_other(database_url: str, silent: SilentHost) -> None:
    several = beside(database_url, silent)
    with ThreadPoolExecutor(THREADS) as pool:
        selecting = [pool.submit(select, several) for _ in range(THREADS)]
        wait_for(lambda: len(silent.held) == THREADS)
        silent.answer(TRY_ANOTHER)
        assert [one.result() for one in selecting] == [1] * THREADS


@pytest.mark.parametrize("answer", [TRY_ANOTHER, b""], ids=["not ready", "hangs up"])
def test_the_host_that_answered_is_asked_first(database_url: str, silent: SilentHost, answer: bytes) -> None:
    several = beside(database_url, silent)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(select, several)
        wait_for(lambda: silent.held)
        silent.answer(answer)
        assert first.result() == 1
    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(lambda _: select(several), range(THREADS))) == [1] * THREADS
    assert silent.accepted == 1


def test_while_it_is_away_one_thread_tries_and_the_others_fail_at_once(
    database_url: str, silent: SilentHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_SECONDS_BETWEEN_ATTEMPTS", 0)
    away = Database(database_url.rpartition("@")[0] + f"@127.0.0.1:{silent.port}/none")
    with ThreadPoolExecutor(1) as pool:
        failed = pool.submit(select, away)
        wait_for(lambda: silent.held)
        silent.answer(b"")
        with pytest.raises(DatabaseUnavailableError):
            failed.result()
        trying = pool.submit(select, away)
        wait_for(lambda: silent.held)
        with pytest.raises(DatabaseUnavailableError, match="failed a moment ago"):
            select(away)
        assert len(silent.held) == 1
        silent.answer(b"")
        with pytest.raises(DatabaseUnavailableError, match="closed the connection"):
            trying.result()


def test_a_host_that_accepts_no_writes_is_not_used(own_postgres: EmbeddedPostgres) -> None:
    demoted = Database(own_postgres.url())
    assert select(demoted) == 1
    make_read_only(own_postgres, "on")
    wait_for(lambda: demoted.execute_sql("SHOW default_transaction_read_only").fetchone() == ("on",))
    with pytest.raises(DatabaseUnavailableError):
        demoted.with_connection(lambda: demoted.execute_sql("CREATE TABLE written ()"))
    with pytest.raises(DatabaseUnavailableError, match="read-only"):
        select(Database(own_postgres.url()))
    make_read_only(own_postgres, "off")
    again = Database(own_postgres.url())
    wait_for(lambda: answers(again))
    assert again.execute_sql("SELECT to_regclass('written')").fetchone() == (None,)


@pytest.fixture
def standby(
    own_postgres: EmbeddedPostgres, postgres_binaries: Path, cluster_folder: Path, tmp_path: Path
) -> Iterator[Standby]:
    with Standby.of(own_postgres, postgres_binaries, cluster_folder / tmp_path.name, "b") as following:
        yield following


def test_the_primary_is_used_and_its_standby_reported_with_its_lag(
    own_postgres: EmbeddedPostgres, standby: Standby
) -> None:
    primary, other = map(host_of, (own_postgres, standby))
    several = Database(own_postgres.url().replace("@", f"@{other},"))
    assert several.with_connection(several.primary) == ("127.0.0.1", int(primary.partition(":")[2]))
    wait_for(lambda: standbys(several) == {other: 0})
    several.execute_sql("ALTER SYSTEM SET synchronous_standby_names = 'b'")
    several.execute_sql("SELECT pg_reload_conf()")
    wait_for(lambda: durability(several) == (True, "b"))
    several.execute_sql("CREATE TABLE replicated ()")
    standby.stop()
    (found,) = standbys(several).values()
    assert "Connection refused" in str(found)


def make_read_only(postgres: EmbeddedPostgres, value: str) -> None:
    """Make it refuse writes, as a primary does that has become a standby."""
    setting = f"ALTER SYSTEM SET default_transaction_read_only = {value}"
    execute(postgres, "SET default_transaction_read_only = off", setting, "SELECT pg_reload_conf()")


def test_commits_wait_for_the_disk_whatever_the_server_defaults_to(own_postgres: EmbeddedPostgres) -> None:
    execute(own_postgres, "ALTER ROLE CURRENT_USER SET synchronous_commit = off")
    assert Database(own_postgres.url()).execute_sql("SHOW synchronous_commit").fetchone() == ("on",)
