"""python -m bench.functions: what core functions that hang cost those who verify, and what a call costs."""

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from bench import report, wrk
from bench.command import number, run, say
from bench.errors import BenchError
from bench.function_calls import FunctionCallers
from bench.gunicorn import CONNECTIONS, Gunicorn
from bench.process_usage import OtherPrograms
from bench.service import Host, host, running
from trial.stopping import Stopping

_CARDS = 1_000
_PLACES = 4  # the functions service's default
_FUNCTION_SECONDS = 3
_HANGING = ("spin", "sleep") * 4
_FILL_SECONDS = 2
_NEW_CONNECTIONS = 3
_MODULE = """
import time

from app.functions import core_function


@core_function("spin")
def spin(arguments, caller):
    while True:
        pass


@core_function("sleep")
def sleep(arguments, caller):
    time.sleep(3600)


@core_function("trivial")
def trivial(arguments, caller):
    return {"result": 7.12}
"""


class Plan(NamedTuple):
    """What the caller wants: seconds a measurement, and rounds."""

    seconds: int
    rounds: int


@dataclass(frozen=True)
class Round:
    """What one round measured: verifications, places taken by hanging calls meanwhile, calls of a trivial function."""

    idle: wrk.Load
    busy: wrk.Load
    taken: float
    refused: float
    alone_ms: float
    calls: float


class Bench:
    """A service, and beside it one with functions that hang."""

    def __init__(self, plan: Plan, here: Host, service: Gunicorn) -> None:
        self._plan = plan
        self._here = here
        self._service = service
        self._computers = here.table.computers()

    def warm_up(self) -> None:
        """Ask once for all that is asked for later."""
        say("warming up …")
        self._verify()
        self._trivial(_PLACES)

    def measure(self) -> Iterator[Round]:
        """Yield what each round measures."""
        for turn in range(self._plan.rounds):
            say(f"round {turn + 1} of {self._plan.rounds} …")
            idle = self._verify()
            busy, taken, refused = self._verify_beside_hanging()
            alone, _a_second = self._trivial(1)
            _median, calls = self._trivial(_PLACES)
            yield Round(idle, busy, taken, refused, alone, calls)

    def _verify(self) -> wrk.Load:
        """Return the best of some runs, as bench.rounds does and for its reason."""
        before = self._here.table.accepted()
        runs = [
            wrk.run(
                f"{self._service.url}/v1/verify",
                wrk.Questions(0, _CARDS),
                connections=CONNECTIONS,
                seconds=self._plan.seconds,
            )
            for _ in range(_NEW_CONNECTIONS)
        ]
        if self._here.table.accepted() - before < sum(load.requests for load in runs):
            raise BenchError("not all requests were accepted")
        return max(runs, key=lambda load: load.per_second)

    def _verify_beside_hanging(self) -> tuple[wrk.Load, float, float]:
        """Return the verifications; how many calls hung meanwhile, on the average; how many a second were refused."""
        callers = self._callers(_HANGING, HTTPStatus.GATEWAY_TIMEOUT)
        with callers:
            time.sleep(_FILL_SECONDS)
            begun = time.perf_counter()
            load = self._verify()
            ended = time.perf_counter()
        hung = [max(0.0, min(call.ended, ended) - max(call.begun, begun)) for call in callers.calls()]
        return load, sum(hung) / (ended - begun), callers.refused() / (ended - begun + _FILL_SECONDS)

    def _trivial(self, clients: int) -> tuple[float, float]:
        """Return a trivial call's median, in milliseconds, and how many a second so many customers make."""
        callers = self._callers(("trivial",) * clients, HTTPStatus.OK)
        with callers:
            time.sleep(self._plan.seconds)
        calls = callers.calls()
        if not calls:
            raise BenchError("no call took place")
        median = statistics.median(call.ended - call.begun for call in calls) * 1000
        return median, len(calls) / self._plan.seconds

    def _callers(self, functions: Sequence[str], expected: HTTPStatus) -> FunctionCallers:
        computers = self._computers[: len(functions)]
        return FunctionCallers(self._service.connect, computers, functions, expected=expected)


def main() -> int:
    """Run the measurements; return the exit status."""
    plan = _plan()
    return run(lambda stopping: _measure(plan, stopping))


def _plan() -> Plan:
    parser = argparse.ArgumentParser(prog="scripts/bench.sh --functions", description="Measures core functions here.")
    parser.add_argument("--seconds", type=number(1, 600), metavar="N", help="for each run of a measurement (5)")
    parser.add_argument("--rounds", type=number(1, 99), metavar="N", help="of all measurements (5)")
    parser.add_argument("--quick", action="store_true", help="2 s, 2 rounds")
    given = parser.parse_args()
    seconds, rounds = (2, 2) if given.quick else (5, 5)
    return Plan(given.seconds or seconds, given.rounds or rounds)


def _measure(plan: Plan, stopping: Stopping) -> list[str]:
    if shutil.which("wrk") is None:
        raise BenchError("wrk is missing: install it first (apt-get install wrk)")
    with host(stopping, cards=_CARDS, is_bound=True) as here:
        print(report.machine(here.binaries), flush=True)
        with (
            running(_functions(here), "/healthz"),
            here.service(KADUN_FUNCTION_SECONDS=str(_FUNCTION_SECONDS)) as service,
        ):
            bench = Bench(plan, here, service)
            bench.warm_up()
            others = OtherPrograms()
            rounds = list(bench.measure())
            return [others.line(), "", *_figures(plan, rounds)]


def _functions(here: Host) -> Gunicorn:
    folder = here.folder / "functions"
    folder.mkdir()
    (folder / "bench_functions.py").write_text(_MODULE)
    socket = here.folder / "functions.sock"
    environ = {
        "KADUN_FUNCTIONS_DIR": str(folder),
        "KADUN_FUNCTIONS_SOCKET": str(socket),
        "KADUN_FUNCTION_SECONDS": str(_FUNCTION_SECONDS),
        "KADUN_FUNCTION_CONCURRENCY": str(_PLACES),
    }
    log = here.folder / "functions.log"
    return Gunicorn("app.functions.wsgi:app", environ, log, socket=socket, config="app.functions.gunicorn_conf")


def _figures(plan: Plan, rounds: Sequence[Round]) -> list[str]:
    return [
        f"medians of {len(rounds)} rounds of {plan.seconds} s a measurement (lowest to highest)",
        "",
        f"{len(_HANGING)} customers call functions that hang, half are busy loops; ended after {_FUNCTION_SECONDS} s",
        report.row(f"of {_PLACES} places taken, on the average", [r.taken for r in rounds], 1),
        report.row("refused meanwhile, a second", [r.refused for r in rounds]),
        report.row("V idle, verifications/s", [r.idle.per_second for r in rounds]),
        report.row("V meanwhile", [r.busy.per_second for r in rounds]),
        report.row("ratio (aim > 0.70)", [r.busy.per_second / r.idle.per_second for r in rounds], 2),
        report.row("99% answered within, ms: idle", [r.idle.p99 / 1000 for r in rounds], 1),
        report.row("99% answered within, ms: meanwhile", [r.busy.p99 / 1000 for r in rounds], 1),
        "",
        "a trivial function, called through the gate",
        report.row("one customer: median, ms", [r.alone_ms for r in rounds], 1),
        report.row(f"{_PLACES} customers: calls/s", [r.calls for r in rounds]),
    ]


if __name__ == "__main__":
    sys.exit(main())
