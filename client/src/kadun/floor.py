"""The floor: the latest signing key of the chain that signed a verdict here. Earlier keys are not believed any more.

A retired signing key may be stolen, and a program that pins it would believe the thief. So a client that has seen a
later key refuses the earlier ones, and everything that they endorse. While a rotation is under way some answers still
come with the key before: earlier keys count for 15 minutes more, by this machine's clock.
"""

from __future__ import annotations

from typing import NamedTuple

OVERLAP_SECONDS = 900.0
_LATEST_TIME = 1e12


class Floor(NamedTuple):
    """The latest key seen.

    Attributes:
        kid: the key.
        left: for how many seconds earlier keys still count.
        clock: what this machine's clock showed then, in seconds since 1970; 0 once nothing is left.
    """

    kid: str
    left: float
    clock: float

    @classmethod
    def seen(cls, kid: str, clock: float) -> Floor:
        """Return the floor after the first verdict by a key."""
        return cls(kid, OVERLAP_SECONDS, clock)

    def at(self, clock: float) -> Floor:
        """Return the floor at a later time of the clock. A clock that was set back ends the overlap, for good."""
        passed = clock - self.clock
        if not 0 <= passed < self.left:
            return Floor(self.kid, 0.0, 0.0)
        return Floor(self.kid, self.left - passed, clock)


def floor_in(members: object) -> Floor | None:
    """Parse the floor of a file; return None if there is none. With odd times nothing of the overlap is left."""
    if not isinstance(members, list) or len(members) != len(Floor._fields) or not isinstance(members[0], str):
        return None
    if not all(isinstance(member, (int, float)) and abs(member) <= _LATEST_TIME for member in members[1:]):
        return Floor(members[0], 0.0, 0.0)
    kid, left, clock = members
    return Floor(kid, min(float(left), OVERLAP_SECONDS), float(clock))
