"""Database hosts of which one is silent or accepts no writes, app machines that report themselves, and work in the
background: one worker does what is periodic, values are polled, and old rows are pruned."""
# Owns database-failover, periodic.

import contextlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psycopg2
import pytest
from peewee import fn

from app.domain.errors import DatabaseUnavailableError
from app.domain.operators.operators import Role
from app.domain.texts import RefusedError
from app.runtime.clock import utc_now
from app.runtime.settings import Settings
from app.runtime.version import read_version
from app.services.operators.operators import Operators
from app.services.operators.sessions import IDLE, Sessions
from app.services.polled import Polled
from app.services.system import hosts, periodic
from app.services.system.periodic import Loop, Task
from app.storage import database as database_module
from app.storage import schema
from app.storage.database import Database
from app.storage.models import Card, Event, Figures, Host, LoginFailure, OperatorSession, WebhookOutbox
from app.tokens.key_folder import KeyFolder
from tests.conftest import Clock
from tests.integration.conftest import with_keys
from tests.support.console.console_scene import add_webhook
from tests.support.hosts.stack import PRELUDE, SOURCES, checkout_in
from tests.support.licence.bound_cards import Environment, change
from tests.support.secrets import OTHER, PASSWORD
from tests.support.services.functions_service import FunctionsService
from tests.support.services.relays import SilentHost
from tests.support.services.service import ROOT, Service, wait_for
from trial.postgres import EmbeddedPostgres

pytestmark = pytest.mark.apart  # services report themselves and do periodic work, too

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


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentHost]:
    connect = psycopg2.connect

    def patient(*arguments: Any, **options: Any) -> Any:
        # The tests say when it ends.
        return connect(*arguments, **options | {"connect_timeout": 60, "sslmode": "disable"})

    monkeypatch.setattr(psycopg2, "connect", patient)
    with contextlib.closing(SilentHost()) as host:
        yield host


@pytest.fixture
def several(database_url: str, silent: SilentHost) -> Database:
    """The database, with the silent host before it."""
    return Database(database_url.replace("@", f"@127.0.0.1:{silent.port},"))


def select(database: Database) -> int:
    (found,) = database.with_connection(lambda: database.execute_sql("SELECT 1").fetchone())
    return int(found)


@pytest.mark.parametrize("answer", [TRY_ANOTHER, b""], ids=["not ready", "hangs up"])
def test_threads_connect_beside_each_other_and_know_the_host(
    several: Database, silent: SilentHost, answer: bytes
) -> None:
    for _ in range(2):
        with ThreadPoolExecutor(THREADS) as pool:
            selecting = [pool.submit(select, several) for _ in range(THREADS)]
            wait_for(lambda: silent.accepted == THREADS)
            silent.answer(answer)
            assert [one.result() for one in selecting] == [1] * THREADS
    assert silent.accepted == THREADS


def test_one_tries_and_the_others_fail(database_url: str, silent: SilentHost, monkeypatch: pytest.MonkeyPatch) -> None:
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


def make_read_only(postgres: EmbeddedPostgres, value: str) -> None:
    """Make it refuse writes, as a primary does that has become a standby."""
    setting = f"ALTER SYSTEM SET default_transaction_read_only = {value}"
    execute(postgres, "SET default_transaction_read_only = off", setting, "SELECT pg_reload_conf()")


def test_a_host_that_takes_no_writes_is_not_used_and_commits_wait_for_the_disk(own_postgres: EmbeddedPostgres) -> None:
    execute(own_postgres, "ALTER ROLE CURRENT_USER SET synchronous_commit = off")
    demoted = Database(own_postgres.url())
    assert demoted.execute_sql("SHOW synchronous_commit").fetchone() == ("on",), "whatever the server defaults to"
    assert select(demoted) == 1
    make_read_only(own_postgres, "on")
    wait_for(lambda: demoted.execute_sql("SHOW default_transaction_read_only").fetchone() == ("on",))
    with pytest.raises(DatabaseUnavailableError):
        demoted.with_connection(lambda: demoted.execute_sql("CREATE TABLE written ()"))
    with pytest.raises(DatabaseUnavailableError, match="read-only"):
        select(Database(own_postgres.url()))
    make_read_only(own_postgres, "off")
    again = Database(own_postgres.url())

    def answers() -> bool:
        with contextlib.suppress(DatabaseUnavailableError):
            return select(again) == 1
        return False

    wait_for(answers)
    assert again.execute_sql("SELECT to_regclass('written')").fetchone() == (None,)


def test_the_primary_is_used_and_not_its_standby(
    own_postgres: EmbeddedPostgres, postgres_binaries: Path, cluster_folder: Path, tmp_path: Path
) -> None:
    cluster = cluster_folder / tmp_path.name
    copied = cluster.with_name(f"{cluster.name}-standby")
    own_postgres.stop()
    subprocess.run(("cp", "-a", cluster, copied), check=True)  # each file with its owner
    (copied / "data/standby.signal").touch()
    own_postgres.start()
    follow = {"primary_conninfo": f"{own_postgres.url()}?application_name=b"}
    with EmbeddedPostgres(postgres_binaries, copied, settings=follow) as standby:
        primary, other = (server.url().rpartition("@")[2].partition("/")[0] for server in (own_postgres, standby))
        several = Database(own_postgres.url().replace("@", f"@{other},"))
        assert several.with_connection(lambda: several.connection().info.port) == int(primary.partition(":")[2])


REPORT = {"version": "1.0", "schema": "0005_now", "kid": "K", "functions_sha256": "f" * 64, "clock_offset_ms": 0}


def add(name: str, **changes: Any) -> None:
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


def test_scripts_find_machines(tmp_path: Path, database: Database, database_url: str, postgres_binaries: Path) -> None:
    for name in ("web-1", "web-2", "web-3", "unnamed"):
        add(name)
    age("web-3", "61 seconds")
    assert others(tmp_path / "1", database_url, postgres_binaries) == ["web-2"]
    database.execute_sql("ALTER TABLE host RENAME TO hidden")
    try:
        assert others(tmp_path / "2", database_url, postgres_binaries) == [], "a database of release 1.0"
    finally:
        database.execute_sql("ALTER TABLE hidden RENAME TO host")


WORKER = """
import sys, time
from app.services.system import periodic
from app.services.system.periodic import Loop, Task
from app.storage.database import Database

periodic.TICK_SECONDS = 0.1
tasks = [
    Task("once", 0, 5, lambda _until: print("once", flush=True)),
    Task("each", 0, 5, lambda _until: print("each", flush=True), in_each_worker=True),
]
Loop(Database(sys.argv[1]), tasks).start()
time.sleep(600)
"""


def test_another_worker_takes_over_when_the_one_that_works_is_killed(database_url: str, tmp_path: Path) -> None:
    def start(number: int) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{number}").open("wb") as output:
            command = (sys.executable, "-c", WORKER, database_url)
            return running.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=output))

    def did(worker: int) -> Counter[str]:
        return Counter((tmp_path / f"{worker}").read_text().split())

    def working(among: Iterable[int]) -> int:
        (found,) = wait_for(lambda: [worker for worker in among if did(worker)["once"] > 1])
        return found

    with contextlib.ExitStack() as running:
        workers = {0, 1, 2}
        processes = [start(number) for number in workers]
        for process in processes:
            running.callback(process.kill)
        first = working(workers)
        wait_for(lambda: all(did(worker)["each"] > 1 for worker in workers))
        assert [worker for worker in workers if did(worker)["once"]] == [first]
        processes[first].kill()
        working(workers - {first})


def test_a_task_that_fails_or_hangs_stops_no_other(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def fail(_until: float) -> None:
        raise ValueError("odd")

    def work(until: float) -> None:
        done.append("often" if until > time.monotonic() else "late")

    table = [
        Task("fails", 0, 1, fail),
        Task("hangs", 3600, 0.2, lambda _until: database.execute_sql("SELECT pg_sleep(60)")),
        Task("often", 0, 1, work),
        Task("seldom", 3600, 1, lambda _until: done.append("seldom")),
    ]
    loop, pid = Loop(database, table), database.connection().get_backend_pid()
    loop.turn()
    time.sleep(1)  # a task rests as long as it took
    loop.turn()
    assert Counter(done) == {"often": 2, "seldom": 1}
    failed = [record.__dict__["task"] for record in caplog.records if "task" in record.__dict__]
    assert failed == ["fails", "hangs", "fails"]
    assert "database slow" in caplog.messages
    assert database.connection().get_backend_pid() == pid, "its locks are held, and the statement is not repeated"


def test_a_service_does_its_periodic_work(database: Database, database_url: str, tmp_path: Path) -> None:
    now = utc_now()
    old, soon = now - timedelta(days=400), now + timedelta(days=1)
    begun = {"is_activated": True, "activated_at": now, "expires_at": soon, "created_at": now}
    Card.insert(id="A" * 32, validity=timedelta(days=1), **begun).execute()
    for number in range(12):
        change("A" * 32, *(Environment(f"m{machine}", "198.51.100.1") for machine in (number, number + 1)), now)
    add_webhook("shop", now, topics=["card.expiring", "card.shared"], expiring_until=now)
    Event.insert(at=old, kind="rejected", code="CARD_NOT_FOUND", card_id="X" * 32, ip="198.51.100.7").execute()
    with Service(with_keys(tmp_path), database_url):
        wait_for(lambda: not Event.select().where(Event.at == old).exists())
        wait_for(lambda: Figures.select().exists())
        wait_for(lambda: {row.topic for row in WebhookOutbox.select()} == {"card.expiring", "card.shared"})


def reading(*answers: object) -> Mock:
    """Read one answer after the other, the last one from then on; an exception is raised."""
    return Mock(side_effect=chain(answers, repeat(answers[-1])))


def test_a_value_is_kept_while_no_newer_one_can_be_read(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    polled = Polled(database, reading(1, 2, DatabaseUnavailableError("away"), ValueError("odd"), 3))
    assert polled.get() in {1, 2}  # the thread may have been first
    wait_for(lambda: polled.get() == 3)
    assert caplog.text.count("ValueError: odd") == 1
    assert "DatabaseUnavailableError: away" not in caplog.text
    polled = Polled(database, reading(1, DatabaseUnavailableError("away"), ValueError("odd"), 2))
    assert [polled.renew_if_possible() for _ in range(4)] == [True, False, False, True]
    polled = Polled(database, reading(DatabaseUnavailableError("away")))
    for _ in range(2):
        with pytest.raises(DatabaseUnavailableError):
            polled.get()


def test_old_sessions_and_failures_are_pruned(operators: Operators, sessions: Sessions, clock: Clock) -> None:
    operators.add("alice", Role.OWNER, PASSWORD)
    sessions.log_in("alice", PASSWORD, None, "198.51.100.1")
    with pytest.raises(RefusedError):
        sessions.log_in("alice", OTHER, None, "198.51.100.1")
    assert periodic.prune_console(clock.now) == 0
    clock.advance(timedelta(hours=1))
    assert periodic.prune_console(clock.now) == 2  # a name's and a network's failures
    clock.advance(IDLE)
    assert periodic.prune_console(clock.now) == 1  # the session
    assert [table.select().count() for table in (OperatorSession, LoginFailure)] == [0, 0]
