"""gevent's greenlets in place of threads, in the processes of gunicorn (docs/decisions.md)."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import gevent
import psycopg2
from gevent import monkey
from gevent.socket import wait_read, wait_write
from psycopg2 import extensions

Result = TypeVar("Result")
CONNECT_SECONDS = 3.0
"""libpq's own `connect_timeout` counts for blocking connections only. Where a server is gone without a word, the system
breaks a connection off, as the database's parameters say."""


def patch() -> None:
    """Let other greenlets run wherever this process waits; before every other import of the process."""
    monkey.patch_all()
    extensions.set_wait_callback(wait)


def in_thread(work: Callable[[], Result]) -> Result:
    """Do what computes for long, or waits by itself, beside the greenlets; outside gunicorn simply do it."""
    if not monkey.is_module_patched("threading"):
        return work()
    result: Result = gevent.get_hub().threadpool.apply(work)
    return result


def wait(connection: Any) -> None:  # noqa: ANN401  # psycopg2's
    """Wait for a connection; one whose query is broken off is closed by psycopg2."""
    limit = contextlib.nullcontext()
    if connection.status == extensions.STATUS_SETUP:
        limit = gevent.Timeout(CONNECT_SECONDS, psycopg2.OperationalError("no answer in time"))
    with limit:
        while (state := connection.poll()) != extensions.POLL_OK:
            (wait_read if state == extensions.POLL_READ else wait_write)(connection.fileno())
