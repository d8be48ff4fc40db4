"""python -m bench: measure, print, and leave nothing behind."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

from bench import report
from bench.against import AIMS, older
from bench.cards import disk_bytes
from bench.code import THIS, Code
from bench.command import number, options, require, run
from bench.errors import BenchError
from bench.process_usage import OtherPrograms
from bench.rounds import Bench
from bench.service import FOLDER, own_folder
from bench.subject import Plan
from trial.binaries import install_binaries
from trial.environment import Trial
from trial.stopping import Stopping

_MAX_TABLES = 4
_MAX_CARDS = 10_000_000
_SPARE_BYTES = 2**32


def main() -> int:
    """Run the measurements; return the exit status."""
    plan, commit = _asked()
    if commit is None:
        return run(lambda stopping: _measure(plan, [THIS], stopping))

    def in_turns(stopping: Stopping) -> list[str]:
        with older(commit) as before:
            return _measure(plan, [before, THIS], stopping)

    return run(in_turns)


def _measure(plan: Plan, codes: Sequence[Code], stopping: Stopping) -> list[str]:
    _require(plan, len(codes))
    binaries = Trial.from_environ(os.environ, uid=os.geteuid()).binaries
    install_binaries(binaries)
    print(report.machine(binaries), flush=True)
    with own_folder(stopping) as folder:
        bench = Bench(folder, binaries, plan, codes)
        with bench.running(stopping):
            others = OtherPrograms()
            rounds = list(bench.measure())
            heading = f"medians of {plan.rounds} rounds of {plan.seconds} s a measurement (lowest to highest)"
            if len(codes) == 1:
                memory = report.row("PostgreSQL, MiB (PSS)", [bench.postgresql_pss_mib()])
                figures = [*report.figures([measured for (measured,) in rounds]), memory]
            else:
                before, after = zip(*rounds, strict=True)
                heading += f", {codes[0].name} (before) and {codes[1].name} (after) in turns"
                figures = report.comparison(before, after, AIMS)
            return [others.line(), "", heading, *figures]


def _asked() -> tuple[Plan, str | None]:
    parser = options(
        "",
        "Measures Kadun on this machine.",
        seconds="for each run of a measurement (5)",
        rounds="of all measurements (5)",
        quick="1 s, 3 rounds, 1,000 cards: does it work, and about how fast",
    )
    parser.add_argument(
        "--cards",
        type=_numbers,
        metavar="N[,N…]",
        help="numbers of bound cards, each measured (1000,100000,1000000)",
    )
    parser.add_argument("--against", metavar="COMMIT", help="an older commit, measured in turns with this checkout")
    given = parser.parse_args()
    seconds, rounds, cards = (1, 3, (1_000,)) if given.quick else (5, 5, (1_000, 100_000, 1_000_000))
    return Plan(given.seconds or seconds, given.rounds or rounds, given.cards or cards), given.against


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(sorted({number(1, _MAX_CARDS)(part) for part in text.split(",")}))
    if len(numbers) > _MAX_TABLES:
        raise argparse.ArgumentTypeError(f"at most {_MAX_TABLES} numbers of cards in one run")
    return numbers


def _require(plan: Plan, subjects: int) -> None:
    require("wrk")
    wanted = disk_bytes(sum(plan.cards)) * subjects + _SPARE_BYTES
    if shutil.disk_usage(FOLDER).free < wanted:
        raise BenchError(f"{FOLDER} has less than {wanted / 2**30:.0f} GiB free: ask for fewer cards")


if __name__ == "__main__":
    sys.exit(main())
