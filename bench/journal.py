"""python -m bench.journal: how long the journal's seals take, to be made and to be verified."""

import argparse
import sys
import time

from bench.command import run, say
from bench.service import Host, host
from tests.support import sample_year
from trial.stopping import Stopping

_CARDS = 20_000
_LIMIT_SECONDS = 60


def main() -> int:
    """Run the measurement; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh --journal", description="Seals and verifies a journal.")
    parser.add_argument("--quick", action="store_true", help="50,000 entries")
    events = 50_000 if parser.parse_args().quick else 1_000_000
    return run(lambda stopping: _measure(stopping, events))


def _measure(stopping: Stopping, events: int) -> list[str]:
    say(f"making {events:,} journal entries …")
    with host(
        stopping,
        cards=_CARDS,
        is_bound=False,
        fill=lambda table: sample_year.fill(table.url, cards=_CARDS, events=events, today=table.day),
    ) as here:
        sealing, verifying = (_seconds(here, command) for command in ("seal", "verify"))
        return [
            f"{events:,} journal entries, a command over all of them, seconds",
            f"  cardctl events seal                       {sealing:>7.1f}",
            f"  cardctl events verify (aim < {_LIMIT_SECONDS})          {verifying:>7.1f}",
        ]


def _seconds(here: Host, command: str) -> float:
    say(f"events {command} …")
    begun = time.perf_counter()
    here.cardctl("events", command)
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
