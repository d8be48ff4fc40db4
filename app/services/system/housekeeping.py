"""Deletes rows that are no longer needed: periodic tasks (`app.services.system.periodic`)."""

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from app.domain.operators.operators import FORGOTTEN_AFTER
from app.services.operators import sessions
from app.services.shop import idempotency
from app.storage import journal
from app.storage.models import LoginFailure

REQUESTS_KEPT = timedelta(days=7)


def prune_journal(keep: timedelta, now: datetime, until: float = math.inf) -> int:
    """Delete what clients wrote into the journal, and the daily counts, older than `keep`; return how many rows.

    Of what strangers wrote, delete as well what is older than their newest entries. No batch begins after `until` on
    the monotonic clock.
    """
    before = now - keep
    stock = journal.beginning_of_stock() or before
    return (
        _in_batches(lambda: journal.prune(before), until)
        + _in_batches(lambda: journal.prune_strangers(stock), until)
        + _in_batches(lambda: journal.prune_counts(before.date()), until)
    )


def prune_console(now: datetime, until: float = math.inf) -> int:
    """Delete what the console and the shops' API no longer need; return how many rows.

    These are sessions that are over, failed log-ins that count no more, and old idempotency records.
    """
    failures: int = LoginFailure.delete().where(LoginFailure.last_at <= now - FORGOTTEN_AFTER).execute()
    return sessions.prune_sessions(now) + failures + _in_batches(lambda: idempotency.prune(now - REQUESTS_KEPT), until)


def _in_batches(prune: Callable[[], int], until: float) -> int:
    total = 0
    while time.monotonic() < until and (deleted := prune()):
        total += deleted
    return total
