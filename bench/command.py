"""What the programs of this package have in common for whoever calls them."""

import argparse
import sys
from collections.abc import Callable, Sequence

import psycopg2

from bench.errors import BenchError
from trial.errors import TrialError
from trial.stopping import Stopping, StopRequested


def run(measure: Callable[[Stopping], Sequence[str]]) -> int:
    """Measure, and print the lines that come of it; return the exit status."""
    stopping = Stopping()
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


def number(low: int, high: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number from `low` to `high`."""

    def parsed(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return parsed


def say(line: str) -> None:
    """Tell whoever waits what happens."""
    print(f"bench: {line}", file=sys.stderr, flush=True)
