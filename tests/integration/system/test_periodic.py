"""Work in the background: one worker does what is periodic, values are polled, and what is of no more use is pruned."""
# Owns periodic.

import contextlib
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import chain, repeat
from pathlib import Path

import pytest

from app.domain.errors import DatabaseUnavailableError
from app.domain.operators.operators import Role
from app.domain.texts import RefusedError
from app.runtime.clock import utc_now
from app.services.operators.operators import Operators
from app.services.operators.sessions import IDLE, Sessions
from app.services.polled import Polled
from app.services.system import periodic
from app.services.system.periodic import Loop, RunsOn, Task
from app.storage.database import Database
from app.storage.models import Card, Event, Figures, LoginFailure, OperatorSession, WebhookOutbox
from tests.conftest import Clock
from tests.integration.conftest import with_keys
from tests.support.console.console_scene import add_webhook
from tests.support.licence.bound_cards import Environment, change
from tests.support.secrets import OTHER, PASSWORD
from tests.support.services.service import ROOT, Service, wait_for

WORKER = """
import sys, time
from app.services.system import periodic
from app.services.system.periodic import Loop, RunsOn, Task
from app.storage.database import Database

periodic.TICK_SECONDS = 0.1
url, host = sys.argv[1:]
tasks = [Task(scope.value, 0, 5, scope, lambda _until, scope=scope: print(scope.value, flush=True)) for scope in RunsOn]
Loop(Database(url), host, tasks).start()
time.sleep(600)
"""


pytestmark = pytest.mark.apart  # services do this work, too


def test_another_worker_takes_over_when_the_one_that_works_is_killed(database_url: str, tmp_path: Path) -> None:
    def start(number: int, host: str) -> subprocess.Popen[bytes]:
        command = (sys.executable, "-c", WORKER, database_url, host)
        with (tmp_path / f"{number}").open("wb") as output:
            return running.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=output))

    def did(worker: int) -> Counter[str]:
        return Counter((tmp_path / f"{worker}").read_text().split())

    def working(scope: RunsOn, among: Iterable[int]) -> int:
        (found,) = wait_for(lambda: [worker for worker in among if did(worker)[scope.value] > 1])
        return found

    with contextlib.ExitStack() as running:
        processes = [start(number, host) for number, host in enumerate(("a", "a", "b"))]
        for process in processes:
            running.callback(process.kill)
        all_workers, of_a = {0, 1, 2}, {0, 1}
        once, of_host = working(RunsOn.ONCE, all_workers), working(RunsOn.MACHINE, of_a)
        working(RunsOn.MACHINE, {2})
        time.sleep(1)
        assert [worker for worker in all_workers if did(worker)["once"]] == [once]
        assert [worker for worker in of_a if did(worker)["machine"]] == [of_host]
        killed = {once, of_host}
        for worker in killed:
            processes[worker].kill()
        working(RunsOn.ONCE, all_workers - killed)
        if of_a - killed:
            working(RunsOn.MACHINE, of_a - killed)


def test_a_task_that_fails_or_hangs_stops_no_other(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    done: list[str] = []

    def fail(_until: float) -> None:
        raise ValueError("odd")

    def work(until: float) -> None:
        done.append("often" if until > time.monotonic() else "late")

    table = [
        Task("fails", 0, 1, RunsOn.ONCE, fail),
        Task("hangs", 3600, 0.2, RunsOn.ONCE, lambda _until: database.execute_sql("SELECT pg_sleep(60)")),
        Task("often", 0, 1, RunsOn.ONCE, work),
        Task("seldom", 3600, 1, RunsOn.MACHINE, lambda _until: done.append("seldom")),
    ]
    loop, pid = Loop(database, "web-1", table), database.connection().get_backend_pid()
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


def reading(*answers: object) -> Callable[[], object]:
    """Read one answer after the other, the last one from then on; an exception is raised."""
    following = chain(answers, repeat(answers[-1]))

    def read() -> object:
        answer = next(following)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return read


def test_a_value_is_kept_while_it_cannot_be_read(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    polled = Polled(database, reading(1, 2, DatabaseUnavailableError("away"), ValueError("odd"), 3))
    assert polled.get() in {1, 2}  # the thread may have been first
    wait_for(lambda: polled.get() == 3)
    assert caplog.text.count("ValueError: odd") == 1
    assert "DatabaseUnavailableError: away" not in caplog.text


def test_renewing_tells_of_failures_and_the_first_is_the_callers_error(database: Database) -> None:
    polled = Polled(database, reading(1, DatabaseUnavailableError("away"), ValueError("odd"), 2))
    assert [polled.renew_if_possible() for _ in range(4)] == [True, False, False, True]
    polled = Polled(database, reading(DatabaseUnavailableError("away")))
    for _ in range(2):
        with pytest.raises(DatabaseUnavailableError):
            polled.get()


@pytest.mark.usefixtures("renewed_by_hand")
def test_a_reading_that_began_earlier_does_not_replace_a_newer_one(database: Database) -> None:
    begun, may_end = threading.Event(), threading.Event()
    values = iter(["first", "old", "new"])

    def read() -> str:
        value = next(values)
        if value == "old":
            begun.set()
            assert may_end.wait(60)
        return value

    polled = Polled(database, read)
    assert polled.get() == "first"
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(lambda: (polled.renew(), database.close()))
        assert begun.wait(60)
        polled.renew()
        may_end.set()
        slow.result()
    assert polled.get() == "new"


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
