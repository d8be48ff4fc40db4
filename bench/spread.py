"""python -m bench.spread: verifications by one, two and three services on one database, and how they would spread."""

import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from bench import process_usage, report, wrk
from bench.command import Plan, parse_plan, require, run, say
from bench.errors import BenchError
from bench.gunicorn import CONNECTIONS, Gunicorn
from bench.process_usage import OtherPrograms
from bench.report import Figures
from bench.service import Host, host
from trial.stopping import Stopping

_CARDS = 1_000
_GROUPS = (1, 2, 3)
_CORES = 2
_WARM_UP_SECONDS = 1


class Bench:
    """Several services on one database.

    Args:
        plan: What to measure.
        here: The machine's.
        services: All of them; a measurement asks some.
    """

    def __init__(self, plan: Plan, here: Host, services: list[Gunicorn]) -> None:
        self._plan = plan
        self._here = here
        self._services = services

    def warm_up(self) -> None:
        """Ask every service."""
        say("warming up …")
        self._load(self._services, _WARM_UP_SECONDS)

    def measure(self) -> Iterator[Figures]:
        """Yield what each round measured."""
        for turn in range(self._plan.rounds):
            say(f"round {turn + 1} of {self._plan.rounds} …")
            yield {f"{groups} process groups": self._of(self._services[:groups]) for groups in _GROUPS}

    def _of(self, services: list[Gunicorn]) -> dict[str, float]:
        postmaster = self._here.postgres.pid
        if postmaster is None:
            raise BenchError("PostgreSQL has ended")
        accepted = self._here.table.accepted()
        before = self._seconds(services, postmaster)
        loads = self._load(services, self._plan.seconds)
        after = self._seconds(services, postmaster)
        requests = sum(load.requests for load in loads)
        if self._here.table.accepted() - accepted < requests:
            raise BenchError("not all requests were accepted")
        gunicorn, postgresql = ((b - a) / requests * 1e6 for a, b in zip(before, after, strict=True))
        return {
            "V  verifications/s, all groups together": sum(load.per_second for load in loads),
            "   99% answered within, ms": max(load.p99 for load in loads),
            "   processor time, µs: gunicorn": gunicorn,
            "   processor time, µs: PostgreSQL": postgresql,
            f"   so an app machine of {_CORES} cores, at most/s": _CORES * 1e6 / gunicorn,
            f"   so a database of {_CORES} cores, at most/s": _CORES * 1e6 / postgresql,
        }

    def _seconds(self, services: list[Gunicorn], postmaster: int) -> tuple[float, float]:
        return sum(process_usage.cpu_seconds(s.pid) for s in services), process_usage.cpu_seconds(postmaster)

    def _load(self, services: list[Gunicorn], seconds: int) -> list[wrk.Load]:
        connections = CONNECTIONS // len(services)  # so many requests are under way at once, however they are spread

        def ask(service: Gunicorn) -> wrk.Load:
            url = f"{service.url}/v1/verify"
            return wrk.run(url, wrk.Questions(0, _CARDS), connections=connections, seconds=seconds)

        with ThreadPoolExecutor(len(services)) as pool:
            return list(pool.map(ask, services))


def main() -> int:
    """Run the measurements; return the exit status."""
    plan = parse_plan("--spread", "Measures one, two and three services on one database.", quick_rounds=1)
    return run(lambda stopping: _measure(plan, stopping))


def _measure(plan: Plan, stopping: Stopping) -> list[str]:
    require("wrk")
    with host(stopping, cards=_CARDS, is_bound=True) as here, ExitStack() as stack:
        print(report.machine(here.binaries), flush=True)
        services = []
        for _ in _GROUPS:
            metrics = tempfile.mkdtemp(prefix="metrics-", dir=here.folder)
            services.append(stack.enter_context(here.service(PROMETHEUS_MULTIPROC_DIR=metrics)))
        bench = Bench(plan, here, services)
        bench.warm_up()
        others = OtherPrograms()
        rounds = list(bench.measure())
        return [others.line(), "", plan.heading(), *report.figures(rounds)]


if __name__ == "__main__":
    sys.exit(main())
