"""python -m bench: measure, print, and leave nothing behind."""

import argparse
import os
import shutil
import sys

from bench import report
from bench.cards import disk_bytes
from bench.command import number, run, say
from bench.errors import BenchError
from bench.process_usage import OtherPrograms
from bench.rounds import Bench, Plan
from bench.service import FOLDER, own_folder
from trial.binaries import install_binaries
from trial.environment import Trial
from trial.stopping import Stopping

_MAX_TABLES = 4
_MAX_CARDS = 10_000_000
_SPARE_BYTES = 2**31


def main() -> int:
    """Run the measurements; return the exit status."""
    plan = _plan()
    return run(lambda stopping: _measure(plan, stopping))


def _measure(plan: Plan, stopping: Stopping) -> list[str]:
    _require(plan)
    binaries = Trial.from_environ(os.environ, uid=os.geteuid()).binaries
    install_binaries(binaries)
    print(report.machine(binaries), flush=True)
    with own_folder(stopping) as folder:
        bench = Bench(folder, binaries, plan, say)
        with bench.running(stopping):
            others = OtherPrograms()
            rounds = list(bench.measure())
            return [others.line(), "", report.figures(plan, rounds, bench.memory())]


def _plan() -> Plan:
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description="Measures Kadun on this machine.")
    parser.add_argument("--seconds", type=number(1, 600), metavar="N", help="for each run of a measurement (5)")
    parser.add_argument("--rounds", type=number(1, 99), metavar="N", help="of all measurements (5)")
    parser.add_argument(
        "--cards",
        type=_numbers,
        metavar="N[,N…]",
        help="numbers of bound cards, each measured (1000,100000,1000000)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="1 s, 3 rounds, 1,000 cards: does it work, and about how fast"
    )
    given = parser.parse_args()
    seconds, rounds, cards = (1, 3, (1_000,)) if given.quick else (5, 5, (1_000, 100_000, 1_000_000))
    return Plan(given.seconds or seconds, given.rounds or rounds, given.cards or cards)


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(sorted({number(1, _MAX_CARDS)(part) for part in text.split(",")}))
    if len(numbers) > _MAX_TABLES:
        raise argparse.ArgumentTypeError(f"at most {_MAX_TABLES} numbers of cards in one run")
    return numbers


def _require(plan: Plan) -> None:
    if shutil.which("wrk") is None:
        raise BenchError("wrk is missing: install it first (apt-get install wrk)")
    wanted = disk_bytes(sum(plan.cards)) + _SPARE_BYTES
    if shutil.disk_usage(FOLDER).free < wanted:
        raise BenchError(f"{FOLDER} has less than {wanted / 2**30:.0f} GiB free: ask for fewer cards")


if __name__ == "__main__":
    sys.exit(main())
