"""python -m bench.sharing: how many honest customers and sharers the abuse report shows in a simulated month."""

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from random import Random
from zoneinfo import ZoneInfo

from app.domain.cards import Card
from app.domain.codes import Counted, EventKind
from app.domain.policy import OPEN_PROGRAM, Client, Facts, VerificationRequest, decide
from app.domain.sharing import Environment, environment_of, gets_an_entry
from app.services import abuse_report
from app.storage import journal
from app.storage.database import Database, connect_to
from app.storage.journal import MAX_ENTRIES_PER_DAY, Entry
from app.storage.models import DailyCount
from bench.command import run, say
from bench.customers import HONEST, SHARERS, Kind, Request, World, days_of
from bench.service import host
from trial.stopping import Stopping

ZONE = ZoneInfo("Asia/Shanghai")
FIRST_DAY = date(2026, 3, 1)
SEED = 14
WEEK_DAYS = 7
"""After so many days the report has a whole period; from then on it is read at the end of each day."""
MONTH = {Kind.HOME: 334, Kind.LAPTOP: 333, Kind.MOBILE: 333, **dict.fromkeys(SHARERS, 20)}
QUICK = {**dict.fromkeys(HONEST, 50), **dict.fromkeys(SHARERS, 20)}
_ROWS = 2_000  # in one statement
_ACTIVATED = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Customer:
    """A customer with a card, and the client that it is bound to."""

    card: Card
    kind: Kind
    days: Iterator[list[Request]]
    client: Client | None = None

    def ask(self, request: Request, at: datetime) -> Entry | None:
        """Ask the rules; return the journal entry of an accepted change, without its `reference`."""
        asked = asked_for(self.card.id, request)
        decision = decide(Facts(self.card, self.client), asked, at)
        if not decision.accepted:
            if self.kind in HONEST:  # calls the vendor, who unbinds the card
                self.client = None
            return None
        before, self.client = self.client, Client(self.card.id, self.card.id, asked.hardware, asked.address)
        if before is None or not (decision.hardware_changed or decision.address_changed):
            return None
        return Entry(
            at,
            EventKind.ENVIRONMENT_CHANGED,
            card_id=self.card.id,
            ip=asked.address,
            hardware=asked.hardware,
            function=asked.function,
            details={"before": {"hardware": before.hardware, "ip": before.address}},
            counted=Counted.HARDWARE_CHANGED if decision.hardware_changed else Counted.ADDRESS_CHANGED,
        )


@dataclass
class Shown:
    """Which cards the report showed, by the day, and the kinds of all cards."""

    kinds: Mapping[str, Kind]
    by_day: list[set[str]] = field(default_factory=list)

    def on_days(self, kind: Kind) -> list[int]:
        """Return how many customers of a kind were shown on each day."""
        return [sum(self.kinds[card_id] is kind for card_id in shown) for shown in self.by_day]

    def ever(self, kind: Kind) -> int:
        """Return how many were shown on one day at least."""
        return sum(self.kinds[card_id] is kind for card_id in set().union(*self.by_day))


def asked_for(card_id: str, request: Request) -> VerificationRequest:
    """Return a customer's request as the service gets it; no two customers have a machine in common."""
    hardware = f"{request.machine} of {card_id}"
    return VerificationRequest.from_fields(card_id, hardware, OPEN_PROGRAM, "n" * 22, request.address)


def moment(day: date, request: Request) -> datetime:
    """Return when a request of that day is made."""
    return datetime.combine(day, time(), ZONE) + timedelta(hours=request.hour)


def customers(numbers: Mapping[Kind, int], seed: int = SEED) -> list[Customer]:
    """Return so many new customers of each kind, whose cards have been activated and are permanent."""
    world = World(Random(seed))
    kinds = [kind for kind, count in numbers.items() for _ in range(count)]
    return [
        Customer(Card(f"{number:032}", None, _ACTIVATED, None, None), kind, days_of(kind, world))
        for number, kind in enumerate(kinds)
    ]


def live(everyone: Sequence[Customer], day: date) -> None:
    """Write what the customers' requests of a day change, as `app.services.licence` would, a thousand times faster."""
    counts: Counter[tuple[str, Counted]] = Counter()
    last_at: dict[tuple[str, Counted], datetime] = {}
    environments: dict[tuple[str, Counted], list[Environment]] = {}
    entries = []
    for customer in everyone:
        for request in next(customer.days):
            at = moment(day, request)
            entry = customer.ask(request, at)
            if entry is not None and entry.counted is not None:
                key = (customer.card.id, entry.counted)
                counts[key] += 1
                last_at[key] = at
                seen, environment = environments.setdefault(key, []), environment_of(entry.hardware, entry.ip)
                if gets_an_entry(environment, seen, MAX_ENTRIES_PER_DAY):
                    seen.append(environment)
                    entries.append(entry)
    rows = [
        {
            "card_id": key[0],
            "day": day,
            "kind": key[1],
            "count": count,
            "last_at": last_at[key],
            "environments": [number for environment in environments[key] for number in environment],
        }
        for key, count in counts.items()
    ]
    for start in range(0, len(entries), _ROWS):
        journal.append(entries[start : start + _ROWS])
    for start in range(0, len(rows), _ROWS):
        DailyCount.insert_many(rows[start : start + _ROWS]).execute()


def simulate(database: Database, numbers: Mapping[Kind, int], days: int, seed: int = SEED) -> Shown:
    """Let customers live for so many days in an empty database, and read the report at the end of each after a week."""
    everyone = customers(numbers, seed)
    shown = Shown({customer.card.id: customer.kind for customer in everyone})
    for number in range(days):
        day = FIRST_DAY + timedelta(days=number)
        database.with_connection(partial(live, everyone, day))
        if number + 1 >= WEEK_DAYS:
            now = datetime.combine(day + timedelta(days=1), time(), ZONE)
            found = abuse_report.shown_cards(database, now, ZONE)
            shown.by_day.append({card.card_id for card in found})
    return shown


def table(shown: Shown) -> list[str]:
    """Return the result as a table."""
    totals = Counter(shown.kinds.values())
    lines = [f"{'customers':<42}{'number':>8}{'shown on a typical day':>24}{'ever shown':>12}"]
    for kind, total in totals.items():
        days = shown.on_days(kind)
        typical = f"{statistics.median_low(days)} ({min(days)} to {max(days)})"
        lines.append(f"{kind:<42}{total:>8,}{typical:>24}{shown.ever(kind):>12}")
    return lines


def main() -> int:
    """Run the simulation; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh --sharing", description="Simulates sharers and others.")
    parser.add_argument("--quick", action="store_true", help="150 honest customers, 10 days")
    given = parser.parse_args()
    return run(lambda stopping: _measure(stopping, *((QUICK, 10) if given.quick else (MONTH, 30))))


def _measure(stopping: Stopping, numbers: Mapping[Kind, int], days: int) -> list[str]:
    with host(stopping, cards=0, is_bound=False) as here:
        say(f"simulating {sum(numbers.values()):,} customers for {days} days …")
        database = connect_to(Database(here.table.url, bulk=True))
        try:
            return [f"{days} simulated days, seed {SEED}", "", *table(simulate(database, numbers, days))]
        finally:
            database.close()


if __name__ == "__main__":
    sys.exit(main())
