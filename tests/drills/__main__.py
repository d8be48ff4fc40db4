"""`python -m tests.drills NAME [--rounds N]`: let a failure happen several times, and print what customers saw.

What must hold then, tests/cluster asserts.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.drills.failures import OF_THE_APP, OF_THE_DATABASE
from tests.drills.scene import Scene

FAILURES = OF_THE_DATABASE | OF_THE_APP


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.drills")
    parser.add_argument("name", choices=FAILURES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=3, choices=(2, 3))
    options = parser.parse_args()
    failed = 0
    with (
        tempfile.TemporaryDirectory(prefix="kadun-drill-", dir="/var/tmp") as folder,
        Scene(Path(folder), nodes=options.nodes) as scene,
    ):
        for number in range(1, options.rounds + 1):
            outcome = scene.suffer(FAILURES[options.name], by_sdk=options.name in OF_THE_APP)
            print(
                f"{options.name} {number}: no activation for {outcome.activations_stopped:.1f} s,"
                f" no verification for {outcome.verifications_stopped:.1f} s, all back {outcome.all_back:.1f} s later,"
                f" longest answer {outcome.longest_answer:.1f} s;"
                f" {outcome.accepted} accepted, {outcome.refused} refused,"
                f" {outcome.lost} lost, {outcome.activated_twice} activated twice, {len(outcome.odd)} other answers",
                flush=True,
            )
            print(*outcome.odd, sep="\n", end="\n" if outcome.odd else "", flush=True)
            failed += outcome.lost + outcome.activated_twice + len(outcome.odd)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
