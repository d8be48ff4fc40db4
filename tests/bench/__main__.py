"""python -m tests.bench [--against COMMIT | --tls]: measure, print, and leave nothing behind."""

import argparse
import sys
from contextlib import ExitStack

import psycopg2

from tests.bench import BenchError, report, tls
from tests.bench.against import older
from tests.bench.process_usage import pss_mib
from tests.bench.service import THIS, host
from tests.bench.subject import Plan, Subject, rounds
from trial.programs import TrialError, interrupt_on_signals


def main() -> int:
    """Run the measurements; return the exit status."""
    given = _asked()
    cards = given.cards or ((1_000,) if given.quick else (1_000, 100_000, 1_000_000))
    rounds = given.rounds or (5 if not given.quick else 1 if given.tls else 3)
    plan = Plan(given.seconds or (1 if given.quick else 5), rounds, cards)
    interrupt_on_signals()
    try:
        lines = tls.measure(plan._replace(cards=(1_000,))) if given.tls else _measure(plan, given.against)
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
        here = stack.enter_context(host())
        print(report.machine(here.postgresql()), flush=True)
        subjects = [Subject(code, number, here, plan) for number, code in enumerate(codes)]
        for subject in subjects:
            subject.start(stack)
        measured = list(rounds(subjects, plan.rounds))
        heading = report.heading(plan.rounds, plan.seconds)
        if commit is None:
            memory = report.row("PostgreSQL, MiB (PSS)", [pss_mib(here.postgres)])
            figures = [*report.figures([own for (own,) in measured]), memory]
        else:
            heading += f", {commit} (before) and this checkout (after) in turns"
            figures = report.comparison(*zip(*measured, strict=True))
        return ["", heading, *figures]


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description="Measures Kadun on this machine.")
    parser.add_argument("--seconds", type=int, metavar="N", help="for each run of a measurement (5)")
    parser.add_argument("--rounds", type=int, metavar="N", help="of all measurements; medians count (5)")
    parser.add_argument("--quick", action="store_true", help="1 s, 3 rounds, 1,000 cards: about how fast")
    cards = parser.add_argument("--cards", metavar="N[,N…]", help="numbers of cards (1000,100000,1000000)")
    cards.type = lambda text: tuple(sorted({int(part) for part in text.split(",")}))
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--against", metavar="COMMIT", help="an older commit beside this one, in turns")
    mode.add_argument("--tls", action="store_true", help="verifications over TLS, each on a new connection")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
