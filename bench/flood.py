"""python -m bench.flood: how far a customer and strangers can make the database grow in a day."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from random import Random
from typing import NamedTuple
from zoneinfo import ZoneInfo

from app.domain.policy import VerificationRequest
from app.services.in_force import VendorRules
from app.services.licence import LicenceService
from app.services.pace import TooFastError
from app.storage.database import Database, connect_to
from app.storage.journal import MAX_REFUSALS_PER_MINUTE, MAX_REFUSALS_PER_MINUTE_OF_SITE
from app.storage.models import Event
from app.storage.statements import PREPARED
from app.storage.touches import Touches
from app.tokens.key_folder import KeyFolder
from app.tokens.signer import Signer
from bench.command import run, say
from bench.service import Host, host
from trial.ports import LOOPBACK
from trial.stopping import Stopping

ZONE = ZoneInfo("Asia/Shanghai")
MORNING = datetime(2026, 3, 1, tzinfo=ZONE)
DAY_MINUTES = 1_440
RATE = 10
"""Requests a second that nginx lets through from one address (KADUN_RATE)."""
MIB = 2**20
HOME, SEED = LOOPBACK, 14  # where the card is bound
_TEXT_LENGTHS = {"hardware": 1_024, "function": 64}  # the longest that are accepted
_SIZE = """
SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


class Growth(NamedTuple):
    """What was written: journal entries, bytes of tables with their indexes after a vacuum, bytes of the log (WAL)."""

    entries: int
    table_bytes: float
    wal_bytes: float

    def times(self, factor: float) -> "Growth":
        """Return as much so many times."""
        return Growth(round(self.entries * factor), self.table_bytes * factor, self.wal_bytes * factor)


@dataclass
class Attack:
    """Somebody who sends what takes most room.

    Args:
        licences: Evaluates the requests, at the time of `clock`.
        clock: Where time stands.
        random: Makes texts that nothing compresses.
    """

    licences: LicenceService
    clock: "Clock"
    random: Random

    def text(self, length: int) -> str:
        """Return so many characters of four bytes each."""
        return "".join(map(chr, self.random.choices(range(0x10000, 0x110000), k=length)))

    def ask(self, card_id: str, address: str, hardware: str | None = None) -> str:
        """Send a request as long as can be; return its hardware."""
        hardware = hardware or self.text(_TEXT_LENGTHS["hardware"])
        function, claimed = self.text(_TEXT_LENGTHS["function"]), self.text(64)
        self.licences.evaluate(
            VerificationRequest.from_fields(card_id, hardware, function, "n" * 64, address, claimed_ip=claimed)
        )
        return hardware

    def as_customer(self, card_id: str, requests: int) -> None:
        """Change the hardware, then the address, then be rejected with others of both, and so on, in one day."""
        hardware = self.ask(card_id, HOME)
        for number in range(requests):
            self.clock.now += timedelta(seconds=1 / RATE)
            if number % 3 == 0:
                hardware = self.ask(card_id, HOME)
            else:
                self.ask(card_id, self._elsewhere(), hardware if number % 3 == 1 else None)
                if number % 3 == 1:
                    self.ask(card_id, HOME, hardware)

    def as_stranger(self, requests: int, address: Callable[[], str]) -> None:
        """Ask for cards that do not exist, so often in the next minute."""
        self.clock.now += timedelta(minutes=1)
        for _ in range(requests):
            with suppress(TooFastError):
                self.ask(self.text(64), address())

    def _elsewhere(self) -> str:
        return str(IPv4Address("198.18.0.0") + self.random.randrange(2**17))

    def in_site(self) -> str:
        """Return an address in a /48, hardly ever in the same /64."""
        return str(IPv6Address("2001:db8:1::1") + (self.random.randrange(2**16) << 64))


@dataclass
class Clock:
    """A clock that stands still until it is set."""

    now: datetime

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now


@dataclass
class Meter:
    """Measures what an attack writes to the connected database."""

    database: Database

    def growth(self, attack: Callable[[], None], times: int = 1) -> Growth:
        """Run the attack so many times, and return what all wrote; after each there is a vacuum."""
        before = self._read()
        for _ in range(times):
            attack()
            after = self._read()
        return Growth(*(new - old for new, old in zip(after, before, strict=True)))

    def _read(self) -> tuple[int, int, int]:
        wal = self._number("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
        self.database.execute_sql("VACUUM")  # as autovacuum does once a minute
        return Event.select().count(), self._number(_SIZE), wal

    def _number(self, question: str) -> int:
        (value,) = self.database.execute_sql(question).fetchone()
        return int(value)


def measure(here: Host, minutes: int) -> Iterator[tuple[str, Growth]]:
    """Yield who attacks, and what they make the database grow by in a day.

    Args:
        here: Has a bound card.
        minutes: How long each is measured.
    """
    clock = Clock(MORNING)
    keys = here.folder / "attack-keys"
    KeyFolder(keys).create(clock.now, "kadun")
    database = connect_to(Database(here.table.url, prepared=PREPARED))
    meter = Meter(database)
    licences = LicenceService(
        database, Touches(database), VendorRules(database, clock), Signer(KeyFolder(keys)), "bench", ZONE, clock
    )
    attack, a_day = Attack(licences, clock, Random(SEED)), DAY_MINUTES / minutes
    try:
        card_id = here.table.computers(1)[0].card_id
        a_minute = partial(attack.as_customer, card_id, RATE * 60 * 3 // 4)  # which sends four requests for three
        say("a customer with one card …")
        yield "a customer, one card: the journalled", meter.growth(lambda: attack.as_customer(card_id, 3 * 60))
        meter.growth(a_minute)  # which leaves room for what each of the next replaces
        yield "a customer, one card: the rest of the day", meter.growth(a_minute, minutes).times(a_day)
        for name, most, address in (
            ("a stranger, one address", MAX_REFUSALS_PER_MINUTE, lambda: HOME),
            ("a stranger, an IPv6 /48", MAX_REFUSALS_PER_MINUTE_OF_SITE, attack.in_site),
        ):
            say(f"{name} …")
            clock.now += timedelta(days=1)
            yield name, meter.growth(partial(attack.as_stranger, most + 5, address), minutes).times(a_day)
    finally:
        database.close()


def table(rows: Iterator[tuple[str, Growth]]) -> list[str]:
    """Return the result as a table."""
    lines = [f"{'in one day':<44}{'entries':>10}{'tables, indexes':>18}{'log (WAL)':>14}"]
    for name, growth in rows:
        sizes = f"{growth.table_bytes / MIB:>14,.1f} MiB{growth.wal_bytes / MIB:>10,.0f} MiB"
        lines.append(f"{name:<44}{growth.entries:>10,}{sizes}")
    return lines


def main() -> int:
    """Run the attacks; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh --flood", description="Makes the database grow.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the minutes")
    minutes = 6 if parser.parse_args().quick else 60
    return run(lambda stopping: _measure(stopping, minutes))


def _measure(stopping: Stopping, minutes: int) -> list[str]:
    with host(stopping, cards=1, is_bound=True) as here:
        return table(measure(here, minutes))


if __name__ == "__main__":
    sys.exit(main())
