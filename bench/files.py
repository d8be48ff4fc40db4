"""python -m bench.files: what a signed link costs, and what downloads cost those who verify meanwhile."""

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from bench import fixed_rate, http_requests, process_usage, report
from bench.cards import Computer
from bench.command import options, run, say
from bench.curl import Crowd, mib_per_second
from bench.errors import BenchError
from bench.gunicorn import Gunicorn
from bench.nginx import Nginx
from bench.process_usage import OtherPrograms
from bench.service import FOLDER, Host, host
from tests.support import nginx_conf
from trial.stopping import Stopping

_CARDS = 1_000
_DOWNLOADS = 200
_LINE_MBIT = 5
_RATE = 100
_TURNS = 3
_ADDRESS = "127.0.2.1"  # of those who verify; the downloads come from others
_UNDER_WAY_SECONDS = 3
_WHOLE_SECONDS = 600
_SPARE_BYTES = 2**31


class Plan(NamedTuple):
    """What the caller wants: rounds, the file's MiB, seconds of verifying in each state."""

    rounds: int
    mib: int
    seconds: int


@dataclass(frozen=True)
class Together:
    """Downloads at once: what came to all of them, Mbit/s, and 99% of the verifications meanwhile, ms."""

    mbit: float
    p99: float
    memory: int


@dataclass(frozen=True)
class Round:
    """What one round measured: MiB/s by a signed link and statically, ms when nothing else goes on, the crowds."""

    linked: float
    static: float
    memory: int
    idle: float
    lines: Together
    unbounded: Together


class Bench:
    """A service behind nginx with one large file, and those who want it."""

    def __init__(self, plan: Plan, here: Host, service: Gunicorn, gateway: Nginx) -> None:
        self._plan = plan
        self._service = service
        self._gateway = gateway
        self._computers = here.table.computers(_CARDS)
        self._digest = here.add_file(plan.mib)

    def warm_up(self) -> int:
        """Bring all that is asked for into memory; return what gunicorn holds then, in MiB."""
        say("warming up …")
        self._download()
        self._p99()
        self._together(None)
        return self._memory()

    def measure(self) -> Iterator[Round]:
        """Yield what each round measures."""
        for turn in range(self._plan.rounds):
            say(f"round {turn + 1} of {self._plan.rounds} …")
            linked, static = self._download()
            yield Round(linked, static, self._memory(), self._p99(), self._together(_LINE_MBIT), self._together(None))

    def _download(self) -> tuple[float, float]:
        """Return the best of some downloads by a signed link, and of as many static ones, in turns."""
        turns = []
        for _ in range(_TURNS):
            (link,) = self._links(self._computers[:1])
            static = f"{self._gateway.static_url}/{self._digest}"
            turns.append((self._mib_per_second(link), self._mib_per_second(static)))
        return max(linked for linked, _static in turns), max(static for _linked, static in turns)

    def _mib_per_second(self, url: str) -> float:
        return mib_per_second(url, self._gateway.certificate, self._plan.mib * 2**20, seconds=_WHOLE_SECONDS)

    def _together(self, mbit: int | None) -> Together:
        links = self._links(self._computers[:_DOWNLOADS])
        with Crowd(
            links,
            self._gateway.certificate,
            seconds=self._plan.seconds + 2 * _UNDER_WAY_SECONDS,
            bytes_a_second=mbit and mbit * 1_000_000 // 8,
        ) as crowd:
            time.sleep(_UNDER_WAY_SECONDS)
            p99, held = self._p99(), self._memory()
            rates = crowd.finish()
        if len(rates) < len(links):
            raise BenchError(f"of {len(links)} downloads only {len(rates)} went on as they should")
        return Together(sum(rates), p99, held)

    def _links(self, computers: Sequence[Computer]) -> list[str]:
        with closing(self._gateway.connect(_ADDRESS)) as connection:
            return http_requests.links(connection, self._gateway.url, computers)

    def _p99(self) -> float:
        return fixed_rate.p99(self._gateway.target(_ADDRESS), self._computers, rate=_RATE, seconds=self._plan.seconds)

    def _memory(self) -> int:
        return process_usage.pss_mib(self._service.pid)


def main() -> int:
    """Run the measurements; return the exit status."""
    plan = _plan()
    return run(lambda stopping: _measure(plan, stopping))


def _plan() -> Plan:
    parser = options(
        "--files",
        "Measures downloads here.",
        seconds="of verifying in each state (10)",
        rounds="of all measurements (5)",
        quick="3 s, 2 rounds, a file of 128 MiB",
    )
    given = parser.parse_args()
    rounds, mib, seconds = (2, 128, 3) if given.quick else (5, 1024, 10)
    return Plan(given.rounds or rounds, mib, given.seconds or seconds)


def _measure(plan: Plan, stopping: Stopping) -> list[str]:
    if shutil.disk_usage(FOLDER).free < 2 * plan.mib * 2**20 + _SPARE_BYTES:
        raise BenchError(f"{FOLDER} has not enough room")
    with host(stopping, cards=_CARDS, is_bound=True) as here:
        print(f"{report.machine(here.binaries)}\nnginx {nginx_conf.version()}", flush=True)
        socket = here.folder / "app.sock"
        with (
            here.service(socket, KADUN_BEHIND_PROXY="true") as service,
            Nginx(here.folder / "nginx", socket, here.folder / "files") as gateway,
        ):
            bench = Bench(plan, here, service, gateway)
            before = bench.warm_up()
            others = OtherPrograms()
            rounds = list(bench.measure())
            return [others.line(), "", *_figures(plan, rounds, before)]


def _figures(plan: Plan, rounds: Sequence[Round], before: int) -> list[str]:
    size = f"{plan.mib // 1024} GiB" if plan.mib >= 1024 else f"{plan.mib} MiB"
    return [
        f"medians of {len(rounds)} rounds (lowest to highest)",
        "",
        f"one download of {size} through nginx over TLS",
        report.row("by a signed link, MiB/s", [r.linked for r in rounds]),
        report.row("served statically, MiB/s", [r.static for r in rounds]),
        report.row("ratio (aim >= 0.80)", [r.linked / r.static for r in rounds]),
        "",
        f"verifications through nginx over TLS, {_RATE} a second for {plan.seconds} s",
        report.row("99% answered within, ms: idle", [r.idle for r in rounds]),
        *_together(
            f"{_DOWNLOADS} downloads of {_LINE_MBIT} Mbit/s each", [(r.idle, r.lines) for r in rounds], " (aim <= 2)"
        ),
        *_together(f"{_DOWNLOADS} downloads, each as fast as it goes", [(r.idle, r.unbounded) for r in rounds], ""),
        "",
        "memory of gunicorn, MiB (PSS)",
        report.row("before the rounds", [before]),
        report.row("after a large download", [r.memory for r in rounds]),
        report.row("during the downloads at once", [max(r.lines.memory, r.unbounded.memory) for r in rounds]),
    ]


def _together(name: str, rounds: Sequence[tuple[float, Together]], aim: str) -> list[str]:
    return [
        f"  meanwhile {name}",
        report.row("  all of them, Mbit/s", [together.mbit for _idle, together in rounds]),
        report.row("  99% answered within, ms", [together.p99 for _idle, together in rounds]),
        report.row(f"  ratio to idle{aim}", [together.p99 / idle for idle, together in rounds]),
    ]


if __name__ == "__main__":
    sys.exit(main())
