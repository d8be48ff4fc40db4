"""Calls that run at the same time, or wait for one another."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from app.storage.database import Database
from tests.support.services.service import wait_for_lock

Result = TypeVar("Result")


def at_once(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Make these calls, each in a thread of its own; return their results in the same order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: call(), calls))


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
