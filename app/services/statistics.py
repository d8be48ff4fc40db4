"""The vendor's figures at one moment."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from app.services.formatting import local
from app.storage import statistics, usage_lists
from app.storage.database import Database
from app.storage.statistics import Batch, Expiring, Rejections

DAYS = usage_lists.DAYS
EXPIRING_WITHIN = timedelta(days=7)
TOP = 10


@dataclass(frozen=True, slots=True)
class Day:
    """One day in the vendor's zone: cards activated, requests accepted."""

    day: date
    activations: int
    requests: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """All figures.

    `days` are the last `DAYS`, today last; `functions` count the same days; `batches`, `functions` and `expiring` are
    the first `TOP`, `batch_count` and `expiring_count` the number of all.
    """

    statuses: dict[str, int]
    batch_count: int
    batches: list[Batch]
    days: list[Day]
    rejections: list[Rejections]
    expiring_count: int
    expiring: list[Expiring]
    functions: list[tuple[str, int]]


def collect(database: Database, now: datetime, zone: ZoneInfo) -> Statistics:
    """Count everything, in six queries whatever there is to count.

    Args:
        database: Connected without a limit on a statement's time.
        now: The time, aware.
        zone: The vendor's, in which usage is counted.
    """
    today = now.astimezone(zone).date()
    days = [today - timedelta(days=back) for back in reversed(range(DAYS))]

    def count() -> Statistics:
        batches = statistics.batches(now, TOP)
        activations = statistics.activations(datetime.combine(days[0], time(), zone), zone)
        requests = statistics.requests(days[0])
        expiring_count, expiring = statistics.expiring(now, EXPIRING_WITHIN, TOP)
        return Statistics(
            statuses=batches.statuses,
            batch_count=batches.batch_count,
            batches=batches.largest,
            days=[Day(day, activations.get(day, 0), requests.get(day, 0)) for day in days],
            rejections=statistics.rejections(now),
            expiring_count=expiring_count,
            expiring=expiring,
            functions=statistics.functions(days[0], TOP),
        )

    return database.with_connection(count)


def document(figures: Statistics, zone: tzinfo) -> dict[str, Any]:
    """Return the figures as JSON has them: times in ISO 8601 in that zone, days as YYYY-MM-DD."""
    return {
        "cards": {"total": sum(figures.statuses.values()), **figures.statuses},
        "batches": {
            "count": figures.batch_count,
            "largest": [{"batch": b.batch, "cards": b.cards, **b.statuses} for b in figures.batches],
        },
        "days": [
            {"day": d.day.isoformat(), "activations": d.activations, "requests": d.requests} for d in figures.days
        ],
        "rejections": [r._asdict() for r in figures.rejections],
        "expiring": {
            "count": figures.expiring_count,
            "first": [{**c._asdict(), "expires_at": local(c.expires_at, zone)} for c in figures.expiring],
        },
        "functions": [{"function": function, "requests": requests} for function, requests in figures.functions],
    }
