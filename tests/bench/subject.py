"""One checkout's service under measurement, and the rounds in which one or two of them are measured in turns."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import jwt
from joserfc.jwk import OKPKey

from tests.bench import BenchError, fixed_rate, load
from tests.bench.cards import accepted, activated
from tests.bench.process_usage import cpu_seconds, pss_mib
from tests.bench.report import Figures, say
from tests.bench.service import CONNECTIONS, Code, Gunicorn, Host

NEW_CONNECTIONS = 3
"""One worker may get all connections of a run, and the other idles: so many runs, of which the best counts."""
ACTIVATIONS_CEILING = 6_000
"""More than this many activations a second are not expected: so many unused cards are made."""
_MORE_CONNECTIONS = (64, 256, 1_000)
_ACTIVATING_CONNECTIONS = (CONNECTIONS, 64)
_WARM_UP_SECONDS = 2


class Plan(NamedTuple):
    """What the caller wants: seconds a measurement, rounds, and numbers of bound cards in ascending order."""

    seconds: int
    rounds: int
    cards: tuple[int, ...]

    @property
    def activations(self) -> int:
        """How many unused cards a subject needs."""
        runs = len(_ACTIVATING_CONNECTIONS) * self.rounds * self.seconds + _WARM_UP_SECONDS
        return runs * ACTIVATIONS_CEILING


class Run(NamedTuple):
    """A run of wrk, and the processor time that a request took meanwhile, in microseconds."""

    load: load.Load
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
        say(f"making cards for {self.code.name} …")
        self._databases = {cards: self._database(f"bound_{cards}", cards) for cards in self._plan.cards}
        self._unused = self._database("unused", self._plan.activations, is_bound=False)
        self._services = {cards: self._service(stack, database) for cards, database in self._databases.items()}
        self._activating = self._service(stack, self._unused)
        self._empty = self._service(stack, self._unused, "empty:app", "/empty")
        self._check()
        say(f"warming up {self.code.name} …")
        self._activate(CONNECTIONS, _WARM_UP_SECONDS)
        for cards in self._plan.cards:
            self._verify(cards)

    def measure(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield all figures of a round, one measurement after the other: a section of the report, and its figures."""
        seconds = self._plan.seconds
        urls = [f"{self._empty.url}/empty"] * NEW_CONNECTIONS
        empty = max(load.wrk(url, None, connections=CONNECTIONS, seconds=seconds).per_second for url in urls)
        yield "", {"H  empty route, requests/s": empty}
        for connections in _ACTIVATING_CONNECTIONS:
            yield "", {f"A  first activations/s, {connections} connections": self._activate(connections, seconds)}
        clear = {}
        for cards in self._plan.cards:
            section = f"{cards:,} bound cards"
            clear[cards] = self._verify(cards)
            yield section, _of(clear[cards], empty)
            sealed = self._verify(cards, self._public_key).load.per_second
            yield section, {"V  verifications/s, key sealed": sealed, "   to H, sealed": sealed / empty}
        cards, v = min(self._plan.cards), clear[min(self._plan.cards)].load.per_second
        half = fixed_rate.p99(self._services[cards].port, cards=cards, rate=v / 2, seconds=seconds)
        yield f"{cards:,} bound cards, at half of V", {"99% answered within, ms": half}
        for connections in _MORE_CONNECTIONS:
            more = self._counted(cards, load.Questions(0, cards), connections).load
            figures = {"V  verifications/s": more.per_second, f"   to V at {CONNECTIONS}": more.per_second / v}
            figures["   99% answered within, ms"] = more.p99
            yield f"{cards:,} bound cards, {connections:,} connections", figures
        yield "memory", {"gunicorn, MiB (PSS)": pss_mib(self._services[max(self._plan.cards)])}

    def _database(self, name: str, cards: int, *, is_bound: bool = True) -> str:
        return self._host.database(f"{name}_{self._number}", cards, is_bound=is_bound, code=self.code)

    def _service(self, stack: ExitStack, database: str, app: str = "app.wsgi:app", ready: str = "/readyz") -> Gunicorn:
        log = self._host.folder / f"service-{self._number}.log"
        service = Gunicorn(self._host.environ(database), log, app, self.code)
        return stack.enter_context(service.running(ready))

    def _check(self) -> None:
        """Make sure that cards are accepted and earn the key."""
        for service in self._services.values():
            for claim, more in (("", {}), ("_SEALED", {"client_public_key": self._public_key})):
                _status, answer = load.exchange(service.port, "POST", "/v1/verify", load.question(0, **more))
                claims = jwt.decode(json.loads(answer)["token"], options={"verify_signature": False})
                if f"KERNAL_DATA_KEY{claim}" not in claims:
                    raise BenchError(f"a bound card is not accepted with its key: {claims['code']}")

    def _verify(self, cards: int, public_key: str | None = None) -> Run:
        questions = load.Questions(0, cards, public_key=public_key)
        runs = [self._counted(cards, questions, CONNECTIONS) for _ in range(NEW_CONNECTIONS)]
        return max(runs, key=lambda run: run.load.per_second)

    def _counted(self, cards: int, questions: load.Questions, connections: int) -> Run:
        database, service = self._databases[cards], self._services[cards]
        programs = (service, self._host.postgres)
        earlier = accepted(database)
        before = [cpu_seconds(program) for program in programs]
        done = load.wrk(f"{service.url}/v1/verify", questions, connections=connections, seconds=self._plan.seconds)
        after = [cpu_seconds(program) for program in programs]
        if (counted := accepted(database) - earlier) < done.requests:
            raise BenchError(f"of {done.requests} requests only {counted} were accepted")
        return Run(done, *((b - a) / done.requests * 1e6 for a, b in zip(before, after, strict=True)))

    def _activate(self, connections: int, seconds: int) -> float:
        first, count = self._used, ACTIVATIONS_CEILING * seconds
        self._used += count
        before = activated(self._unused)
        questions = load.Questions(first, count, each=True)
        done = load.wrk(f"{self._activating.url}/v1/verify", questions, connections=connections, seconds=seconds)
        if (counted := activated(self._unused) - before) < done.requests:
            raise BenchError(f"of {done.requests} requests only {counted} activated a card: were the {count} used up?")
        return done.per_second


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


def rounds(subjects: Sequence[Subject], count: int) -> Iterator[list[Figures]]:
    """Yield what each round measured of each subject: each figure of one right after the other's."""
    for number in range(count):
        say(f"round {number + 1} of {count} …")
        order = subjects if number % 2 == 0 else subjects[::-1]
        measured: dict[Subject, dict[str, dict[str, float]]] = {subject: {} for subject in subjects}
        for pieces in zip(*(subject.measure() for subject in order), strict=True):
            for subject, (section, figures) in zip(order, pieces, strict=True):
                measured[subject].setdefault(section, {}).update(figures)
        yield [measured[subject] for subject in subjects]
