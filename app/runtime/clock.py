"""The system's clock; code that needs the time gets it as a parameter or as a clock."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the time now, aware."""


def utc_now() -> datetime:
    """Return the current time, aware."""
    return datetime.now(UTC)
