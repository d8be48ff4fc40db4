"""python -m tests.bench [--beside | --tls]: measure, print, and leave nothing behind."""

import argparse
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack

import psycopg2

from tests.bench import BenchError, beside, report, tls
from tests.bench.against import older
from tests.bench.process_usage import OtherPrograms, pss_mib
from tests.bench.service import THIS, host
from tests.bench.subject import Plan, Subject, rounds
from trial.programs import TrialError, interrupt_on_signals

_MAX_TABLES = 4
_MAX_CARDS = 10_000_000


def main() -> int:
    """Run the measurements; return the exit status."""
    given = _asked()
    quick, beside_or_tls = given.quick, given.beside or given.tls
    cards = given.cards or ((1_000,) if quick else (1_000, 100_000, 1_000_000))
    rounds = given.rounds or (1 if quick and beside_or_tls else 3 if quick or given.beside else 5)
    plan = Plan(given.seconds or (1 if quick else 5), rounds, cards)
    if missing := [tool for tool in _tools(given) if shutil.which(tool) is None]:
        print(f"bench: {missing[0]} is missing: install it first (apt-get install {missing[0]})", file=sys.stderr)
        return 1
    interrupt_on_signals()
    try:
        if given.beside:
            lines = beside.measure(plan._replace(cards=(20_000 if quick else 100_000,)))
        elif given.tls:
            lines = tls.measure(plan._replace(cards=(1_000,)))
        else:
            lines = _measure(plan, given.against)
    except (BenchError, TrialError, psycopg2.Error, OSError) as error:
        print(f"bench: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return 130
    print("\n".join(lines))
    return 0


def _measure(plan: Plan, commit: str | None) -> list[str]:
    with ExitStack() as stack:
        codes = [THIS] if commit is None else [stack.enter_context(older(commit)), THIS]
        here = stack.enter_context(host((sum(plan.cards) + plan.activations) * len(codes)))
        print(report.machine(here.binaries), flush=True)
        subjects = [Subject(code, number, here, plan) for number, code in enumerate(codes)]
        for subject in subjects:
            subject.start(stack)
        others = OtherPrograms()
        measured = list(rounds(subjects, plan.rounds))
        heading = f"medians of {plan.rounds} rounds of {plan.seconds} s a measurement (lowest to highest)"
        if commit is None:
            memory = report.row("PostgreSQL, MiB (PSS)", [pss_mib(here.postmaster)])
            figures = [*report.figures([own for (own,) in measured]), memory]
        else:
            heading += f", {commit} (before) and this checkout (after) in turns"
            figures = report.comparison(*zip(*measured, strict=True))
        return [others.line(), "", heading, *figures]


def _tools(given: argparse.Namespace) -> list[str]:
    return ["wrk", "nginx", "openssl"] if given.tls else ["wrk"]


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description="Measures Kadun on this machine.")
    parser.add_argument("--seconds", type=_number(1, 600), metavar="N", help="for each run of a measurement (5)")
    parser.add_argument("--rounds", type=_number(1, 99), metavar="N", help="of all measurements (5)")
    parser.add_argument("--quick", action="store_true", help="does it work, and about how fast")
    parser.add_argument("--cards", type=_numbers, metavar="N[,N…]", help="numbers of cards (1000,100000,1000000)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--against", metavar="COMMIT", help="an older commit, measured in turns with this checkout")
    mode.add_argument("--beside", action="store_true", help="verifications beside other work")
    mode.add_argument("--tls", action="store_true", help="starts of programs through nginx over TLS")
    return parser.parse_args()


def _number(low: int, high: int) -> Callable[[str], int]:
    def parsed(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return parsed


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(sorted({_number(1, _MAX_CARDS)(part) for part in text.split(",")}))
    if len(numbers) > _MAX_TABLES:
        raise argparse.ArgumentTypeError(f"at most {_MAX_TABLES} numbers of cards in one run")
    return numbers


if __name__ == "__main__":
    sys.exit(main())
