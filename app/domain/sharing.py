"""When the accepted requests of a card look like those of several customers.

The thresholds separate such a card from a customer whose environment changes often. They were chosen with simulated
months (`scripts/bench.sh --sharing`), whose result stands in docs/console.md.
"""

from typing import NamedTuple


class Spread(NamedTuple):
    """How far a card's accepted requests are spread in a time, as its changes of hardware and address tell.

    `machines` are different hardware strings, `networks` different /24 of IPv4 and /48 of IPv6, `blocks` different /16
    and /32, `changes` all changes of hardware or address, `returns` those to a machine in a network where it was
    before. An address change within one network is no return.
    """

    machines: int
    networks: int
    blocks: int
    changes: int
    returns: int


class Limits(NamedTuple):
    """The thresholds for one length of time; a card that reaches one of them is shown.

    `networks` counts only together with `blocks`: mobile data comes from many networks, but those of one carrier, in a
    few blocks; who moves between places has several blocks, but few networks. `networks_alone` counts without, since
    not even mobile data reaches it. Changes and returns have no threshold: mobile data has as many as a shared card.
    """

    machines: int
    networks: int
    blocks: int
    networks_alone: int

    def excess(self, spread: Spread) -> float:
        """Return how near a spread comes to its threshold: 1 where it just reaches it, 2 where it is twice that."""
        return max(
            spread.machines / self.machines,
            min(spread.networks / self.networks, spread.blocks / self.blocks),
            spread.networks / self.networks_alone,
        )


DAY = Limits(machines=5, networks=15, blocks=10, networks_alone=35)
"""For 24 hours. A second computer and a hardware string that varies with a device make 2 to 4 machines. Of the honest
customers on mobile data one in a hundred reached 23 networks in a day, and of all customers one reached 10 blocks."""
WEEK = Limits(machines=8, networks=35, blocks=15, networks_alone=120)
"""For 7 days. A customer who sits at another computer of a net café every day has 7 machines. Among the honest ones one
in a hundred reached 60 networks (mobile data) or 15 blocks (hotels, cafés), but hardly one reached both."""


def excess(day: Spread, week: Spread) -> float:
    """Return how suspicious a card is by its last 24 hours and 7 days; from 1 on it is shown, the worst first."""
    return max(DAY.excess(day), WEEK.excess(week))
