"""python -m bench.beside: what those who verify notice of others.

Core functions that hang, slow downloads from the app itself, an export of all cards, people who log in.
"""

import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from bench import fixed_rate, report, wrk
from bench.cards import disk_bytes
from bench.command import options, require, run, say
from bench.downloads import Downloads
from bench.errors import BenchError
from bench.exports import Exports
from bench.function_calls import FunctionCallers
from bench.functions import FUNCTION_SECONDS, HANGING, PLACES, TRIVIAL, functions_service
from bench.gunicorn import CONNECTIONS, Gunicorn
from bench.log_ins import LogIns
from bench.process_usage import OtherPrograms
from bench.report import Figures
from bench.service import FOLDER, Host, host, running
from bench.visitor import Visitor
from trial.stopping import Stopping

_NEW_CONNECTIONS = 3
_COMPUTERS = 1_000
_DOWNLOADS, _DOWNLOAD_MBIT, _FILE_MIB = 200, 1, 64
_LOG_INS_A_SECOND = 20
_OPERATORS = [f"operator{number}" for number in range(10)]
_EXPORTER = "exporter"
"""The others log in so often that their earlier sessions end."""
_PASSWORD = "a password for a minute"  # noqa: S105  # of a database that is gone in a minute
_UNDER_WAY_SECONDS = 3
_TRIVIAL_CUSTOMERS = 4
_SPARE_BYTES = 2**32


class Others(Protocol):
    """Who keeps the service busy while a block lasts."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def figures(self) -> dict[str, float]:
        """Return what they did, by name, after the block."""


class Plan(NamedTuple):
    """What the caller wants: seconds a measurement, rounds, and the number of bound cards."""

    seconds: int
    rounds: int
    cards: int


class Bench:
    """A service with cards, a file and operators, and those who keep it busy."""

    def __init__(self, plan: Plan, here: Host, service: Gunicorn) -> None:
        self._plan = plan
        self._table = here.table
        self._service = service
        self._computers = here.table.computers(_COMPUTERS)
        here.add_file(_FILE_MIB)
        for name in (*_OPERATORS, _EXPORTER):
            here.add_operator(name, _PASSWORD)
        self._log_ins = LogIns(service, _OPERATORS, _PASSWORD, _LOG_INS_A_SECOND)
        self._visitor = Visitor(service)
        self._visitor.log_in(_EXPORTER, _PASSWORD)

    def warm_up(self) -> None:
        """Ask for everything once."""
        say("warming up …")
        self._verify()
        self._trivial(1)

    def measure(self) -> Iterator[Figures]:
        """Yield what each round measured."""
        for turn in range(self._plan.rounds):
            figures = {}
            for name, others in self._others().items():
                say(f"round {turn + 1} of {self._plan.rounds}: {name} …")
                figures[name] = self._beside(others())
            figures["a trivial core function, with nothing else"] = {
                "one customer: median, ms": statistics.median(self._trivial(1)) * 1000,
                f"{_TRIVIAL_CUSTOMERS} customers: calls/s": len(self._trivial(_TRIVIAL_CUSTOMERS)) / self._plan.seconds,
            }
            yield figures

    def _others(self) -> dict[str, Callable[[], Others]]:
        longest = 8 * self._plan.seconds + 2 * _UNDER_WAY_SECONDS
        return {
            f"{len(HANGING)} customers call core functions that hang": lambda: self._callers(
                HANGING, HTTPStatus.GATEWAY_TIMEOUT
            ),
            f"{_DOWNLOADS} downloads from the app itself, each read at {_DOWNLOAD_MBIT} Mbit/s": lambda: Downloads(
                self._service, self._computers[:_DOWNLOADS], seconds=longest, mbit=_DOWNLOAD_MBIT
            ),
            f"an operator exports all {self._plan.cards:,} cards": lambda: Exports(self._visitor),
            f"{_LOG_INS_A_SECOND} log-ins a second, half of them with a wrong password": lambda: self._log_ins,
        }

    def _beside(self, others: Others) -> dict[str, float]:
        """Measure without and with the others."""
        idle = self._verify()
        idle_p99 = self._p99(idle / 2)
        with others:
            time.sleep(_UNDER_WAY_SECONDS)
            busy, busy_p99 = self._verify(), self._p99(idle / 2)
        return {
            "V idle, verifications/s": idle,
            "V meanwhile": busy,
            "   to V idle (aim >= 0.8)": busy / idle,
            "at half of V idle, 99% within, ms: idle": idle_p99,
            "   meanwhile (aim <= 50)": busy_p99,
        } | others.figures()

    def _verify(self) -> float:
        """Return the best of some runs, as bench.subject does and for its reason."""
        before = self._table.accepted()
        url, questions = f"{self._service.url}/v1/verify", wrk.Questions(0, self._plan.cards)
        seconds = self._plan.seconds
        runs = [wrk.run(url, questions, connections=CONNECTIONS, seconds=seconds) for _ in range(_NEW_CONNECTIONS)]
        if self._table.accepted() - before < sum(load.requests for load in runs):
            raise BenchError("not all requests were accepted")
        return max(load.per_second for load in runs)

    def _p99(self, rate: float) -> float:
        return fixed_rate.p99(self._service.target, self._computers, rate=rate, seconds=self._plan.seconds)

    def _trivial(self, customers: int) -> list[float]:
        """Return the seconds that each trivial call of so many customers took."""
        with self._callers([TRIVIAL] * customers, HTTPStatus.OK) as callers:
            time.sleep(self._plan.seconds)
        calls = [call.ended - call.begun for call in callers.calls()]
        if not calls:
            raise BenchError("no call took place")
        return calls

    def _callers(self, functions: Sequence[str], expected: HTTPStatus) -> FunctionCallers:
        computers = self._computers[: len(functions)]
        return FunctionCallers(self._service.connect, computers, functions, expected=expected)


def main() -> int:
    """Run the measurements; return the exit status."""
    plan = _plan()
    return run(lambda stopping: _measure(plan, stopping))


def _plan() -> Plan:
    parser = options(
        "--beside",
        "Measures verifications while others keep the service busy.",
        seconds="for each run of a measurement (5)",
        rounds="of all measurements (3)",
        quick="1 s, 1 round, 20,000 cards",
    )
    given = parser.parse_args()
    seconds, rounds, cards = (1, 1, 20_000) if given.quick else (5, 3, 1_000_000)
    return Plan(given.seconds or seconds, given.rounds or rounds, cards)


def _measure(plan: Plan, stopping: Stopping) -> list[str]:
    require("wrk", "curl")
    if shutil.disk_usage(FOLDER).free < disk_bytes(plan.cards) + _SPARE_BYTES:
        raise BenchError(f"{FOLDER} has not enough room")
    say(f"making {plan.cards:,} cards …")
    with host(stopping, cards=plan.cards, is_bound=True) as here:
        print(report.machine(here.binaries), flush=True)
        with (
            running(functions_service(here), "/healthz"),
            here.service(KADUN_FUNCTION_SECONDS=str(FUNCTION_SECONDS)) as service,
        ):
            bench = Bench(plan, here, service)
            bench.warm_up()
            others = OtherPrograms()
            rounds = list(bench.measure())
            heading = f"medians of {plan.rounds} rounds of {plan.seconds} s a measurement (lowest to highest)"
            places = f"core functions: {PLACES} places; a call ends after {FUNCTION_SECONDS} s"
            return [others.line(), "", heading, places, *report.figures(rounds)]


if __name__ == "__main__":
    sys.exit(main())
