"""Following the journal: every entry once, in whatever order transactions commit."""
# Owns journal-follow.

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from app.domain.codes import EventKind
from app.domain.errors import DatabaseUnavailableError
from app.services.journal import journal_follow
from app.services.journal.journal_follow import REST_SECONDS, Follower
from app.services.journal.journal_lists import JournalFilter
from app.storage import journal
from app.storage.database import Database, connect_to
from app.storage.journal import Entry
from tests.support.services.service import Service, wait_for
from trial.postgres import EmbeddedPostgres

INSERT = "INSERT INTO event (at, kind, actor) VALUES (now(), 'frozen', %s)"
CONTROL = "\x1b[31m\u202e"


@pytest.fixture
def writer(database_url: str) -> Iterator[Callable[[], Any]]:
    """Makes connections of their own, each in a transaction from its first statement on."""
    opened: list[Any] = []

    def connect() -> Any:
        opened.append(psycopg2.connect(database_url))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def write(connection: Any, name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(INSERT, (name,))


def append(*names: str) -> None:
    journal.append([Entry(at=datetime.now(UTC), kind=EventKind.FROZEN, actor=name) for name in names])


class FakeMonotonic:
    """Stands still until `now` is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def names(events: list[Any]) -> list[str]:
    return [event.actor for event in events]


def test_following_begins_with_the_last_entries_or_at_a_time_and_shows_what_is_wanted(database: Database) -> None:
    append("a", "b", "c")
    follower = Follower(database, JournalFilter())
    assert names(follower.begin(2)) == ["b", "c"]
    assert follower.look() == []
    append("d", "e")
    assert names(follower.look()) == ["d", "e"]
    assert follower.look() == []
    since = datetime.now(UTC) - timedelta(hours=1)
    assert len(Follower(database, JournalFilter(since=since)).begin(None)) == 5
    journal.append([Entry(at=datetime.now(UTC), kind=EventKind.ISSUED, actor="issued")])
    issues = Follower(database, JournalFilter(kind=EventKind.ISSUED))
    assert names(issues.begin(10)) == ["issued"]
    append("f")
    assert issues.look() == []


def test_entries_that_commit_late_are_shown_then_and_once(database: Database, writer: Callable[[], Any]) -> None:
    before, importing, time = writer(), writer(), FakeMonotonic()
    write(before, "before")
    follower = Follower(database, JournalFilter(), time)
    assert follower.begin(10) == []
    for n in range(10):
        write(importing, f"import {n}")
        append(f"sale {n}")
        assert names(follower.look()) == [f"sale {n}"], "others are shown while it goes on"
        time.now += REST_SECONDS
    for connection, late in ((before, ["before"]), (importing, [f"import {n}" for n in range(10)])):
        connection.commit()
        assert names(follower.look()) == late
        for _ in range(4):
            time.now += REST_SECONDS
            assert follower.look() == []


def test_an_entry_whose_transaction_was_numbered_late_is_shown(database: Database, writer: Callable[[], Any]) -> None:
    append("before")  # the sequence itself gives its transaction a number now and then, at its first use for one
    stalled = writer()
    follower = Follower(database, JournalFilter(), FakeMonotonic())
    follower.begin(10)
    with stalled.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('event', 'id'))")
        (event_id,) = cursor.fetchone()
        for n in range(5):
            append(str(n))
            assert names(follower.look()) == [str(n)]
        late = "INSERT INTO event (id, at, kind, actor) OVERRIDING SYSTEM VALUE VALUES (%s, now(), 'frozen', 'late')"
        cursor.execute(late, (event_id,))
        for _ in range(5):
            assert follower.look() == []
    stalled.commit()
    assert names(follower.look()) == ["late"]
    assert follower.look() == []


def test_a_rolled_back_entry_does_not_block_the_floor(database: Database, writer: Callable[[], Any]) -> None:
    time = FakeMonotonic()
    follower = Follower(database, JournalFilter(), time)
    follower.begin(10)
    failing = writer()
    write(failing, "never")
    append("a")
    follower.look()
    failing.rollback()
    for n in range(5):
        time.now += REST_SECONDS
        append(str(n))
        assert names(follower.look()) == [str(n)]
    assert len(follower._seen) < 5  # noqa: SLF001  # memory is what this is about


def test_following_remembers_only_the_end_of_the_journal(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_follow, "IN_FLIGHT", 5)
    append(*map(str, range(20)))
    follower = Follower(database, JournalFilter())
    assert names(follower.begin(2)) == ["18", "19"]
    assert len(follower._seen) == 5  # noqa: SLF001  # memory is what this is about
    assert follower.look() == []


class Following:
    """`cardctl events --follow` as a process, its output taken line by line."""

    def __init__(self, service: Service, folder: Path, *arguments: str, **options: Any) -> None:
        self.out, self.err = folder / "out", folder / "err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            options = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, **options}
            self.process = service.spawn_cardctl("events", "--follow", *arguments, **options)

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    def wait_for(self, count: int) -> list[str]:
        return list(wait_for(lambda: self.lines() if len(self.lines()) >= count or self.process.poll() else None))

    def interrupted(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextmanager
def followed(service: Service, folder: Path, *arguments: str, **options: Any) -> Iterator[Following]:
    process = Following(service, folder, *arguments, **options)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait()


def test_each_entry_is_a_json_object_on_a_line_and_ctrl_c_ends_well(offline: Service, tmp_path: Path) -> None:
    append(*map(str, range(12)), CONTROL)
    with followed(offline, tmp_path, "--format", "json") as process:
        assert [json.loads(line)["actor"] for line in process.wait_for(10)] == [*map(str, range(3, 12)), CONTROL]
        append("new")
        assert json.loads(process.wait_for(11)[-1])["actor"] == "new"
        assert process.interrupted() == 0
        assert process.err.read_text() == ""
        assert "\x1b" not in process.out.read_text()


def test_for_people_an_entry_is_an_escaped_line_and_following_can_end_with_standard_input(
    offline: Service, tmp_path: Path
) -> None:
    append(CONTROL)
    with followed(offline, tmp_path, "--since", "1h", "--until-input-ends", stdin=subprocess.PIPE) as process:
        (line,) = process.wait_for(1)
        assert "frozen" in line
        assert "\\x1b[31m\\u202e" in line
        process.process.stdin.write(b"typed\n")
        process.process.stdin.flush()
        append("b")
        process.wait_for(2)
        process.process.stdin.close()
        assert process.process.wait(60) == 0


def appended(database: Database, actor: str) -> bool:
    try:
        database.with_connection(lambda: append(actor))
    except DatabaseUnavailableError:
        return False
    return True


def test_following_survives_a_restart_of_the_database(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    own = connect_to(Database(own_postgres.url(), bulk=True))
    own.with_connection(lambda: append("before"))
    with followed(Service(tmp_path, own_postgres.url()), tmp_path, "--format", "json") as process:
        process.wait_for(1)
        own_postgres.stop()
        wait_for(lambda: "数据库不可用" in process.err.read_text())
        own_postgres.start()
        own.close()
        wait_for(lambda: appended(own, "after"))  # another thread of the tests may have found it away a moment ago
        assert [json.loads(line)["actor"] for line in process.wait_for(2)] == ["before", "after"]
        assert process.interrupted() == 0
    own.close()
    away, back = process.err.read_text().splitlines()
    assert "数据库不可用" in away
    assert "数据库已恢复" in back
