"""Values that a process holds: renewed by a thread, kept while the database is away."""

import threading
import weakref

import pytest

from app.domain.errors import DatabaseUnavailableError
from app.services.held import Held
from app.storage.database import Database
from tests.support.service import wait_for


def test_a_value_is_renewed_and_kept_while_it_cannot_be_read(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[object] = [1, 2, DatabaseUnavailableError("away"), ValueError("odd"), 3]

    def read() -> object:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    held = Held(database, read)
    assert held.get() in {1, 2}  # the thread may have been first
    wait_for(lambda: held.get() == 3)
    assert caplog.text.count("ValueError: odd") == 1
    assert "DatabaseUnavailableError: away" not in caplog.text


def test_renewing_tells_whether_the_value_could_be_read(database: Database) -> None:
    answers: list[object] = [1, DatabaseUnavailableError("away"), ValueError("odd"), 2]

    def read() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    held = Held(database, read)
    assert [held.renew_if_possible() for _ in range(4)] == [True, False, False, True]


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
        held.renew()
        database.close()

    held = Held(database, read)
    assert held.get() == "first"
    slow = threading.Thread(target=read_slowly)
    slow.start()
    assert begun.wait(60)
    held.renew()
    may_end.set()
    slow.join()
    assert held.get() == "new"


def test_without_a_first_value_the_error_is_the_callers(database: Database) -> None:
    def away() -> int:
        raise DatabaseUnavailableError("away")

    held = Held(database, away)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailableError):
            held.get()


def test_the_thread_does_not_keep_a_value_that_nobody_has(database: Database) -> None:
    held = Held(database, lambda: 1)
    held.get()
    reference = weakref.ref(held)
    del held
    wait_for(lambda: reference() is None)
