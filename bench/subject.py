"""One checkout's service under measurement, with databases and processes of its own."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import jwt
from joserfc.jwk import OKPKey

from bench import fixed_rate, http_requests, process_usage, wrk
from bench.cards import FIRST_CARD_ID, HARDWARE, CardTable, Computer
from bench.code import Code
from bench.command import say
from bench.errors import BenchError
from bench.gunicorn import CONNECTIONS, Gunicorn
from bench.service import environ, running
from trial.postgres import EmbeddedPostgres

MORE_CONNECTIONS = (64, 256, 1_000)
_ACTIVATING_CONNECTIONS = (CONNECTIONS, 64)
_ACTIVATIONS_CEILING = 6_000
"""More than this many activations a second are not expected: so many unused cards are made."""
_WARM_UP_SECONDS = 2
_NEW_CONNECTIONS = 3
_COMPUTERS = 1_000


class Plan(NamedTuple):
    """What the caller wants: seconds a measurement, rounds, and numbers of bound cards in ascending order."""

    seconds: int
    rounds: int
    cards: tuple[int, ...]


class Piece(NamedTuple):
    """Some figures of a round, by name, in a section of the report."""

    section: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Host:
    """What the subjects share."""

    folder: Path
    postgres: EmbeddedPostgres
    zone: ZoneInfo


class Run(NamedTuple):
    """A run of wrk, and the processor time that a request took meanwhile, in microseconds."""

    load: wrk.Load
    gunicorn: float
    postgresql: float


class Subject:
    """The empty route, a service for each number of cards and one for activations.

    Args:
        code: Whose service.
        number: Tells the databases of several subjects apart.
        host: The machine's.
        plan: What to measure.
    """

    def __init__(self, code: Code, number: int, host: Host, plan: Plan) -> None:
        self.code = code
        self._number = number
        self._host = host
        self._plan = plan
        self._public_key = str(OKPKey.generate_key("X25519").as_dict(private=False)["x"])
        self._used = 0

    def start(self, stack: ExitStack) -> None:
        """Make the cards, start everything until the stack ends, and warm up."""
        self._tables = {cards: self._table(f"bound_{cards}", cards) for cards in self._plan.cards}
        runs = len(_ACTIVATING_CONNECTIONS) * self._plan.rounds * self._plan.seconds + _WARM_UP_SECONDS
        self._unused = self._table("unused", runs * _ACTIVATIONS_CEILING, is_bound=False)
        self._services = {cards: self._service(stack, table) for cards, table in self._tables.items()}
        self._activating = self._service(stack, self._unused)
        self._empty = self._service(stack, self._unused, "empty:app", "/empty")
        self._check()
        say(f"warming up {self.code.name} …")
        self._activate(CONNECTIONS, _WARM_UP_SECONDS)
        self._best_empty()
        for cards in self._plan.cards:
            self._verify(cards)

    def measure(self) -> Iterator[Piece]:
        """Yield all figures of a round, one measurement after the other."""
        empty = self._best_empty()
        yield Piece("", {"H  empty route, requests/s": empty})
        for connections in _ACTIVATING_CONNECTIONS:
            name = f"A  first activations/s, {connections} connections"
            yield Piece("", {name: self._activate(connections, self._plan.seconds)})
        clear = {}
        for cards in self._plan.cards:
            section = f"{cards:,} bound cards"
            clear[cards] = self._verify(cards)
            yield Piece(section, _of(clear[cards], empty))
            sealed = self._verify(cards, self._public_key).load.per_second
            yield Piece(section, {"V  verifications/s, key sealed": sealed, "   to H, sealed": sealed / empty})
        if len(clear) > 1:
            least, *_, most = self._plan.cards
            ratio = clear[most].load.per_second / clear[least].load.per_second
            yield Piece(f"{most:,} bound cards", {f"   V to V at {least:,} cards": ratio})
        cards = min(self._plan.cards)
        yield from self._at_half(cards, clear[cards].load.per_second)
        yield from self._with_more_connections(cards, clear[cards].load.per_second)
        most = max(self._plan.cards)
        yield Piece("memory", {"gunicorn, MiB (PSS)": process_usage.pss_mib(self._services[most].pid)})

    def _at_half(self, cards: int, v: float) -> Iterator[Piece]:
        computers = self._tables[cards].computers(_COMPUTERS)
        p99 = fixed_rate.p99(self._services[cards].target, computers, rate=v / 2, seconds=self._plan.seconds)
        yield Piece(f"{cards:,} bound cards, at half of V", {"99% answered within, ms": p99})

    def _with_more_connections(self, cards: int, v: float) -> Iterator[Piece]:
        for connections in MORE_CONNECTIONS:
            load = self._counted(cards, wrk.Questions(0, cards), connections).load
            figures = {
                "V  verifications/s": load.per_second,
                f"   to V at {CONNECTIONS}": load.per_second / v,
                "   99% answered within, ms": load.p99,
            }
            yield Piece(f"{cards:,} bound cards, {connections:,} connections", figures)

    def _table(self, name: str, cards: int, *, is_bound: bool = True) -> CardTable:
        say(f"making {cards:,} {'bound' if is_bound else 'unused'} cards for {self.code.name} …")
        database = f"{name}_{self._number}"
        self._host.postgres.create_database(database)
        day = datetime.now(self._host.zone).date()
        table = CardTable(self._host.postgres.url(database), cards, day, is_bound=is_bound, code=self.code)
        table.fill()
        return table

    def _service(
        self, stack: ExitStack, table: CardTable, application: str = "app.wsgi:app", path: str = "/readyz"
    ) -> Gunicorn:
        settings = environ(self._host.folder, table.url, self._host.zone.key)
        log = self._host.folder / f"service-{self._number}.log"
        return stack.enter_context(running(Gunicorn(application, settings, log, code=self.code), path))

    def _check(self) -> None:
        """Make sure that cards are accepted and earn the key."""
        for service, public_key in [(s, k) for s in self._services.values() for k in (self._public_key, None)]:
            sealed = {"client_public_key": public_key} if public_key else {}
            question = http_requests.question(Computer(FIRST_CARD_ID, f"{HARDWARE}0"), **sealed)
            token = service.post("/v1/verify", question)["token"]
            claims = jwt.decode(token, options={"verify_signature": False})
            if ("KERNAL_DATA_KEY_SEALED" if public_key else "KERNAL_DATA_KEY") not in claims:
                raise BenchError(f"a bound card is not accepted with its key: {claims['code']}")

    def _best_empty(self) -> float:
        url = f"{self._empty.url}/empty"
        seconds = self._plan.seconds
        runs = [wrk.run(url, None, connections=CONNECTIONS, seconds=seconds) for _ in range(_NEW_CONNECTIONS)]
        return max(load.per_second for load in runs)

    def _verify(self, cards: int, public_key: str | None = None) -> Run:
        """Return the best of some runs, each with new connections: one worker may get them all, and the other idles."""
        questions = wrk.Questions(0, cards, public_key=public_key)
        runs = [self._counted(cards, questions, CONNECTIONS) for _ in range(_NEW_CONNECTIONS)]
        return max(runs, key=lambda run: run.load.per_second)

    def _counted(self, cards: int, questions: wrk.Questions, connections: int) -> Run:
        table, service, postmaster = self._tables[cards], self._services[cards], self._host.postgres.pid
        if postmaster is None:
            raise BenchError("PostgreSQL has ended")
        accepted = table.accepted()
        before = [process_usage.cpu_seconds(pid) for pid in (service.pid, postmaster)]
        load = wrk.run(f"{service.url}/v1/verify", questions, connections=connections, seconds=self._plan.seconds)
        after = [process_usage.cpu_seconds(pid) for pid in (service.pid, postmaster)]
        accepted = table.accepted() - accepted
        if accepted < load.requests:
            raise BenchError(f"of {load.requests} requests only {accepted} were accepted")
        return Run(load, *((b - a) / load.requests * 1e6 for a, b in zip(before, after, strict=True)))

    def _activate(self, connections: int, seconds: int) -> float:
        first, count = self._used, _ACTIVATIONS_CEILING * seconds
        self._used += count
        before = self._unused.activated()
        questions = wrk.Questions(first, count, each=True)
        load = wrk.run(f"{self._activating.url}/v1/verify", questions, connections=connections, seconds=seconds)
        activated = self._unused.activated() - before
        if activated < load.requests:
            raise BenchError(
                f"of {load.requests} requests only {activated} activated a card: were the {count} used up?"
            )
        return load.per_second


def _of(run: Run, empty: float) -> dict[str, float]:
    return {
        "V  verifications/s, key in clear": run.load.per_second,
        "   to H": run.load.per_second / empty,
        "   50% answered within, ms": run.load.p50,
        "   99% answered within, ms": run.load.p99,
        "   processor time, µs: gunicorn": run.gunicorn,
        "   processor time, µs: PostgreSQL": run.postgresql,
        "   processor time, µs: both": run.gunicorn + run.postgresql,
    }
