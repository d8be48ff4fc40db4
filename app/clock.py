"""The system's clock; code that needs the time gets it as a parameter or as a clock."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current time, aware."""
    return datetime.now(UTC)
