"""Estimates the server's time for offline starts from this machine's clock, which may be wrong or manipulated.

Only the progress of the clock since the last online verdict counts, so that a constant error does not matter:

1. An online verdict records the difference between its `iat` and the local clock. From then on the estimated time is
   the local clock plus that difference.
2. An offline start counts as the estimated time, but at least as one step after the previous start. A step is a
   thousandth of the time allowed, and at least a minute. So a clock that is stopped, or set to just after the last
   start again and again, permits a thousand starts at most; less frequent starts lose nothing.
3. A clock more than five minutes behind its own latest time was set back. That start costs a 24th of the time allowed
   (one step, if that is more), and the progress is counted from there.
4. A clock that was set forward ends offline starts early. Setting it back does not help; the next online verdict does.
"""

from __future__ import annotations

from typing import NamedTuple

LATEST_TIME = 253_402_300_799.0
"""The end of the year 9999, in seconds since 1970; later times are clamped to it."""

STARTS_AT_MOST = 1000
LEAST_STEP_SECONDS = 60
"""An offline start advances the time by a thousandth of the time allowed, and at least by this."""

TOLERATED_LAG_SECONDS = 300
"""A clock may go back by this much: clocks are corrected, and programs are started twice."""

TURNS_AT_MOST = 24
"""Setting the clock back costs this fraction of the time allowed: 1/24."""


class Times(NamedTuple):
    """The stored times, in seconds since 1970 by the server's clock."""

    spent: float  # as which the last start counts; offline starts end when it reaches their end
    reached: float  # the latest time that the clock itself has shown
    ahead: float  # the difference between the server's clock and this machine's

    def started(self, clock: float, allowed_seconds: float) -> Times:
        """Return the times after an offline start at this time of the clock, of those allowed for so long in total."""
        step = max(allowed_seconds / STARTS_AT_MOST, LEAST_STEP_SECONDS)
        judged = _possible(_possible(clock) + self.ahead)
        if judged < self.reached - TOLERATED_LAG_SECONDS:
            now = _possible(self.spent + max(allowed_seconds / TURNS_AT_MOST, step))
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
