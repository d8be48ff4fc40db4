"""The worker's own periodic task: delete rows that are no longer needed."""

import logging
import random
import threading
import time
from datetime import datetime, timedelta
from functools import partial

from app.clock import utc_now
from app.domain.operators import FORGOTTEN_AFTER
from app.domain.webhooks import GIVEN_UP_AFTER
from app.services import sessions
from app.storage import daily_counts, idempotency, journal, login_failures, operators, webhooks
from app.storage.models import database

INTERVAL_SECONDS = 3600.0
REQUESTS_KEPT = timedelta(days=7)
MESSAGES_KEPT = timedelta(days=7)
MESSAGE_ROWS = 1_000
"""Of each webhook's messages so many are kept at most."""
logger = logging.getLogger(__name__)


def start(journal_keep: timedelta) -> None:
    """Start this worker's housekeeping, in a thread that ends with the process."""
    threading.Thread(target=_run, args=(journal_keep,), name="housekeeping", daemon=True).start()


def prune_journal(keep: timedelta, now: datetime) -> int:
    """Delete what clients wrote into the journal, and the daily counts, once they are old enough, in short batches.

    Of what strangers wrote, delete as well what is older than their newest entries.

    Returns:
        How many rows.
    """
    before, total = now - keep, 0
    stock = database.with_connection(journal.beginning_of_stock) or before
    for prune in (
        lambda: journal.prune(before),
        lambda: journal.prune_strangers(stock),
        lambda: daily_counts.prune(before.date()),
    ):
        while deleted := database.with_connection(prune):
            total += deleted
    return total


def prune_console(now: datetime) -> int:
    """Delete what the console and the shops' API no longer need; return how many rows.

    These are sessions that are over, failed log-ins that count no more, and old idempotency records.
    """

    def prune() -> int:
        return operators.prune_sessions(now, now - sessions.IDLE) + login_failures.prune(now - FORGOTTEN_AFTER)

    total: int = database.with_connection(prune)
    while deleted := database.with_connection(lambda: idempotency.prune(now - REQUESTS_KEPT)):
        total += deleted
    return total


def prune_webhooks(now: datetime) -> int:
    """Give up webhooks' messages that are too old, and delete old ones from the log; return how many."""

    def prune() -> int:
        return webhooks.give_up(now - GIVEN_UP_AFTER, now) + webhooks.prune(now - MESSAGES_KEPT, MESSAGE_ROWS)

    total: int = database.with_connection(prune)
    return total


def prune_all(journal_keep: timedelta) -> None:
    """Prune the tables of the journal, the console and the webhooks, each even when another fails."""
    for name, prune in (
        ("journal", partial(prune_journal, journal_keep)),
        ("console", prune_console),
        ("webhooks", prune_webhooks),
    ):
        try:
            if deleted := prune(utc_now()):
                logger.info("old rows pruned", extra={"pruned": name, "count": deleted})
        except Exception:  # the thread must survive any error
            logger.warning("pruning failed; it is tried again later", exc_info=True, extra={"pruned": name})
        finally:
            database.close()


def _run(journal_keep: timedelta) -> None:
    while True:
        # At random intervals, so that the workers do not prune at the same time.
        time.sleep(INTERVAL_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311
        prune_all(journal_keep)
