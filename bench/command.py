"""The command line that the measurements share."""

import argparse
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import psycopg2

from bench.errors import BenchError
from trial.errors import TrialError
from trial.stopping import Stopping, StopRequested


class Plan(NamedTuple):
    """What the caller wants: seconds a measurement, and rounds."""

    seconds: int
    rounds: int

    def heading(self) -> str:
        """Say what the figures are."""
        return f"medians of {self.rounds} rounds of {self.seconds} s a measurement (lowest to highest)"


def run(measure: Callable[[Stopping], Sequence[str]]) -> int:
    """Measure, and print the lines that come of it; return the exit status."""
    stopping = Stopping()
    _raise_file_limit()
    try:
        lines = measure(stopping)
    except (BenchError, TrialError, psycopg2.Error, OSError) as error:
        print(f"bench: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return 1
    except StopRequested:
        print("bench: stopped", file=sys.stderr)
        return 130
    print("\n".join(lines))
    return 0


def options(mode: str, description: str, *, seconds: str, rounds: str, quick: str) -> argparse.ArgumentParser:
    """Return a parser of the options that most measurements have; the texts are their help."""
    parser = argparse.ArgumentParser(prog=f"scripts/bench.sh {mode}".strip(), description=description)
    parser.add_argument("--seconds", type=number(1, 600), metavar="N", help=seconds)
    parser.add_argument("--rounds", type=number(1, 99), metavar="N", help=rounds)
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def parse_plan(mode: str, description: str, *, quick_rounds: int) -> Plan:
    """Parse the command line of a measurement: by default 5 rounds of 5 s, with --quick `quick_rounds` of 1 s."""
    parser = options(
        mode,
        description,
        seconds="for each run of a measurement (5)",
        rounds="of all measurements (5)",
        quick=f"1 s, {quick_rounds} round{'s' if quick_rounds > 1 else ''}",
    )
    given = parser.parse_args()
    seconds, rounds = (1, quick_rounds) if given.quick else (5, 5)
    return Plan(given.seconds or seconds, given.rounds or rounds)


def number(low: int, high: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number from `low` to `high`."""

    def parsed(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return parsed


def require(*programs: str) -> None:
    """Make sure that these programs are installed.

    Raises:
        BenchError: one is not.
    """
    for program in programs:
        if shutil.which(program) is None:
            raise BenchError(f"{program} is missing: install it first (apt-get install {program})")


def say(line: str) -> None:
    """Report progress on standard error."""
    print(f"bench: {line}", file=sys.stderr, flush=True)


def _raise_file_limit() -> None:
    """Let this process and its children open as many files as they may: 1,000 connections are as many files."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
