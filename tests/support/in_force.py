"""Waiting until all processes of the tests' services judge by the terms and blocks that the database has now."""

import time
from typing import Any

SECONDS = 0.25
"""How often the services under test read them; one with `REAL_INTERVAL` in its environment does so as in production."""
REAL_INTERVAL = "TESTS_REAL_INTERVAL"
_LONGEST_SECONDS = 2.0  # the contract's
_NOW = "SELECT clock_timestamp()"
# The thread that reads them has a connection of its own, and the terms are the last that it reads.
_BEFORE = """
SELECT EXISTS (SELECT FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'kadun' AND query LIKE '%%FROM "terms"%%'
AND query_start < %s)
"""


def wait_in_force(execute: Any) -> None:
    """Wait until every such thread has read them from now on; `execute` is a cursor's method, or a database's."""
    deadline = time.monotonic() + _LONGEST_SECONDS
    for _ in range(2):  # a reading that is under way has perhaps read the blocks already
        began = _first(execute, _NOW)
        while _first(execute, _BEFORE, (began,)) and time.monotonic() < deadline:
            time.sleep(SECONDS / 10)


def _first(execute: Any, *statement: Any) -> Any:
    """Return the first value: psycopg2's cursors return nothing when they execute, peewee's databases a cursor."""
    cursor = execute(*statement) or execute.__self__
    return cursor.fetchone()[0]
