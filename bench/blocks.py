"""python -m bench.blocks: verifications without a block, and with as long a block list as there can be."""

import contextlib
import sys
import time
from collections.abc import Iterator

import psycopg2

from app.services.blocks import MAX_BLOCKS
from bench import process_usage, report, wrk
from bench.command import Plan, parse_plan, require, run, say
from bench.errors import BenchError
from bench.gunicorn import CONNECTIONS, Gunicorn
from bench.process_usage import OtherPrograms
from bench.report import Figures
from bench.service import Host, host
from trial.stopping import Stopping

_CARDS = 1_000
_IN_FORCE_SECONDS = 3  # twice as long as a process takes to notice, and more
# Machines, and networks of four lengths in both families; none of them is this machine.
_BLOCKS = """
INSERT INTO block (hardware_sha256, network, reason, actor, created_at)
SELECT CASE kind WHEN 0 THEN encode(sha256(convert_to('blocked ' || i, 'UTF8')), 'hex') END,
       CASE kind WHEN 1 THEN format('10.%%s.%%s.0/24', i >> 8, i & 255)
                 WHEN 2 THEN format('11.0.%%s.%%s/32', i >> 8, i & 255)
                 WHEN 3 THEN format('2001:db8:%%s::/48', to_hex(i))
                 WHEN 4 THEN format('2001:db9:0:%%s::/64', to_hex(i)) END,
       'bench', 'bench', now()
FROM (SELECT i, i %% 5 AS kind FROM generate_series(1, %(count)s) AS i) AS each
"""


class Bench:
    """A service whose block list is empty and full in turns."""

    def __init__(self, plan: Plan, here: Host, service: Gunicorn) -> None:
        self._plan = plan
        self._here = here
        self._service = service

    def measure(self) -> Iterator[Figures]:
        """Yield what each round measured."""
        for turn in range(self._plan.rounds):
            say(f"round {turn + 1} of {self._plan.rounds} …")
            yield {f"{count:,} blocks": self._with(count) for count in (0, MAX_BLOCKS)}

    def _with(self, count: int) -> dict[str, float]:
        opened = contextlib.closing(psycopg2.connect(self._here.table.url))
        with opened as connection, connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM block")
            cursor.execute(_BLOCKS, {"count": count})
        time.sleep(_IN_FORCE_SECONDS)
        accepted, before = self._here.table.accepted(), process_usage.cpu_seconds(self._service.pid)
        url, questions = f"{self._service.url}/v1/verify", wrk.Questions(0, _CARDS)
        load = wrk.run(url, questions, connections=CONNECTIONS, seconds=self._plan.seconds)
        after = process_usage.cpu_seconds(self._service.pid)
        if self._here.table.accepted() - accepted < load.requests:
            raise BenchError("not all requests were accepted")
        return {
            "V  verifications/s": load.per_second,
            "   99% answered within, ms": load.p99,
            "   processor time, µs: gunicorn": (after - before) / load.requests * 1e6,
        }


def main() -> int:
    """Run the measurements; return the exit status."""
    plan = parse_plan(
        "--blocks", "Measures verifications without and with a long block list, in turns.", quick_rounds=3
    )
    return run(lambda stopping: _measure(plan, stopping))


def _measure(plan: Plan, stopping: Stopping) -> list[str]:
    require("wrk")
    with host(stopping, cards=_CARDS, is_bound=True) as here, here.service() as service:
        print(report.machine(here.binaries), flush=True)
        bench = Bench(plan, here, service)
        say("warming up …")
        wrk.run(f"{service.url}/v1/verify", wrk.Questions(0, _CARDS), connections=CONNECTIONS, seconds=1)
        others = OtherPrograms()
        rounds = list(bench.measure())
        return [others.line(), "", plan.heading(), *report.figures(rounds)]


if __name__ == "__main__":
    sys.exit(main())
