"""When the accepted requests of a card look like those of several customers.

The thresholds separate such a card from a customer whose environment changes often. They were chosen with simulated
months, whose result stands in docs/console.md.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from app.domain.addresses import neighbourhood_of, network_of

_DIGEST_BYTES = 8


class Spread(NamedTuple):
    """How far a card's accepted requests are spread in a time, as its changes of hardware and address tell.

    `machines` are different hardware strings, `networks` different /24 of IPv4 and /48 of IPv6, `blocks` different /16
    and /32, `changes` all changes of hardware or address, `places` different machines in different networks.
    """

    machines: int
    networks: int
    blocks: int
    changes: int
    places: int


class Thresholds(NamedTuple):
    """The thresholds for one length of time; a card that reaches one of them is shown.

    `networks` counts only together with `blocks`: mobile data comes from many networks, but those of one carrier, in a
    few blocks; who moves between places has several blocks, but few networks. Not even mobile data reaches `places`.
    """

    machines: int
    networks: int
    blocks: int
    places: int
    changes: int | None = None

    def excess(self, spread: Spread) -> float:
        """Return how near a spread comes to its threshold: 1 where it just reaches it, 2 where it is twice that."""
        return max(
            spread.machines / self.machines,
            min(spread.networks / self.networks, spread.blocks / self.blocks),
            spread.places / self.places,
            0 if self.changes is None else spread.changes / self.changes,
        )


DAY = Thresholds(machines=5, networks=15, blocks=10, places=35, changes=101)
"""For 24 hours. A second computer and a hardware string that varies with a device make 2 to 4 machines. Of the honest
customers on mobile data one in a hundred reached 23 networks in a day, and of all customers one reached 10 blocks."""
WEEK = Thresholds(machines=8, networks=35, blocks=15, places=120)
"""For 7 days. A customer who sits at another computer of a net café every day has 7 machines. Among the honest ones one
in a hundred reached 60 networks (mobile data) or 15 blocks (hotels, cafés), but hardly one reached both."""


def excess(day: Spread, week: Spread) -> float:
    """Return how suspicious a card is by its last 24 hours and 7 days; from 1 on it is shown, the worst first.

    The changes of one machine in two places do not count: a line with IPv4 and IPv6 may change with each request.
    It is the week that tells, since entries of places are older than the changes between them.
    """
    if week.machines < 2 and week.places <= 2:  # noqa: PLR2004
        day = day._replace(changes=0)
    return max(DAY.excess(day), WEEK.excess(week))


class Environment(NamedTuple):
    """Digests of a machine in a network: `exact` has its IPv4 address or IPv6 /64, `place` the /24 or /48."""

    exact: int
    place: int


def environment_of(hardware: str | None, address: str | None) -> Environment:
    """Return the environment of a request."""
    networks = ("", "") if address is None else (network_of(address), neighbourhood_of(address))
    digests = (hashlib.sha256(f"{network} {hardware}".encode()).digest() for network in networks)
    return Environment(*(int.from_bytes(digest[:_DIGEST_BYTES], signed=True) for digest in digests))


def gets_an_entry(environment: Environment, day: Sequence[Environment], limit: int) -> bool:
    """Decide whether the journal gets an entry of an environment, beside those of a card's `day`, at most `limit`.

    A repetition gets none. As many entries as list the card are for places that the day does not have: whoever uses up
    a day's entries, and so hides what follows, is listed.
    """
    if len(day) >= limit or environment.exact in {each.exact for each in day}:
        return False
    places = {each.place for each in day}
    return environment.place not in places or len(day) - len(places) < limit - DAY.places
