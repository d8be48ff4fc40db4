"""The thresholds beyond which a card looks shared, against simulated customers: honest ones, and groups that share.

Addresses come from blocks (/16) of providers: a city's fixed lines, a carrier's pools for mobile data. The numbers are
hard on the thresholds: honest customers who change more than most, groups that share less than they could.
"""

from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from random import Random

from app.domain.sharing import Spread, excess

DAYS, WEEK = 14, 7
HONEST, GROUPS = 60, 10
Request = tuple[str, str]
"""A machine, and an address."""
Days = Iterator[list[Request]]


class Provider:
    """The networks (/24) in some blocks from which its customers get addresses."""

    def __init__(self, chance: Random, blocks: int, networks: int) -> None:
        self._chance = chance
        starts = [f"{chance.randrange(1, 223)}.{chance.randrange(256)}" for _ in range(blocks)]
        self._networks = [f"{chance.choice(starts)}.{chance.randrange(256)}" for _ in range(networks)]

    def address(self) -> str:
        return f"{self._chance.choice(self._networks)}.{self._chance.randrange(1, 255)}"


def fixed_line(chance: Random) -> Provider:
    return Provider(chance, chance.randint(2, 5), 300)


def carrier(chance: Random) -> Provider:
    return Provider(chance, chance.randint(1, 4), chance.choice((4, 8, 16, 32, 64)))


def home(chance: Random) -> Days:
    """A line that is dialled anew up to four times a day; a hotspot at times, and a changing device."""
    line, hotspot, dials = fixed_line(chance), carrier(chance), chance.choice((1, 2, 4))
    machines = [f"pc with device {number}" for number in range(chance.randint(1, 4))]
    while True:
        addresses = [line.address() for _ in range(dials)]
        yield [
            (chance.choice(machines), hotspot.address() if chance.random() < 0.1 else chance.choice(addresses))
            for _ in range(8)
        ]


def laptop(chance: Random) -> Days:
    """Home and work, a café each day, and a hotspot under way."""
    lines, hotspot = (fixed_line(chance), fixed_line(chance)), carrier(chance)
    while True:
        addresses = [*(line.address() for line in lines), fixed_line(chance).address(), hotspot.address()]
        yield [("laptop", chance.choice(addresses)) for _ in range(10)]


def mobile_data(chance: Random) -> Days:
    """A carrier's pool, from which up to nine of ten requests have a new address."""
    pool, changing = carrier(chance), chance.choice((0.1, 0.3, 0.6, 0.9))
    address = pool.address()
    while True:
        found = []
        for _ in range(chance.choice((4, 8, 15, 30))):
            address = pool.address() if chance.random() < changing else address
            found.append(("phone", address))
        yield found


def one_hardware(chance: Random) -> Days:
    """A patched program with a constant hardware string, at forty customers' lines."""
    addresses = [fixed_line(chance).address() for _ in range(40)]
    while True:
        yield [("patched", address) for address in chance.sample(addresses, 30) for _ in range(2)]


def one_address(chance: Random) -> Days:
    """A net café with forty machines."""
    address = fixed_line(chance).address()
    while True:
        yield [(f"seat {number}", address) for number in chance.sample(range(40), 20)]


def handed_on(chance: Random) -> Days:
    """A card that goes round twenty machines, two to ten of them a day."""
    addresses, holder = [fixed_line(chance).address() for _ in range(20)], 0
    while True:
        found = []
        for _ in range(chance.randint(2, 10)):
            holder = (holder + 1) % 20
            found.append((f"computer {holder}", addresses[holder]))
        yield found


def spread_of(requests: list[Request]) -> Spread:
    """Return how far the changes of accepted requests are spread, as the service counts them."""
    changes = [now for before, now in pairwise(requests) if now != before]
    places = {(machine, address.rpartition(".")[0]) for machine, address in changes}
    networks = {network for _, network in places}
    return Spread(
        machines=len({machine for machine, _ in places}),
        networks=len(networks),
        blocks=len({network.rpartition(".")[0] for network in networks}),
        changes=len(changes),
        places=len(places),
    )


def days_shown(customer: Callable[[Random], Days], seed: int) -> list[bool]:
    """Return for each day after the first week whether the customer is shown at its end."""
    days = customer(Random(f"{customer.__name__} {seed}"))  # noqa: S311  # no secret
    lived = [next(days) for _ in range(DAYS)]
    return [
        excess(spread_of(lived[end - 1]), spread_of(list(chain(*lived[end - WEEK : end])))) >= 1
        for end in range(WEEK, DAYS + 1)
    ]


def test_groups_that_share_are_shown_every_day_and_honest_customers_on_none() -> None:
    for customer, count, expected in (
        *((customer, HONEST, False) for customer in (home, laptop, mobile_data)),
        *((customer, GROUPS, True) for customer in (one_hardware, one_address, handed_on)),
    ):
        shown = [all(days_shown(customer, n)) if expected else any(days_shown(customer, n)) for n in range(count)]
        assert shown == [expected] * count, customer.__name__
