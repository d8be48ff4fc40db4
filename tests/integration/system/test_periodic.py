"""Work in the background: one worker does what is periodic, values are polled, and what is of no more use is pruned."""
# Owns periodic.

import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
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
from tests.support.console.passwords import OTHER, PASSWORD
from tests.support.licence.changes import Environment, change
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


class Worker:
    """A process with the loop, which says what it did."""

    def __init__(self, url: str, host: str, output: Path) -> None:
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen([sys.executable, "-c", WORKER, url, host], cwd=ROOT, stdout=file)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def did(self) -> Counter[str]:
        return Counter(self.output.read_text().split())


@pytest.fixture
def workers(database_url: str, tmp_path: Path) -> Iterator[list[Worker]]:
    """Two workers of the host `a` and one of the host `b`."""
    running = [Worker(database_url, host, tmp_path / f"{number}") for number, host in enumerate(("a", "a", "b"))]
    yield running
    for worker in running:
        worker.end()


def test_another_worker_takes_over_when_the_one_that_works_is_killed(workers: list[Worker]) -> None:
    def working(scope: RunsOn, among: list[Worker]) -> Worker:
        return wait_for(lambda: next((one for one in among if one.did[scope.value] > 1), None))

    of_a, of_b = workers[:2], workers[2:]
    once, of_host = working(RunsOn.ONCE, workers), working(RunsOn.MACHINE, of_a)
    working(RunsOn.MACHINE, of_b)
    time.sleep(1)
    assert [one for one in workers if one.did["once"]] == [once]
    assert [one for one in of_a if one.did["machine"]] == [of_host]
    for killed in {once, of_host}:
        killed.end()
    left = [one for one in workers if one not in (once, of_host)]
    assert working(RunsOn.ONCE, left) is not once
    if set(of_a) & set(left):
        assert working(RunsOn.MACHINE, [one for one in of_a if one in left]) is not of_host


def test_a_task_that_fails_or_takes_too_long_stops_no_other(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []

    def sleep(_until: float) -> None:
        database.execute_sql("SELECT pg_sleep(60)")

    def fail(_until: float) -> None:
        raise ValueError("odd")

    def work(until: float) -> None:
        done.append("often" if until > time.monotonic() else "late")

    table = [
        Task("fails", 0, 1, RunsOn.ONCE, fail),
        Task("hangs", 3600, 0.2, RunsOn.ONCE, sleep),
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


def test_a_service_prunes_its_journal_counts_the_figures_and_tells_webhooks_of_cards(
    database: Database, database_url: str, tmp_path: Path
) -> None:
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
    left = list(answers)

    def read() -> object:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return read


def test_a_value_is_renewed_and_kept_while_it_cannot_be_read(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    polled = Polled(database, reading(1, 2, DatabaseUnavailableError("away"), ValueError("odd"), 3))
    assert polled.get() in {1, 2}  # the thread may have been first
    wait_for(lambda: polled.get() == 3)
    assert caplog.text.count("ValueError: odd") == 1
    assert "DatabaseUnavailableError: away" not in caplog.text


def test_renewing_tells_whether_the_value_could_be_read(database: Database) -> None:
    polled = Polled(database, reading(1, DatabaseUnavailableError("away"), ValueError("odd"), 2))
    assert [polled.renew_if_possible() for _ in range(4)] == [True, False, False, True]


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

    def read_slowly() -> None:
        polled.renew()
        database.close()

    polled = Polled(database, read)
    assert polled.get() == "first"
    slow = threading.Thread(target=read_slowly)
    slow.start()
    assert begun.wait(60)
    polled.renew()
    may_end.set()
    slow.join()
    assert polled.get() == "new"


def test_without_a_first_value_the_error_is_the_callers(database: Database) -> None:
    polled = Polled(database, reading(DatabaseUnavailableError("away")))
    for _ in range(2):
        with pytest.raises(DatabaseUnavailableError):
            polled.get()


def test_the_thread_does_not_keep_a_value_that_nobody_has(database: Database) -> None:
    polled = Polled(database, lambda: 1)
    polled.get()
    reference = weakref.ref(polled)
    del polled
    wait_for(lambda: reference() is None)


HOME = "198.51.100.1"


def test_old_sessions_and_failures_are_pruned(operators: Operators, sessions: Sessions, clock: Clock) -> None:
    operators.add("alice", Role.OWNER, PASSWORD)
    sessions.log_in("alice", PASSWORD, None, HOME)
    with pytest.raises(RefusedError):
        sessions.log_in("alice", OTHER, None, HOME)
    assert periodic.prune_console(clock.now) == 0
    clock.advance(timedelta(hours=1))
    assert periodic.prune_console(clock.now) == 2  # a name's and a network's failures
    clock.advance(IDLE)
    assert periodic.prune_console(clock.now) == 1  # the session
    assert [table.select().count() for table in (OperatorSession, LoginFailure)] == [0, 0]
