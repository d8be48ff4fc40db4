"""Simulated customers, honest ones and sharers, and the environments that their programs ask from.

Each is a generator that yields the requests of one day after the other. Addresses come from blocks (/16 of IPv4, /32 of
IPv6) as providers have them: a city's fixed lines, a carrier's pools for mobile data. The numbers are assumptions that
are hard on the thresholds: honest customers who change more than most, sharers who share less than they could.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum
from random import Random
from typing import NamedTuple

CITIES = 40
PROVIDERS = 3
ADDRESSES, SEATS, HOLDERS = 40, 40, 20
TURN_HOURS = 0.1
"""How long a card that is handed on takes from one machine to the next, at least."""


class Kind(StrEnum):
    """The kinds of customers, the honest ones first."""

    HOME = "home, changing addresses"
    LAPTOP = "laptop between two places"
    MOBILE = "mobile data"
    ONE_HARDWARE = f"one hardware string from {ADDRESSES} addresses"
    ONE_ADDRESS = f"one address with {SEATS} machines"
    HANDED_ON = f"handed on through {HOLDERS} machines"


HONEST = (Kind.HOME, Kind.LAPTOP, Kind.MOBILE)
SHARERS = (Kind.ONE_HARDWARE, Kind.ONE_ADDRESS, Kind.HANDED_ON)


class Request(NamedTuple):
    """A request, at a time of its day in hours."""

    hour: float
    machine: str
    address: str


class Provider:
    """A provider in one city: its blocks, and the networks in them from which customers get addresses."""

    def __init__(self, chance: Random, blocks: int, networks: int) -> None:
        self._chance = chance
        self._networks = [
            (f"{first}.{second}.{chance.randrange(256)}", f"2409:{sixth:x}:{chance.randrange(2**16):x}")
            for first, second, sixth in (
                (chance.randrange(1, 223), chance.randrange(256), chance.randrange(2**16)) for _ in range(blocks)
            )
            for _ in range(networks // blocks)
        ]

    def address(self, *, is_ipv6: bool = False) -> str:
        """Return the address of a new connection."""
        fourth, sixth = self._chance.choice(self._networks)
        if is_ipv6:
            return f"{sixth}:{self._chance.randrange(2**16):x}::{self._chance.randrange(1, 2**16):x}"
        return f"{fourth}.{self._chance.randrange(1, 255)}"


class Line:
    """A fixed line: a new address whenever it is dialled; some requests come by IPv6, where it has that."""

    def __init__(self, chance: Random, provider: Provider, dials_per_day: float, ipv6: float = 0) -> None:
        self._chance, self._provider = chance, provider
        self._dials_per_day, self._ipv6 = dials_per_day, ipv6
        self._dial()

    def pass_time(self, days: float) -> None:
        """Dial, if that happens in this time."""
        if often(self._chance, self._dials_per_day * days):
            self._dial()

    def address(self) -> str:
        """Return the address that a request comes from."""
        return self._addresses[self._chance.random() < self._ipv6]

    def _dial(self) -> None:
        self._addresses = (self._provider.address(), self._provider.address(is_ipv6=True))


class World:
    """All providers: in each city some with fixed lines, and as many mobile carriers."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self._lines = [
            [Provider(chance, chance.randint(2, 5), 300) for _ in range(PROVIDERS)] for _city in range(CITIES)
        ]
        self._carriers = [
            [Provider(chance, chance.randint(1, 4), chance.choice((4, 8, 16, 32, 64))) for _ in range(PROVIDERS)]
            for _city in range(CITIES)
        ]

    def city(self) -> int:
        """Return any city."""
        return self.chance.randrange(CITIES)

    def line(self, city: int, dials_per_day: float, ipv6: float = 0) -> Line:
        """Return a fixed line in a city."""
        return Line(self.chance, self.chance.choice(self._lines[city]), dials_per_day, ipv6)

    def carrier(self, city: int) -> Provider:
        """Return a carrier of a city."""
        return self.chance.choice(self._carriers[city])


def days_of(kind: Kind, world: World) -> Iterator[list[Request]]:
    """Yield the requests of a new customer's days, without end."""
    return _DAYS[kind](world)


def often(chance: Random, mean: float) -> int:
    """Return how often something happened that happens so often on average (Poisson)."""
    count, passed = 0, chance.expovariate(1)
    while passed < mean:
        count, passed = count + 1, passed + chance.expovariate(1)
    return count


def _hours(chance: Random, mean: float) -> list[float]:
    """Return the times of a day's requests, one at least."""
    return sorted(chance.uniform(7, 24) for _ in range(often(chance, mean) + 1))


def _home(world: World) -> Iterator[list[Request]]:
    """A line that is dialled up to four times a day; some have a second PC, a changing device, a hotspot or a VPN."""
    chance, city = world.chance, world.city()
    line = world.line(city, chance.choice((0.1, 0.3, 1, 1, 1, 2, 4)), chance.choice((0, 0, 0, 0.1, 0.5, 1)))
    hotspot, hotspots_per_day = world.carrier(city), chance.choice((0, 0, 0, 0.3, 1))
    second_pc, devices = ["pc", "second pc"], [f"pc with device {number}" for number in range(chance.randint(2, 4))]
    (machines,) = chance.choices((["pc"], second_pc, devices), (85, 10, 5))
    vpn = [world.line(world.city(), 0) for _ in range(chance.randint(3, 8))] if chance.random() < 0.02 else []
    now, machine = 0.0, machines[0]
    while True:
        found = []
        for hour in _hours(chance, 8) if chance.random() < 0.85 else ():
            line.pass_time((hour - now) / 24)
            now = hour
            if chance.random() < 0.3:
                machine = chance.choice(machines)
            address = line.address()
            if chance.random() < hotspots_per_day / 8:
                address = hotspot.address()
            elif vpn and chance.random() < 0.4:
                address = chance.choice(vpn).address()
            found.append(Request(hour, machine, address))
        now -= 24
        yield found


def _laptop(world: World) -> Iterator[list[Request]]:
    """Home and work with a line each; a hotspot under way, cafés, and trips with a hotel."""
    chance, city = world.chance, world.city()
    home = world.line(city, chance.choice((0.1, 1, 1, 2)), chance.choice((0, 0, 0.2, 0.7)))
    work = world.line(city, chance.choice((0, 0, 0.3, 1)))
    carrier = world.carrier(city)
    hotspots_per_day, cafes_per_day = chance.choice((0, 0, 1, 2)), chance.choice((0, 0, 0.1, 0.3))
    trips_per_day, days_away = chance.choice((0, 0, 0, 0.03)), 0
    hotel, carrier_there = home, carrier
    day = chance.randrange(7)
    while True:
        day += 1
        for line in (home, work, hotel):
            line.pass_time(1)
        days_away = max(0, days_away - 1)
        if not days_away and chance.random() < trips_per_day:
            days_away, there = chance.randint(2, 5), world.city()
            hotel, carrier_there = world.line(there, 0.5), world.carrier(there)
        begin, end = chance.uniform(8, 10), chance.uniform(17, 19)
        found = []
        for hour in _hours(chance, 10):
            if days_away:
                address = hotel.address() if chance.random() < 0.6 else carrier_there.address()
            elif chance.random() < hotspots_per_day / 10:
                address = carrier.address()
            elif chance.random() < cafes_per_day / 10:
                address = world.line(city, 0).address()
            else:
                address = (work if day % 7 < 5 and begin < hour < end else home).address()
            found.append(Request(hour, "laptop", address))
        yield found


def _mobile(world: World) -> Iterator[list[Request]]:
    """A carrier's NAT: up to nine of ten requests have a new address of its pool. Some have Wi-Fi, some travel."""
    chance, city = world.chance, world.city()
    carrier, ipv6 = world.carrier(city), chance.choice((0, 0, 0, 0.3, 1))
    requests_per_day, changing = chance.choice((4, 8, 15, 30)), chance.choice((0.1, 0.3, 0.6, 0.9))
    wifi = world.line(city, 1) if chance.random() < 0.5 else None
    days_away = chance.choice((0, 0, 0, 0.05, 0.15))
    address = carrier.address(is_ipv6=chance.random() < ipv6)
    while True:
        is_away = chance.random() < days_away
        near = world.carrier(world.city()) if is_away else carrier
        if wifi:
            wifi.pass_time(1)
        found = []
        for hour in _hours(chance, requests_per_day):
            if chance.random() < changing:
                address = near.address(is_ipv6=chance.random() < ipv6)
            at_home = wifi and not is_away and not 8 < hour < 19
            found.append(Request(hour, "phone", wifi.address() if wifi and at_home else address))
        yield found


def _sessions(chance: Random, per_day: float) -> Iterator[float]:
    """Yield when one person's program asks: as it starts, and each half hour that it runs."""
    for _ in range(often(chance, per_day)):
        begun = chance.uniform(8, 22)
        for number in range(1 + often(chance, 2)):
            yield min(begun + number / 2, 23.9)


def _one_hardware(world: World) -> Iterator[list[Request]]:
    """A patched program with a constant hardware string. A third of the groups are from one city."""
    chance, city = world.chance, world.city()
    is_local, dials_per_day, per_day = chance.random() < 1 / 3, chance.choice((0, 0.3, 1)), chance.uniform(0.3, 2)
    people: list[Line | Provider] = []
    for _ in range(ADDRESSES):
        where = city if is_local else world.city()
        people.append(world.carrier(where) if chance.random() < 0.2 else world.line(where, dials_per_day))
    while True:
        for person in people:
            if isinstance(person, Line):
                person.pass_time(1)
        yield sorted(
            Request(hour, "patched", person.address()) for person in people for hour in _sessions(chance, per_day)
        )


def _one_address(world: World) -> Iterator[list[Request]]:
    """A net café or an office."""
    chance = world.chance
    line, per_day = world.line(world.city(), chance.choice((0, 0, 0.2, 1))), chance.uniform(0.2, 2)
    while True:
        yield sorted(
            Request(hour, f"seat {seat}", line.address())
            for seat in range(SEATS)
            for hour in _sessions(chance, per_day)
        )
        line.pass_time(1)


def _handed_on(world: World) -> Iterator[list[Request]]:
    """A card that goes round: the next machine starts through the address of the one before, then from its own."""
    chance = world.chance
    lines = [world.line(world.city(), 0.3) for _ in range(HOLDERS)]
    turns_per_day, holder = chance.uniform(2, 10), 0
    while True:
        for line in lines:
            line.pass_time(1)
        found, ready = [], 0.0
        for hour in _hours(chance, turns_per_day - 1):
            begun = max(hour, ready)
            if begun + TURN_HOURS > 24:
                break
            before, holder = holder, (holder + 1) % HOLDERS
            for number, (machine, place) in enumerate(((before, before), (holder, before), (holder, holder))):
                found.append(Request(begun + number * TURN_HOURS / 3, f"computer {machine}", lines[place].address()))
            ready = begun + TURN_HOURS
        yield found


_DAYS: dict[Kind, Callable[[World], Iterator[list[Request]]]] = {
    Kind.HOME: _home,
    Kind.LAPTOP: _laptop,
    Kind.MOBILE: _mobile,
    Kind.ONE_HARDWARE: _one_hardware,
    Kind.ONE_ADDRESS: _one_address,
    Kind.HANDED_ON: _handed_on,
}
