"""Times as people type them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from app.domain.texts import RefusedError

_YEARS = range(1970, 2200)


def parse_time(text: str, zone: ZoneInfo) -> datetime | None:
    """Read a date (its beginning) or a date and time, in the vendor's zone unless it has an offset; "" is None.

    Raises:
        RefusedError: it is neither.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.year not in _YEARS:
        raise RefusedError(f"“{text}”不是有效的日期时间", f"“{text}” is no date and time")
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
    return aware.astimezone(UTC)  # PostgreSQL knows fewer offsets than Python


def input_value(moment: datetime | None, zone: ZoneInfo) -> str:
    """Return a time as a browser's field for it wants it, in the vendor's zone; None is ""."""
    if moment is None:
        return ""
    local = moment.astimezone(zone)
    return local.strftime("%Y-%m-%dT%H:%M:%S" if local.second else "%Y-%m-%dT%H:%M")
