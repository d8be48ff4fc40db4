"""The connection that records touches: its session, its schema check, and its one reconnect."""

import socket
from collections.abc import Callable
from datetime import date
from typing import Any

import psycopg2
import pytest
from psycopg2 import extensions

from app.domain.errors import SchemaMismatchError
from app.runtime import greenlets
from app.storage import database as database_module
from app.storage import schema, touches
from app.storage.database import Database
from app.storage.statements import PREPARED
from app.storage.touches import Touches
from tests.conftest import START
from tests.support.licence.bound_cards import write_bound

DAY = date(2026, 3, 1)
SESSION = {
    "plan_cache_mode": ("force_generic_plan", "auto"),
    **dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"), ("off", "on")),
    "synchronous_commit": ("off", "on"),
    "lock_timeout": ("100ms", "5s"),
    "statement_timeout": ("10s", "10s"),
    "TimeZone": ("UTC", "UTC"),
    "client_encoding": ("UTF8", "UTF8"),
}
PID = {"pid": "SELECT pg_backend_pid() + $1::int"}  # EXECUTE takes at least one argument


@pytest.fixture
def probed(database_url: str) -> Database:
    """The database, with statements that look at a connection."""
    probes = {"setting": "SELECT current_setting($1::text)"} | PID
    return Database(database_url, prepared=PREPARED | probes, on_connect=schema.check_version)


@pytest.fixture
def run(probed: Database) -> Callable[..., Any]:
    """Runs a prepared statement on the connection of `Touches`, and returns what it selects."""
    run_prepared = Touches(probed)._run  # noqa: SLF001  # it has no other use
    return lambda *arguments: run_prepared(*arguments)[0][0]


def end(database: Database, pid: int) -> None:
    database.execute_sql("SELECT pg_terminate_backend(%s, 20000)", (pid,))


def test_only_this_connection_commits_without_waiting_for_the_disk_and_has_settings_for_the_planner(
    probed: Database, run: Callable[..., Any]
) -> None:
    with probed.connection_context():
        found = {name: (run("setting", name), probed.run_prepared("setting", name)[0][0]) for name in SESSION}
    assert found == SESSION
    limits = [run("setting", name) for name in ("lock_timeout", "deadlock_timeout")]
    assert limits == ["100ms", "1s"], "it gives way before PostgreSQL looks for deadlocks"


def test_the_connection_is_kept_beyond_errors_of_the_server_and_replaced_once_it_was_ended(
    database: Database, run: Callable[..., Any]
) -> None:
    (pid,) = {run("pid", 0) for _ in range(5)}
    with pytest.raises(psycopg2.ProgrammingError, match="unrecognized configuration parameter"):
        run("setting", "nonsense")
    assert run("pid", 0) == pid
    end(database, pid)
    assert run("pid", 0) != pid


def test_a_statement_that_the_server_refuses_is_not_repeated(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (card_id,) = write_bound(1, START)
    ran: list[str] = []
    execute = touches.execute_prepared
    noting = lambda connection, name, *arguments: (ran.append(name), execute(connection, name, *arguments))[1]  # noqa: E731
    monkeypatch.setattr(touches, "execute_prepared", noting)
    lock = {"lock": "SELECT id FROM card WHERE id = $1::text FOR UPDATE NOWAIT"}
    run = Touches(Database(database_url, prepared=PID | lock))._run  # noqa: SLF001  # as above
    run("pid", 0)
    with database.atomic():
        database.execute_sql("SELECT FROM card FOR UPDATE")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            run("lock", card_id)
    assert ran == ["pid", "lock"]


def test_an_older_schema_is_refused_at_the_next_connection(database: Database, run: Callable[..., Any]) -> None:
    pid = run("pid", 0)
    database.execute_sql("UPDATE schema_migration SET name = '0000' WHERE name = %s", (schema.expected_version(),))
    try:
        end(database, pid)
        with pytest.raises(SchemaMismatchError, match="run `scripts/cardctl migrate`"):
            run("pid", 0)
    finally:
        database.execute_sql("UPDATE schema_migration SET name = %s WHERE name = '0000'", (schema.expected_version(),))


def test_it_connects_to_the_first_of_several_hosts_that_accepts_writes(database_url: str) -> None:
    several = Database(database_url.replace("@", "@127.0.0.1:1,"), prepared=PID)
    assert Touches(several)._run("pid", 0)  # noqa: SLF001  # as above


def test_where_the_first_address_of_a_host_is_silent_the_next_is_tried(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greenlets, "CONNECT_SECONDS", 0.2)
    port = int(extensions.parse_dsn(database_url)["port"])
    addresses = [(None, None, None, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]
    monkeypatch.setattr(database_module.socket, "getaddrinfo", lambda *_arguments, **_options: addresses)
    extensions.set_wait_callback(greenlets.wait)
    try:
        with socket.create_server(("127.0.0.2", port)):
            assert Database(database_url).execute_sql("SELECT 1").fetchone() == (1,)
    finally:
        extensions.set_wait_callback(None)
