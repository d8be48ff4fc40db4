"""The measurements: everything is set up once, then measured in turns, several times."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from joserfc.jwk import OKPKey

from bench import http_requests, pgbench, process_usage, signing, wrk
from bench.cards import FIRST_CARD_ID, HARDWARE, CardTable, Computer, noon_zone
from bench.errors import BenchError
from bench.gunicorn import CONNECTIONS, Gunicorn
from bench.service import compose_settings, environ, make_secrets, running
from trial.postgres import EmbeddedPostgres
from trial.stopping import Stopping

_WARM_UP_SECONDS = 2
_NEW_CONNECTIONS = 3
_ACTIVATIONS_CEILING = 8_000
"""More than this many activations a second are not expected: so many unused cards are made."""


class Plan(NamedTuple):
    """What the caller wants: seconds a measurement, rounds, and numbers of bound cards."""

    seconds: int
    rounds: int
    cards: tuple[int, ...]


@dataclass
class Round:
    """What one round measured, a second. `database`, `clear` and `sealed` are by number of cards."""

    empty: float
    signatures: float
    activations: wrk.Load
    database: dict[int, float] = field(default_factory=dict)
    clear: dict[int, wrk.Load] = field(default_factory=dict)
    sealed: dict[int, wrk.Load] = field(default_factory=dict)

    def limit(self, cards: int) -> float:
        """Return L: what an empty route, the database and the signature, one after the other, allow."""
        return 1 / (1 / self.empty + 1 / self.database[cards] + 1 / self.signatures)


class Bench:
    """Everything that is measured, running: PostgreSQL, the empty route, a service for each number of cards.

    Args:
        folder: Takes all that is made.
        binaries: PostgreSQL's programs.
        plan: What to measure.
        say: Tells the caller what happens.
    """

    def __init__(self, folder: Path, binaries: Path, plan: Plan, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._binaries = binaries
        self._plan = plan
        self._say = say
        self._zone = noon_zone(datetime.now(UTC))
        self._public_key = str(OKPKey.generate_key("X25519").as_dict(private=False)["x"])
        self._activation_cards = _ACTIVATIONS_CEILING * plan.seconds
        # A service for each number of cards, each with its connections, and pgbench beside them.
        self._postgres = EmbeddedPostgres(
            binaries, folder / "cluster", settings=compose_settings() | {"max_connections": "200"}
        )

    @contextmanager
    def running(self, stopping: Stopping) -> Iterator[None]:
        """Set everything up; take it down again, however the block ends."""
        make_secrets(self._folder)
        with ExitStack() as stack:
            stack.callback(self._postgres.stop)
            with stopping.deferred():
                self._postgres.start()
            self._tables = {cards: self._table(f"bound_{cards}", cards) for cards in self._plan.cards}
            spare = self._activation_cards * self._plan.rounds + _ACTIVATIONS_CEILING * _WARM_UP_SECONDS
            self._unused = self._table("unused", spare, is_bound=False)
            self._services = {cards: self._service(stack, table) for cards, table in self._tables.items()}
            self._activating = self._service(stack, self._unused)
            self._empty = self._service(stack, self._unused, "bench.empty:app", "/empty")
            self._claims = self._check()
            self._warm_up()
            yield

    def measure(self) -> Iterator[Round]:
        """Yield what each round measures."""
        for number in range(self._plan.rounds):
            self._say(f"round {number + 1} of {self._plan.rounds} …")
            first = number * self._activation_cards + _ACTIVATIONS_CEILING * _WARM_UP_SECONDS
            measured = Round(
                empty=self._best(f"{self._empty.url}/empty").per_second,
                signatures=self._sign(),
                activations=self._activate(first, self._activation_cards, self._plan.seconds),
            )
            for cards, table in self._tables.items():
                measured.database[cards] = self._pgbench(table)
                measured.clear[cards] = self._verify(cards)
                measured.sealed[cards] = self._verify(cards, self._public_key)
            yield measured

    def memory(self) -> dict[str, process_usage.Memory]:
        """Return what gunicorn (of the most cards) and PostgreSQL (with everybody's connections) hold."""
        most = max(self._services)
        return {
            "gunicorn": process_usage.of_tree(self._services[most].pid),
            "PostgreSQL": process_usage.of_tree(self._postmaster()),
        }

    def _postmaster(self) -> int:
        pid = self._postgres.pid
        if pid is None:
            raise BenchError("PostgreSQL has ended")
        return pid

    def _table(self, name: str, cards: int, *, is_bound: bool = True) -> CardTable:
        self._say(f"making {cards:,} {'bound' if is_bound else 'unused'} cards …")
        self._postgres.create_database(name)
        table = CardTable(self._postgres.url(name), cards, datetime.now(self._zone).date(), is_bound=is_bound)
        table.fill()
        return table

    def _service(
        self, stack: ExitStack, table: CardTable, application: str = "app.wsgi:app", path: str = "/readyz"
    ) -> Gunicorn:
        settings = environ(self._folder, table.url, self._zone.key)
        service = Gunicorn(application, settings, self._folder / "service.log")
        return stack.enter_context(running(service, path))

    def _check(self) -> dict[str, Any]:
        """Make sure that cards are accepted and earn the key; return a verdict's claims, for signing."""
        claims: dict[str, Any] = {}
        for service, public_key in [(s, k) for s in self._services.values() for k in (self._public_key, None)]:
            sealed = {"client_public_key": public_key} if public_key else {}
            token = service.post(
                "/v1/verify", http_requests.question(Computer(FIRST_CARD_ID, f"{HARDWARE}0"), **sealed)
            )["token"]
            claims = jwt.decode(token, options={"verify_signature": False})
            if ("KERNAL_DATA_KEY_SEALED" if public_key else "KERNAL_DATA_KEY") not in claims:
                raise BenchError(f"a bound card is not accepted with its key: {claims['code']}")
        return claims

    def _warm_up(self) -> None:
        self._say("warming up …")
        self._activate(0, _ACTIVATIONS_CEILING * _WARM_UP_SECONDS, _WARM_UP_SECONDS)
        self._best(f"{self._empty.url}/empty")
        for cards, table in self._tables.items():
            self._pgbench(table)
            self._verify(cards)

    def _best(self, url: str, questions: wrk.Questions | None = None) -> wrk.Load:
        """Return the best of some runs, each with new connections: one worker may get them all, and the other idles."""
        runs = [
            wrk.run(url, questions, connections=CONNECTIONS, seconds=self._plan.seconds)
            for _ in range(_NEW_CONNECTIONS)
        ]
        return max(runs, key=lambda load: load.per_second)

    def _pgbench(self, table: CardTable) -> float:
        return pgbench.run(self._binaries, table, connections=CONNECTIONS, seconds=self._plan.seconds)

    def _sign(self) -> float:
        return signing.signatures_a_second(self._folder / "keys", self._claims, seconds=min(self._plan.seconds, 2))

    def _verify(self, cards: int, public_key: str | None = None) -> wrk.Load:
        table = self._tables[cards]
        before = table.accepted()
        questions = wrk.Questions(0, cards, public_key=public_key)
        load = self._best(f"{self._services[cards].url}/v1/verify", questions)
        if table.accepted() - before < load.requests:
            raise BenchError(f"of {load.requests} requests only {table.accepted() - before} were accepted")
        return load

    def _activate(self, first: int, count: int, seconds: int) -> wrk.Load:
        before = self._unused.activated()
        questions = wrk.Questions(first, count, each=True)
        url = f"{self._activating.url}/v1/verify"
        load = wrk.run(url, questions, connections=CONNECTIONS, seconds=seconds)
        activated = self._unused.activated() - before
        if activated < load.requests:
            raise BenchError(
                f"of {load.requests} requests only {activated} activated a card: were the {count} used up?"
            )
        return load
