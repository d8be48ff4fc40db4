"""One checkout's service under measurement, and the rounds in which one or two of them are measured in turns."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import jwt
from joserfc.jwk import OKPKey

from tests.bench import BenchError, fixed_rate, load, process_usage
from tests.bench.cards import FIRST_CARD_ID, CardTable
from tests.bench.report import Figures, say
from tests.bench.service import CONNECTIONS, Code, Gunicorn, Host

NEW_CONNECTIONS = 3
"""One worker may get all connections of a run, and the other idles: so many runs, of which the best counts."""
COMPUTERS = 1_000
ACTIVATIONS_CEILING = 6_000
"""More than this many activations a second are not expected: so many unused cards are made."""
_MORE_CONNECTIONS = (64, 256, 1_000)
_ACTIVATING_CONNECTIONS = (CONNECTIONS, 64)
_WARM_UP_SECONDS = 2
_EMPTY = ("-m", "gunicorn", "--config", "python:app.gunicorn_conf", "empty:app")


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
        self._tables = {cards: self._table(f"bound_{cards}", cards) for cards in self._plan.cards}
        self._unused = self._table("unused", self._plan.activations, is_bound=False)
        self._services = {cards: self._service(stack, table) for cards, table in self._tables.items()}
        self._activating = self._service(stack, self._unused)
        settings = self._host.environ(self._unused)
        empty = Gunicorn(settings, self._host.folder / f"service-{self._number}.log", _EMPTY, self.code)
        self._empty = stack.enter_context(empty.running("/empty"))
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
        computers = self._tables[cards].computers(COMPUTERS)
        half = fixed_rate.p99(self._services[cards].port, computers, rate=v / 2, seconds=seconds)
        yield f"{cards:,} bound cards, at half of V", {"99% answered within, ms": half}
        for connections in _MORE_CONNECTIONS:
            more = self._counted(cards, load.Questions(0, cards), connections).load
            figures = {"V  verifications/s": more.per_second, f"   to V at {CONNECTIONS}": more.per_second / v}
            figures["   99% answered within, ms"] = more.p99
            yield f"{cards:,} bound cards, {connections:,} connections", figures
        service = self._services[max(self._plan.cards)]
        yield "memory", {"gunicorn, MiB (PSS)": process_usage.pss_mib(service.pid)}

    def _table(self, name: str, cards: int, *, is_bound: bool = True) -> CardTable:
        return self._host.table(f"{name}_{self._number}", cards, is_bound=is_bound, code=self.code)

    def _service(self, stack: ExitStack, table: CardTable) -> Gunicorn:
        log = self._host.folder / f"service-{self._number}.log"
        return stack.enter_context(Gunicorn(self._host.environ(table), log, code=self.code).running())

    def _check(self) -> None:
        """Make sure that cards are accepted and earn the key."""
        computer = load.Computer(FIRST_CARD_ID, f"{load.HARDWARE}0")
        for service in self._services.values():
            for claim, more in (("", {}), ("_SEALED", {"client_public_key": self._public_key})):
                _status, answer = load.exchange(service.port, "/v1/verify", load.question(computer, **more))
                claims = jwt.decode(answer.get("token", ""), options={"verify_signature": False})
                if f"KERNAL_DATA_KEY{claim}" not in claims:
                    raise BenchError(f"a bound card is not accepted with its key: {claims['code']}")

    def _verify(self, cards: int, public_key: str | None = None) -> Run:
        questions = load.Questions(0, cards, public_key=public_key)
        runs = [self._counted(cards, questions, CONNECTIONS) for _ in range(NEW_CONNECTIONS)]
        return max(runs, key=lambda run: run.load.per_second)

    def _counted(self, cards: int, questions: load.Questions, connections: int) -> Run:
        table, service = self._tables[cards], self._services[cards]
        pids = (service.pid, self._host.postmaster)
        accepted = table.accepted()
        before = [process_usage.cpu_seconds(pid) for pid in pids]
        done = load.wrk(f"{service.url}/v1/verify", questions, connections=connections, seconds=self._plan.seconds)
        after = [process_usage.cpu_seconds(pid) for pid in pids]
        accepted = table.accepted() - accepted
        if accepted < done.requests:
            raise BenchError(f"of {done.requests} requests only {accepted} were accepted")
        return Run(done, *((b - a) / done.requests * 1e6 for a, b in zip(before, after, strict=True)))

    def _activate(self, connections: int, seconds: int) -> float:
        first, count = self._used, ACTIVATIONS_CEILING * seconds
        self._used += count
        before = self._unused.activated()
        questions = load.Questions(first, count, each=True)
        done = load.wrk(f"{self._activating.url}/v1/verify", questions, connections=connections, seconds=seconds)
        activated = self._unused.activated() - before
        if activated < done.requests:
            raise BenchError(
                f"of {done.requests} requests only {activated} activated a card: were the {count} used up?"
            )
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
