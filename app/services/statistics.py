"""The vendor's figures at one moment."""

from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from app.services.formatting import local
from app.storage import statistics, usage_lists
from app.storage.database import Database

DAYS = usage_lists.DAYS
EXPIRING_WITHIN = timedelta(days=7)
ONLINE_WITHIN = timedelta(minutes=15)
TOP = 10


def collect(database: Database, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """Return the figures as JSON has them, from eight queries.

    Times are in ISO 8601 in the zone, days are YYYY-MM-DD in the zone:
      cards: {total, frozen, expired, active, unused}
      batches: {count, largest: [{batch, cards, frozen, expired, active, unused}]} the first `TOP`
      days: [{day, activations, requests}] the last `DAYS`, today last
      customers: {online, today, yesterday} cards with an accepted request, `online` active ones within `ONLINE_WITHIN`
      rejections: [{code, last_24_hours, last_7_days}] the most frequent first
      expiring: {count, first: [{id, expires_at, batch, note}]} within `EXPIRING_WITHIN`; the first `TOP`
      functions: [{function, requests}] of the last `DAYS`; the first `TOP`

    Args:
        database: Connected without a limit on a statement's time.
        now: The time, aware.
        zone: The vendor's, in which usage is counted.
    """
    return database.with_connection(lambda: _collect(now, zone))


def last_days(now: datetime, zone: ZoneInfo) -> list[date]:
    """Return the days that figures are of, today last."""
    today = now.astimezone(zone).date()
    return [today - timedelta(days=back) for back in reversed(range(DAYS))]


def _collect(now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    days = last_days(now, zone)
    batches = statistics.batches(now, TOP)
    activations = statistics.activations(datetime.combine(days[0], time(), zone), zone)
    requests = statistics.requests(days[0])
    customers = statistics.customers(days[-2])
    expiring_count, expiring = statistics.expiring(now, EXPIRING_WITHIN, TOP)
    return {
        "cards": {"total": sum(batches.statuses.values()), **batches.statuses},
        "batches": {"count": batches.batch_count, "largest": batches.largest},
        "days": [
            {"day": day.isoformat(), "activations": activations.get(day, 0), "requests": requests.get(day, 0)}
            for day in days
        ],
        "customers": {
            "online": statistics.online(now, ONLINE_WITHIN),
            "today": customers.get(days[-1], 0),
            "yesterday": customers.get(days[-2], 0),
        },
        "rejections": statistics.rejections(now),
        "expiring": {
            "count": expiring_count,
            "first": [{**card, "expires_at": local(card["expires_at"], zone)} for card in expiring],
        },
        "functions": statistics.functions(days[0], TOP),
    }
