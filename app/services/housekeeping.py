"""The worker's own periodic task: delete rows that are no longer needed."""

import logging
import random
import threading
import time
from datetime import datetime, timedelta
from functools import partial

import peewee

from app.clock import utc_now
from app.domain.errors import UnavailableError
from app.domain.operators import FORGOTTEN_AFTER
from app.services import sessions
from app.storage import daily_counts, idempotency, journal, login_failures, operators
from app.storage.models import database

INTERVAL_SECONDS = 3600.0
REQUESTS_KEPT = timedelta(days=7)
logger = logging.getLogger(__name__)


def start(journal_keep: timedelta) -> None:
    """Start this worker's housekeeping, in a thread that ends with the process."""
    threading.Thread(target=_run, args=(journal_keep,), name="housekeeping", daemon=True).start()


def prune_journal(journal_keep: timedelta, now: datetime) -> int:
    """Delete what clients wrote into the journal, and the daily counts, older than `journal_keep`, in short batches.

    Returns:
        How many rows.
    """
    before, total = now - journal_keep, 0
    for prune in (lambda: journal.prune(before), lambda: daily_counts.prune(before.date())):
        while deleted := database.with_connection(prune):
            total += deleted
    return total


def prune_console(now: datetime) -> int:
    """Delete what the console and the shops' API no longer need; return how many rows.

    These are sessions that are over, failed log-ins that count no more, browsers without a log-in for longer than
    cookies last, and old idempotency records.
    """

    def prune() -> int:
        return (
            operators.prune_sessions(now, now - sessions.IDLE)
            + operators.prune_devices(now - sessions.DEVICE_LASTS)
            + login_failures.prune(now - FORGOTTEN_AFTER)
        )

    total: int = database.with_connection(prune)
    while deleted := database.with_connection(lambda: idempotency.prune(now - REQUESTS_KEPT)):
        total += deleted
    return total


def prune_all(journal_keep: timedelta) -> None:
    """Prune the journal and the console's tables, each even when the other fails."""
    for name, prune in (("journal", partial(prune_journal, journal_keep)), ("console", prune_console)):
        try:
            if deleted := prune(utc_now()):
                logger.info("old rows pruned", extra={"pruned": name, "count": deleted})
        except (UnavailableError, peewee.PeeweeException):
            logger.warning("pruning failed; it is tried again later", exc_info=True, extra={"pruned": name})
        finally:
            database.close()


def _run(journal_keep: timedelta) -> None:
    while True:
        # At random intervals, so that the workers do not prune at the same time.
        time.sleep(INTERVAL_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311
        prune_all(journal_keep)
