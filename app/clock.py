"""The time: read here, and handed to whatever needs it."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the time now, aware."""
    return datetime.now(UTC)
