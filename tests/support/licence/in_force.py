"""Waiting until all processes of the tests' services judge by the terms and blocks that the database has now."""

import time
from typing import Any

SECONDS = 0.25
"""How often the services under test read them; one with `REAL_INTERVAL` in its environment does so as in production."""
REAL_INTERVAL = "TESTS_REAL_INTERVAL"
_NOW = "SELECT clock_timestamp()"
# The thread that reads them has a connection of its own, and the terms are the last that it reads. One that has read
# nothing for so long has ended, as in a process of tests; on a busy machine others take their time.
_BEFORE = """
SELECT EXISTS (SELECT FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'kadun' AND query LIKE '%%FROM "program"%%'
AND query_start < %s AND query_start > clock_timestamp() - interval '5 seconds')
"""


def wait_in_force(execute: Any) -> None:
    """Wait until every such thread has read them from now on; `execute` is a cursor's method, or a database's."""
    for _ in range(2):  # a reading that is under way has perhaps read the blocks already
        began = _first(execute, _NOW)
        while _first(execute, _BEFORE, (began,)):
            time.sleep(SECONDS / 10)


def _first(execute: Any, *statement: Any) -> Any:
    """Return the first value: psycopg2's cursors return nothing when they execute, peewee's databases a cursor."""
    cursor = execute(*statement) or execute.__self__
    return cursor.fetchone()[0]
