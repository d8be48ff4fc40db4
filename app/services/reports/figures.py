"""The figures of the overview and the abuse report, kept in the database: a row with `counted_at` and the `document`.

The document has what `app.services.reports.statistics.collect` returns, and:
  rejection_days: [{day, counts: {code: n}}] the last 14, today last
  self_service: [{day, self_unbound, renewed}] what customers did by themselves yesterday and today
  expiring_days: [{day, cards}] active cards by the day of their expiry, today and the 13 days after
  sharing: what `app.services.reports.abuse_report.collect` returns for the last 7 days
  programs: where there are several, all these of each, by its ID

If counting is quick, each request counts. Otherwise a request gets the last snapshot, and when that is older than
`FRESH_FOR`, it asks for a new one, which the periodic task counts. Days are counted in `zone`, the vendor's.
"""

from datetime import date, datetime, time, timedelta
from time import monotonic
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.codes import EventKind
from app.services.programs import programs
from app.services.reports import abuse_report, statistics
from app.services.reports.statistics import DAYS, last_days
from app.storage.models import Figures, database

FRESH_FOR = timedelta(seconds=60)
QUICK_BYTES, QUICK_SECONDS = 8 * 2**20, 1.0
_SIZE = "SELECT " + " + ".join(f"pg_relation_size('{name}')" for name in ("card", "event", "usage", "daily_count"))


def current(now: datetime, zone: ZoneInfo) -> Figures | None:
    """Return the latest figures; None while they are counted for the first time."""
    last: Figures | None = Figures.select().first()
    (size,) = database.execute_sql(_SIZE).fetchone()
    # By size first: an import may have made the database a thousand times larger since the last count.
    if size <= QUICK_BYTES and (last is None or last.seconds < QUICK_SECONDS):
        return count(now, zone)
    if last is not None and is_old(last.counted_at, now):
        Figures.update(is_wanted=True).where(~Figures.is_wanted).execute()
    return last


def is_old(counted_at: datetime, now: datetime) -> bool:
    """Tell whether figures of that time are old, so that `current` asks for new ones."""
    return abs(now - counted_at) > FRESH_FOR  # abs: the clock may have been wrong, and far ahead


def count_if_wanted(now: datetime, zone: ZoneInfo) -> None:
    """Count if somebody looks at old figures, or if there are none yet."""
    last = Figures.select().first()
    if last is None or last.is_wanted:
        count(now, zone)


def count(now: datetime, zone: ZoneInfo) -> Figures:
    """Count now; raise DatabaseUnavailableError if the database is away, or counting takes too long."""
    begun = monotonic()
    document = _document(now, zone, None)
    listed = [row.id for row in programs()]
    if len(listed) > 1:
        document["programs"] = {program: _document(now, zone, program) for program in listed}
    row = {"counted_at": now, "seconds": monotonic() - begun, "document": document, "is_wanted": False}
    Figures.insert(row).on_conflict(conflict_target=[Figures.id], update=row).execute()
    return Figures(**row)


def _document(now: datetime, zone: ZoneInfo, program: str | None) -> dict[str, Any]:
    def midnight(day: date) -> datetime:
        return datetime.combine(day, time(), zone)

    past = last_days(now, zone)
    coming = [past[-1] + timedelta(days=ahead) for ahead in range(DAYS)]
    rejections = statistics.rejections_by_day(midnight(past[0]), zone, program)
    expiring = statistics.expiring_by_day(now, midnight(coming[-1] + timedelta(days=1)), zone, program)
    own = statistics.by_customers(midnight(past[-2]), zone, program)
    kinds = (EventKind.SELF_UNBOUND, EventKind.RENEWED)
    return statistics.collect(now, zone, program) | {
        "self_service": [
            {"day": day.isoformat(), **{kind: own.get((day, kind), 0) for kind in kinds}} for day in past[-2:]
        ],
        "rejection_days": [{"day": day.isoformat(), "counts": rejections.get(day, {})} for day in past],
        "expiring_days": [{"day": day.isoformat(), "cards": expiring.get(day, 0)} for day in coming],
        "sharing": abuse_report.collect(now, zone, program=program),
    }
