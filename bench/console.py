"""python -m bench.console: how long each page of the console takes with a vendor's year in the database."""

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.console.issue import MAX_ISSUED
from bench import console_pages, process_usage
from bench.command import number, run, say
from bench.console_pages import OPERATOR, Asked
from bench.errors import BenchError
from bench.gunicorn import WORKERS, Gunicorn
from bench.process_usage import OtherPrograms
from bench.service import FOLDER, Host, host
from bench.visitor import Visitor
from tests.support import sample_year
from trial.stopping import Stopping

LIMIT_MS = 200
_PASSWORD = "a password for a minute"  # noqa: S105  # of a database that is gone in a minute
_COUNTING_SECONDS = 120
_POLL_SECONDS = 0.2
_BYTES_A_ROW = 1_500
_SPARE_BYTES = 2**31


class Plan(NamedTuple):
    """What the caller wants: how often each page is asked for, and of how much."""

    rounds: int
    cards: int
    events: int


class Timed(NamedTuple):
    """A page, and how long each of its answers took, in milliseconds."""

    name: str
    taken: list[float]


def main() -> int:
    """Run the measurements; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh --console", description="Measures the console here.")
    parser.add_argument("--rounds", type=number(1, 1000), metavar="N", help="of all pages (20)")
    parser.add_argument("--quick", action="store_true", help="3 rounds, 20,000 cards, 100,000 journal entries")
    given = parser.parse_args()
    plan = Plan(given.rounds or 3, 20_000, 100_000) if given.quick else Plan(given.rounds or 20, 1_000_000, 5_000_000)
    return run(lambda stopping: _measure(plan, stopping))


def _measure(plan: Plan, stopping: Stopping) -> list[str]:
    if shutil.disk_usage(FOLDER).free < plan.events * _BYTES_A_ROW + _SPARE_BYTES:
        raise BenchError(f"{FOLDER} has not enough room")
    say(f"making {plan.cards:,} cards and {plan.events:,} journal entries …")
    with (
        host(
            stopping,
            cards=plan.cards,
            is_bound=False,
            fill=lambda table: sample_year.fill(table.url, cards=plan.cards, events=plan.events, today=table.day),
        ) as here,
        here.service() as service,
    ):
        here.add_operator(OPERATOR, _PASSWORD)
        visitor = Visitor(service)
        visitor.log_in(OPERATOR, _PASSWORD)
        counted = _first_figures(visitor, here)
        wanted = console_pages.pages(here.table.url, visitor.issue(MAX_ISSUED))
        say("warming up …")
        _ask_all(visitor, wanted, 2 * WORKERS)  # each worker reads each template once
        before = process_usage.pss_mib(service.pid)
        others = OtherPrograms()
        pages = _ask_all(visitor, wanted, plan.rounds)
        after = process_usage.pss_mib(service.pid)
        return [
            others.line(),
            "",
            f"{plan.cards:,} cards, {plan.events:,} journal entries; each page {plan.rounds} times, milliseconds",
            *(_line(page) for page in pages),
            _verdict(pages),
            "",
            f"  the overview's figures, counted in the background: {counted:.1f} s",
            f"  memory of gunicorn, MiB (PSS): {before} before the pages, {after} after them",
            *_export(visitor, service),
        ]


def _first_figures(visitor: Visitor, here: Host) -> float:
    """Wait until the figures are counted; return how many seconds that took."""
    say("counting the overview's figures …")
    deadline = time.monotonic() + _COUNTING_SECONDS
    while True:
        visitor.page("/admin/")
        found = console_pages.figures_seconds(here.table.url)
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise BenchError("the overview's figures do not get counted")
        time.sleep(_POLL_SECONDS)


def _ask_all(visitor: Visitor, pages: Mapping[str, Asked], rounds: int) -> list[Timed]:
    """Ask for every page in turns, so that each finds the caches as the others left them."""
    timed = [Timed(name, []) for name in pages]
    for turn in range(rounds):
        say(f"round {turn + 1} of {rounds} …")
        for page in timed:
            begun = time.perf_counter()
            visitor.page(*pages[page.name])
            page.taken.append((time.perf_counter() - begun) * 1000)
    return timed


def _export(visitor: Visitor, service: Gunicorn) -> list[str]:
    say("exporting all cards …")
    before = highest = process_usage.pss_mib(service.pid)
    begun, lines, size = time.perf_counter(), 0, 0
    for piece in visitor.export():
        lines += piece.count(b"\n")
        size += len(piece)
        highest = max(highest, process_usage.pss_mib(service.pid))
    taken = time.perf_counter() - begun
    return [
        f"  all cards as CSV: {lines:,} lines, {size / 2**20:.0f} MiB in {taken:.0f} s",
        f"  memory of gunicorn meanwhile, MiB (PSS): {before} before, {highest} at most",
    ]


def _line(page: Timed) -> str:
    return f"  {page.name:<52}{statistics.median(page.taken):>7.0f}   (worst {max(page.taken):.0f})"


def _verdict(pages: Sequence[Timed]) -> str:
    over = [page.name for page in pages if max(page.taken) > LIMIT_MS]
    return f"  over {LIMIT_MS} ms at their worst: {', '.join(over) or 'none'}"


if __name__ == "__main__":
    sys.exit(main())
