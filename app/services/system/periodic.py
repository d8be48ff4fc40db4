"""Periodic work: one table of tasks, and one loop for them in each worker.

The workers of all machines compete for a lock in the database, and its holder runs what is to run once. The lock ends
with the holder's session, and another worker goes on. It begins with all tasks at once, so that a task may run twice.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from app.domain.errors import UnavailableError
from app.domain.operators.operators import FORGOTTEN_AFTER
from app.runtime.clock import Clock
from app.runtime.settings import Settings
from app.services.operators import sessions
from app.services.reports import figures
from app.services.shop import idempotency
from app.services.system import hosts
from app.services.webhooks import webhook_outbox as outbox
from app.storage import journal
from app.storage.database import Database
from app.storage.models import LoginFailure

TICK_SECONDS = 2.0
logger = logging.getLogger(__name__)


class Task(NamedTuple):
    """What is done again and again."""

    name: str  # for the log
    seconds: float  # from its end to its next run; a task that took longer than that rests as long as it took
    limit_seconds: float  # a statement that takes longer is broken off, and a task with more to do ends then
    run: Callable[[float], object]  # gets the time on the monotonic clock by which it is to end
    in_each_worker: bool = False  # and not in one of all


def tasks(database: Database, settings: Settings, clock: Clock) -> tuple[Task, ...]:
    """Return the tasks of an installation."""
    keep, zone = settings.journal_keep, settings.timezone
    return (
        Task("host", 10, 10, lambda _until: hosts.report(database, settings), in_each_worker=True),
        Task("figures", TICK_SECONDS, 30, lambda _until: figures.count_if_wanted(clock(), zone)),
        Task("journal", 600, 20, lambda until: prune_journal(keep, clock(), until)),
        Task("console", 600, 20, lambda until: prune_console(clock(), until)),
        Task("webhooks", 600, 20, lambda _until: outbox.prune(database, clock())),
        Task("expiring cards", 60, 20, lambda _until: outbox.enqueue_expiring(database, clock())),
        Task("shared cards", 600, 60, lambda _until: outbox.enqueue_shared(database, zone, clock())),
    )


class Loop:
    """Runs the tasks that are this worker's to run."""

    def __init__(self, database: Database, tasks: Sequence[Task]) -> None:
        self._database = database
        self._tasks = tasks
        self._due: dict[str, float] = {}

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        threading.Thread(target=self._keep_turning, name="periodic", daemon=True).start()

    def turn(self) -> None:
        """Run what is due."""
        holds = self._holds()
        for task in self._tasks:
            if (holds or task.in_each_worker) and self._due.get(task.name, 0.0) <= time.monotonic():
                self._run(task)

    def _holds(self) -> bool:
        """Take the lock for this connection, if it is free; one that it has already is counted again."""
        sql = "SELECT pg_try_advisory_lock(hashtextextended('kadun periodic', 0))"
        return bool(self._database.execute_sql(sql).fetchone()[0])

    def _run(self, task: Task) -> None:
        began = time.monotonic()
        try:
            limit = "SELECT set_config('statement_timeout', %s, false)", (f"{round(task.limit_seconds * 1000)}ms",)
            self._database.execute_sql(*limit)
            task.run(began + task.limit_seconds)
        except Exception:  # the thread must survive any error
            logger.warning("a periodic task failed; it is run again", exc_info=True, extra={"task": task.name})
        ended = time.monotonic()
        self._due[task.name] = ended + max(task.seconds, ended - began)

    def _keep_turning(self) -> None:
        with self._database.hold():  # its session has the locks
            while True:
                try:
                    self.turn()
                except UnavailableError:  # logged where it was noticed
                    pass
                except Exception:
                    logger.warning("periodic work failed; it is tried again", exc_info=True)
                    self._database.close()
                time.sleep(TICK_SECONDS)


REQUESTS_KEPT = timedelta(days=7)


def prune_journal(keep: timedelta, now: datetime, until: float = math.inf) -> int:
    """Delete what clients wrote into the journal, and daily counts, older than `keep`, and strangers' beyond the stock.

    Return how many rows; no batch begins after `until` on the monotonic clock.
    """
    before = now - keep
    stock = journal.beginning_of_stock() or before
    return (
        _in_batches(lambda: journal.prune(before), until)
        + _in_batches(lambda: journal.prune_strangers(stock), until)
        + _in_batches(lambda: journal.prune_counts(before.date()), until)
    )


def prune_console(now: datetime, until: float = math.inf) -> int:
    """Delete sessions that are over, failed log-ins that no longer count, old idempotency records; return how many."""
    failures: int = LoginFailure.delete().where(LoginFailure.last_at <= now - FORGOTTEN_AFTER).execute()
    return sessions.prune_sessions(now) + failures + _in_batches(lambda: idempotency.prune(now - REQUESTS_KEPT), until)


def _in_batches(prune: Callable[[], int], until: float) -> int:
    total = 0
    while time.monotonic() < until and (deleted := prune()):
        total += deleted
    return total
