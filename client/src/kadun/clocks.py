"""Estimates the server's time for offline starts from this machine's clock, which may be wrong or manipulated.

Only the progress of the clock since the last online verdict counts, so that a constant error does not matter. The rules
and their reasons: docs/client.md, "The rules about clocks".
"""

from __future__ import annotations

from typing import NamedTuple

LATEST_TIME = 253_402_300_799.0  # the end of the year 9999, in seconds since 1970; later times are clamped to it
_STARTS_AT_MOST = 1000  # rule 2: a step is a thousandth of the time allowed, and at least a minute
_LEAST_STEP_SECONDS = 60
_TOLERATED_LAG_SECONDS = 300  # rule 3: clocks are corrected, and programs are started twice
_TURNS_AT_MOST = 24


class Times(NamedTuple):
    """The stored times, in seconds since 1970 by the server's clock."""

    spent: float  # as which the last start counts; offline starts end when it reaches their end
    reached: float  # the latest time that the clock itself has shown
    ahead: float  # the difference between the server's clock and this machine's

    def started(self, clock: float, allowed_seconds: float) -> Times:
        """Return the times after an offline start at this time of the clock, of those allowed for so long in total."""
        step = max(allowed_seconds / _STARTS_AT_MOST, _LEAST_STEP_SECONDS)
        judged = _possible(_possible(clock) + self.ahead)
        if judged < self.reached - _TOLERATED_LAG_SECONDS:
            now = _possible(self.spent + max(allowed_seconds / _TURNS_AT_MOST, step))
            return Times(now, now, now - _possible(clock))
        return Times(_possible(max(judged, self.spent + step)), max(judged, self.reached), self.ahead)

    def not_before(self, issued_at: float) -> Times:
        """Return the times, not earlier than the verdict itself: the file may have been manipulated."""
        return self._replace(spent=max(self.spent, issued_at), reached=max(self.reached, issued_at))


def synchronized(issued_at: float, clock: float) -> Times:
    """Return the times after an online verdict."""
    return Times(issued_at, issued_at, issued_at - _possible(clock))


def times_in(members: object) -> Times | None:
    """Parse the times of a file; return None if they are invalid."""
    if not isinstance(members, list) or len(members) != len(Times._fields):
        return None
    if not all(isinstance(member, (int, float)) and abs(member) <= 2 * LATEST_TIME for member in members):
        return None
    times = Times(*map(float, members))
    return times if 0 <= times.spent <= LATEST_TIME and times.reached <= LATEST_TIME else None


def _possible(time: float) -> float:
    """Clamp a time to the supported range; NaN counts as the earliest time."""
    return max(min(time, LATEST_TIME), -LATEST_TIME) if time == time else -LATEST_TIME  # noqa: PLR0124
