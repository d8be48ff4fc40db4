"""python -m bench: measure, print, and leave nothing behind."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg2

from bench import report
from bench.cards import disk_bytes
from bench.errors import BenchError
from bench.rounds import Bench, Plan
from trial.binaries import install_binaries, program
from trial.environment import Trial
from trial.errors import TrialError
from trial.stopping import Stopping, StopRequested

_FOLDER = "/var/tmp"  # noqa: S108  # on the disk, where PostgreSQL's account gets to; mkdtemp makes a folder in it
_MOST_TABLES = 4
_MOST_CARDS = 10_000_000
_SPARE_BYTES = 2**31


def main() -> int:
    """Run the measurements; return the exit status."""
    plan = _plan()
    stopping = Stopping()
    folder: Path | None = None
    try:
        _require(plan)
        binaries = Trial.from_environ(os.environ, uid=os.geteuid()).binaries
        install_binaries(binaries)
        print(report.machine(_postgresql_version(binaries)), flush=True)
        with stopping.deferred():
            folder = Path(tempfile.mkdtemp(prefix="kadun-bench-", dir=_FOLDER))
            folder.chmod(0o711)
        bench = Bench(folder, binaries, plan, _say)
        with bench.running(stopping):
            beside = bench.beside()
            rounds = list(bench.measure())
            busy = beside.cores()
            figures = report.figures(plan, rounds, bench.memory())
        print(f"beside: other programs kept {busy:.2f} cores busy during the rounds")
        print(f"\n{figures}")
    except (BenchError, TrialError, psycopg2.Error, OSError) as error:
        print(f"bench: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return 1
    except StopRequested:
        print("bench: stopped", file=sys.stderr)
        return 130
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def _plan() -> Plan:
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description="Measures Kadun on this machine.")
    parser.add_argument("--seconds", type=_number(1, 600), metavar="N", help="for each run of a measurement (5)")
    parser.add_argument("--rounds", type=_number(1, 99), metavar="N", help="of all measurements (5)")
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


def _number(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return number


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(sorted({_number(1, _MOST_CARDS)(part) for part in text.split(",")}))
    if len(numbers) > _MOST_TABLES:
        raise argparse.ArgumentTypeError(f"at most {_MOST_TABLES} numbers of cards in one run")
    return numbers


def _require(plan: Plan) -> None:
    if shutil.which("wrk") is None:
        raise BenchError("wrk is missing: install it first (apt-get install wrk)")
    wanted = disk_bytes(sum(plan.cards)) + _SPARE_BYTES
    if shutil.disk_usage(_FOLDER).free < wanted:
        raise BenchError(f"{_FOLDER} has less than {wanted / 2**30:.0f} GiB free: ask for fewer cards")


def _postgresql_version(binaries: Path) -> str:
    printed = subprocess.run([program(binaries, "postgres"), "--version"], check=True, capture_output=True, text=True)
    return printed.stdout.split()[-1]


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
