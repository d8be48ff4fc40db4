"""The figures of the overview and the abuse report, kept in the database."""

from datetime import date, datetime, time, timedelta
from time import monotonic
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.codes import EventKind
from app.runtime.clock import Clock
from app.services.reports import abuse_report, statistics
from app.services.reports.statistics import DAYS, last_days
from app.storage import models
from app.storage.database import Database

FRESH_FOR = timedelta(seconds=60)
QUICK_BYTES, QUICK_SECONDS = 8 * 2**20, 1.0
_SIZE = "SELECT " + " + ".join(f"pg_relation_size('{name}')" for name in ("card", "event", "usage", "daily_count"))


class Figures:
    """The figures of one database: a row with `counted_at` and the `document`.

    The document has what `app.services.reports.statistics.collect` returns, and:
      rejection_days: [{day, counts: {code: n}}] the last 14, today last
      self_service: [{day, self_unbound, renewed}] what customers did by themselves yesterday and today
      expiring_days: [{day, cards}] active cards by the day of their expiry, today and the 13 days after
      sharing: what `app.services.reports.abuse_report.collect` returns for the last 7 days

    If counting is quick, each request counts. Otherwise a request gets the last snapshot, and when that is older than
    `FRESH_FOR`, it asks for a new one, which the periodic task counts. Days are counted in `zone`, the vendor's.
    """

    def __init__(self, database: Database, clock: Clock, zone: ZoneInfo) -> None:
        self._database = database
        self._clock = clock
        self._zone = zone

    def current(self) -> models.Figures | None:
        """Return the latest figures; None while they are counted for the first time."""
        last: models.Figures | None = models.Figures.select().first()
        (size,) = self._database.execute_sql(_SIZE).fetchone()
        # By size first: an import may have made the database a thousand times larger since the last count.
        if size <= QUICK_BYTES and (last is None or last.seconds < QUICK_SECONDS):
            return self.count()
        if last is not None and self.is_old(last.counted_at):
            models.Figures.update(is_wanted=True).where(~models.Figures.is_wanted).execute()
        return last

    def is_old(self, counted_at: datetime) -> bool:
        """Tell whether figures of that time are old, so that `current` asks for new ones."""
        return abs(self._clock() - counted_at) > FRESH_FOR  # abs: the clock may have been wrong, and far ahead

    def count_if_wanted(self) -> None:
        """Count if somebody looks at old figures, or if there are none yet."""
        last = models.Figures.select().first()
        if last is None or last.is_wanted:
            self.count()

    def count(self) -> models.Figures:
        """Count now.

        Raises:
            DatabaseUnavailableError: the database is away, or counting takes too long.
        """
        now, begun = self._clock(), monotonic()
        document = statistics.collect(now, self._zone) | self._more(now)
        row = {"counted_at": now, "seconds": monotonic() - begun, "document": document, "is_wanted": False}
        models.Figures.insert(row).on_conflict(conflict_target=[models.Figures.id], update=row).execute()
        return models.Figures(**row)

    def _more(self, now: datetime) -> dict[str, Any]:
        past = last_days(now, self._zone)
        coming = [past[-1] + timedelta(days=ahead) for ahead in range(DAYS)]
        rejections = statistics.rejections_by_day(self._midnight(past[0]), self._zone)
        expiring = statistics.expiring_by_day(now, self._midnight(coming[-1] + timedelta(days=1)), self._zone)
        own = statistics.by_customers(self._midnight(past[-2]), self._zone)
        kinds = (EventKind.SELF_UNBOUND, EventKind.RENEWED)
        return {
            "self_service": [
                {"day": day.isoformat(), **{kind: own.get((day, kind), 0) for kind in kinds}} for day in past[-2:]
            ],
            "rejection_days": [{"day": day.isoformat(), "counts": rejections.get(day, {})} for day in past],
            "expiring_days": [{"day": day.isoformat(), "cards": expiring.get(day, 0)} for day in coming],
            "sharing": abuse_report.collect(now, self._zone),
        }

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(), self._zone)
