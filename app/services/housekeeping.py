"""What the service does by itself: old rejections and downloads leave the journal."""

import logging
import random
import threading
import time
from datetime import datetime, timedelta

import peewee

from app.clock import utc_now
from app.storage import journal
from app.storage.database import ConflictError, DatabaseUnavailableError
from app.storage.models import database

INTERVAL_SECONDS = 3600.0
logger = logging.getLogger(__name__)


def start(journal_keep: timedelta) -> None:
    """Start this worker's housekeeping, in a thread that ends with the process."""
    threading.Thread(target=_run, args=(journal_keep,), name="housekeeping", daemon=True).start()


def prune_journal(journal_keep: timedelta, now: datetime) -> int:
    """Delete rejections and downloads older than `journal_keep`, in short batches; return how many."""
    total = 0
    while deleted := database.with_connection(lambda: journal.prune(now - journal_keep)):
        total += deleted
    return total


def _run(journal_keep: timedelta) -> None:
    while True:
        # Spread, so that the workers do not all come at once.
        time.sleep(INTERVAL_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311
        try:
            deleted = prune_journal(journal_keep, utc_now())
            if deleted:
                logger.info("old rejections and downloads pruned", extra={"count": deleted})
        except (DatabaseUnavailableError, ConflictError, peewee.PeeweeException):
            logger.warning("pruning the journal failed; it is tried again later", exc_info=True)
        finally:
            database.close()
