"""What processes do in the background: they poll values, and prune what is of no more use."""

import threading
import weakref
from collections.abc import Callable
from datetime import timedelta

import pytest

from app.domain.errors import DatabaseUnavailableError
from app.domain.operators import Role
from app.domain.texts import RefusedError
from app.services import housekeeping
from app.services.operators import Operators
from app.services.polled import Polled
from app.services.sessions import IDLE, Sessions
from app.storage.database import Database
from app.storage.models import LoginFailure, OperatorSession
from tests.conftest import Clock
from tests.support.passwords import OTHER, PASSWORD
from tests.support.service import wait_for


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


@pytest.fixture
def database_url(apart_url: str) -> str:
    """No other test's service, which prunes the same tables, sees these rows."""
    return apart_url


def test_old_sessions_and_failures_are_pruned(operators: Operators, sessions: Sessions, clock: Clock) -> None:
    operators.add("alice", Role.OWNER, PASSWORD)
    sessions.log_in("alice", PASSWORD, None, HOME)
    with pytest.raises(RefusedError):
        sessions.log_in("alice", OTHER, None, HOME)
    assert housekeeping.prune_console(clock.now) == 0
    clock.advance(timedelta(hours=1))
    assert housekeeping.prune_console(clock.now) == 2  # a name's and a network's failures
    clock.advance(IDLE)
    assert housekeeping.prune_console(clock.now) == 1  # the session
    assert [table.select().count() for table in (OperatorSession, LoginFailure)] == [0, 0]
