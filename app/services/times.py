"""Times that people type."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from app.domain.texts import RefusedError

_YEARS = range(1970, 2200)


def parse_time(name: str, text: str, zone: ZoneInfo) -> datetime | None:
    """Return the time that a field says, None if the field is empty.

    Args:
        name: The field's, for the error message.
        text: A date (its beginning), or a date and time.
        zone: The vendor's, for a time without an offset.

    Raises:
        RefusedError: it is neither.
    """
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.year not in _YEARS:
        raise RefusedError(
            f"{name}：“{text}”不是有效的日期时间，请写成 2026-01-31 或 2026-01-31T18:30",
            f"{name}: “{text}” is not a date and time; write 2026-01-31 or 2026-01-31T18:30",
        )
    aware = time if time.tzinfo is not None else time.replace(tzinfo=zone)
    return aware.astimezone(UTC)  # PostgreSQL knows fewer offsets than Python
