"""How late it is without the server: judged from this machine's clock, which may be wrong, or set on purpose.

Only what the clock has gone on by since the last online verdict counts, so that a clock that is wrong by the same
amount all the time is as good as a right one. Four rules make the rest:

1. An online verdict puts its `iat` beside what the clock says at that moment. From there on the judged time is the
   server's time then, and what the clock has gone on by.
2. An offline start counts as the judged time, but at least as one step after the start before: a thousandth of the
   time allowed, and no less than a minute. So a clock that is stopped, or set to just after the last start again and
   again, is worth a thousand starts at most, and whoever starts less often than once a step loses nothing.
3. A clock more than five minutes behind its own furthest point was set back. That start costs a 24th of the time
   allowed (one step, if that is more), and the clock's way is counted from there on.
4. A clock that was set forward ends offline starts early, and setting it back does not help: the next online verdict
   does.
"""

from __future__ import annotations

from typing import NamedTuple

LATEST_TIME = 253_402_300_799.0
"""The end of the year 9999, in seconds since 1970: no time beyond it is one."""

STARTS_AT_MOST = 1000
LEAST_STEP_SECONDS = 60
"""An offline start moves time forward by a thousandth of the time allowed, and by this at least."""

TOLERATED_LAG_SECONDS = 300
"""So far a clock may go back: clocks are set right, and programs started twice."""

TURNS_AT_MOST = 24
"""Into so many parts the time allowed is divided, of which one is the price of setting the clock back."""


class Times(NamedTuple):
    """What is kept of times, in seconds since 1970, the server's.

    Attributes:
        spent: the time as which the last start counts; what stands in ends when this reaches the end.
        reached: the furthest that the clock itself has shown.
        ahead: what to add to this machine's clock to have the server's time.
    """

    spent: float
    reached: float
    ahead: float

    def started(self, clock: float, allowed_seconds: float) -> Times:
        """After an offline start.

        Args:
            clock: what this machine's clock says.
            allowed_seconds: how long the vendor allows offline starts in all.
        """
        step = max(allowed_seconds / STARTS_AT_MOST, LEAST_STEP_SECONDS)
        judged = _possible(_possible(clock) + self.ahead)
        if judged < self.reached - TOLERATED_LAG_SECONDS:
            now = _possible(self.spent + max(allowed_seconds / TURNS_AT_MOST, step))
            return Times(now, now, now - _possible(clock))
        return Times(_possible(max(judged, self.spent + step)), max(judged, self.reached), self.ahead)

    def not_before(self, issued_at: float) -> Times:
        """The same, where a file that somebody wrote says that less was spent than the verdict itself tells."""
        return self._replace(spent=max(self.spent, issued_at), reached=max(self.reached, issued_at))


def synchronized(issued_at: float, clock: float) -> Times:
    """After an online verdict, whatever was kept before."""
    return Times(issued_at, issued_at, issued_at - _possible(clock))


def times_in(members: object) -> Times | None:
    """What a file says, or None where it says nothing sensible."""
    if not isinstance(members, list) or len(members) != len(Times._fields):
        return None
    if not all(isinstance(member, (int, float)) and abs(member) <= 2 * LATEST_TIME for member in members):
        return None
    times = Times(*map(float, members))
    return times if 0 <= times.spent <= LATEST_TIME and times.reached <= LATEST_TIME else None


def _possible(time: float) -> float:
    """A time that is one; what is not even a number (NaN) is as early as can be."""
    return max(min(time, LATEST_TIME), -LATEST_TIME) if time == time else -LATEST_TIME  # noqa: PLR0124
