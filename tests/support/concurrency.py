"""Calls and requests that run at the same time, or wait for one another."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import gevent
import pytest
from gevent.event import Event

from app.storage.batcher import Batcher
from app.storage.database import Database
from tests.support.services.service import wait_for_lock

Result = TypeVar("Result")


def at_once(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Make these calls, each in a thread of its own; return their results in the same order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: call(), calls))


def outcomes_at_once(
    database: Database, calls: Sequence[Callable[[], object]], *errors: type[Exception]
) -> list[type[Exception] | None]:
    """Make these calls at once; return for each which of the errors it ended in, or None."""

    def attempt(call: Callable[[], object]) -> type[Exception] | None:
        with database.connection_context():
            try:
                call()
            except errors as error:
                return type(error)
        return None

    return at_once([partial(attempt, call) for call in calls])


def wait_behind(elsewhere: Database, database: Database, call: Callable[[], Result], end: str = "COMMIT") -> Result:
    """Make a call, which waits for a lock of the transaction elsewhere; end that, and return the call's result."""

    def connected() -> Result:
        with database.connection_context():
            return call()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(connected)
        try:
            wait_for_lock(elsewhere)
        finally:
            elsewhere.execute_sql(end)
        return waiting.result(60)


def begin(*works: Callable[[], Any]) -> list[Any]:
    """Begin work in greenlets that become ready at the same moment; each has then run until it waits for something."""
    begun = [gevent.spawn(work) for work in works]
    gevent.sleep(0)
    return begun


def results(begun: Iterable[Any]) -> list[Any]:
    return [greenlet.get(timeout=20) for greenlet in begun]


class HeldStatements:
    """Holds the first statement, and all that follow it, until `release`; `ran` has their arguments in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[tuple[Any, ...]] = []
        self._gate = Event()
        run = Batcher._run  # noqa: SLF001

        def held(touches: Batcher, name: str, *arguments: object) -> list[tuple[Any, ...]]:
            self.ran.append(arguments)
            self._gate.wait()
            return run(touches, name, *arguments)

        monkeypatch.setattr(Batcher, "_run", held)

    def release(self) -> None:
        self._gate.set()

    def cards(self) -> list[list[str]]:
        return [arguments[0].strip('{}"').split('","') for arguments in self.ran]

    def times(self) -> list[list[int]]:
        """For how many requests each card stands, in each statement."""
        return [[int(times) for times in arguments[5].strip("{}").split(",")] for arguments in self.ran]
