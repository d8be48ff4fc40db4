"""The worker's own periodic tasks: delete rows that are no longer needed, and seal the journal."""

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
from app.services.journal_seals import JournalSeals
from app.storage import daily_counts, idempotency, journal, login_failures, operators, webhooks
from app.storage.models import database

INTERVAL_SECONDS = 3600.0
SEAL_SECONDS = 60.0
LATE_TURNS = 3
REQUESTS_KEPT = timedelta(days=7)
MESSAGES_KEPT = timedelta(days=7)
MESSAGE_ROWS = 1_000
"""Of each webhook's messages so many are kept at most."""
logger = logging.getLogger(__name__)


def start(seals: JournalSeals) -> None:
    """Start this worker's housekeeping, in threads that end with the process."""
    for name, run in (("housekeeping", partial(_run, seals)), ("sealing", partial(_seal, seals))):
        threading.Thread(target=run, name=name, daemon=True).start()


def prune_journal(seals: JournalSeals, now: datetime) -> int:
    """Delete what clients wrote into the journal, and the daily counts, once they are old enough, in short batches.

    Returns:
        How many rows.
    """
    before, total = seals.prunable_before(now), 0
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


def prune_webhooks(now: datetime) -> int:
    """Give up webhooks' messages that are too old, and delete old ones from the log; return how many."""

    def prune() -> int:
        return webhooks.give_up(now - GIVEN_UP_AFTER, now) + webhooks.prune(now - MESSAGES_KEPT, MESSAGE_ROWS)

    total: int = database.with_connection(prune)
    return total


def prune_all(seals: JournalSeals) -> None:
    """Prune the tables of the journal, the console and the webhooks, each even when another fails."""
    for name, prune in (
        ("journal", partial(prune_journal, seals)),
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


def _run(seals: JournalSeals) -> None:
    while True:
        # At random intervals, so that the workers do not prune at the same time.
        time.sleep(INTERVAL_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311
        prune_all(seals)


def seal_journal(seals: JournalSeals, late: int) -> int:
    """Seal the journal; return how many turns in a row, `late` before this one, have left old entries unsealed.

    Other workers seal, too, and a transaction under way may make one turn fail; nothing but a fault or a person who
    holds a lock in the database makes several fail. That is logged once.
    """
    try:
        seals.seal()
        since = seals.overdue_since()
    except Exception:  # the thread must survive any error
        logger.warning("sealing the journal failed; it is tried again in a minute", exc_info=True)
        database.close()
        return late
    if since is None:
        return 0
    if late + 1 == LATE_TURNS:
        logger.warning("the journal is not being sealed; see cardctl doctor", extra={"since": since.isoformat()})
    return late + 1


def _seal(seals: JournalSeals) -> None:
    late = 0
    while True:
        time.sleep(SEAL_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311  # as above
        late = seal_journal(seals, late)
