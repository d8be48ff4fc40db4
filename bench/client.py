"""python -m bench.client: what the SDK adds to the start of a customer's program.

Each figure is taken in a Python of its own, as a customer's start is one: how long `import kadun` takes beside the
imports of its dependencies alone, and how long `Client(…).open()` takes on a service of this machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence

from bench.cards import FIRST_CARD_ID
from bench.command import run
from bench.errors import BenchError
from bench.service import host
from trial.environment import CHECKOUT
from trial.errors import tail
from trial.stopping import Stopping

_START_SECONDS = 60
_IMPORT_LIMIT_MS, _OPEN_LIMIT_MS = 100, 150

# What kadun's own modules import: the parts too, since some packages import little by themselves.
_DEPENDENCIES = """
import cryptography.hazmat.primitives.asymmetric.ed25519
import joserfc.jwe, joserfc.jwk
import jwt, platformdirs, pyrage, requests, urllib3
"""
_IMPORT = """
import sys, time
begun = time.perf_counter()
{imports}
print((time.perf_counter() - begun) * 1000)
"""
_OPEN = """
import sys, time
from kadun import Client
url, keys, card, state = sys.argv[1:]
begun = time.perf_counter()
Client(url, public_keys=keys, card_id=card, state_dir=state).open()
print((time.perf_counter() - begun) * 1000)
"""


def main() -> int:
    """Run the measurements; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.client", description="Measures the SDK on this machine.")
    parser.add_argument("--starts", type=int, default=15, metavar="N", help="of each kind (15)")
    starts = max(3, parser.parse_args().starts)
    return run(lambda stopping: _on_a_service(stopping, starts))


def _on_a_service(stopping: Stopping, starts: int) -> list[str]:
    with host(stopping, cards=1000, is_bound=False) as here, here.service() as service:
        keys = json.dumps(json.loads(here.cardctl("key", "export")))
        return _measure(starts, [service.url, keys, FIRST_CARD_ID, str(here.folder / "state")])


def _measure(starts: int, arguments: Sequence[str]) -> list[str]:
    """Return a line for each figure; the kinds take turns, so that other programs disturb them alike."""
    first_open = _milliseconds(_OPEN, *arguments)  # it activates the card
    alone, ours, opened = [], [], []
    for _ in range(starts):
        alone.append(_milliseconds(_IMPORT.format(imports=_DEPENDENCIES)))
        ours.append(_milliseconds(_IMPORT.format(imports="import kadun")))
        opened.append(_milliseconds(_OPEN, *arguments))
    more = [own - others for own, others in zip(ours, alone, strict=True)]
    return [
        f"medians of {starts} starts (lowest to highest), Python {sys.version.split()[0]}, milliseconds",
        _line("the dependencies' own import", alone),
        _line("import kadun", ours),
        _line(f"  more than those (limit {_IMPORT_LIMIT_MS})", more),
        _line(f"Client(…).open() (limit {_OPEN_LIMIT_MS})", opened),
        f"  {'the very first, which activates':<36}{first_open:>8.0f}",
    ]


def _milliseconds(program: str, *arguments: str) -> float:
    """Return what a program says, run in a new Python.

    Raises:
        BenchError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT / "client" / "src"), "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=_START_SECONDS,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"a start failed: {tail(done.stderr, lines=1)}")
    return float(done.stdout)


def _line(name: str, values: Sequence[float]) -> str:
    return f"  {name:<36}{statistics.median(values):>8.0f}   ({min(values):.0f} to {max(values):.0f})"


if __name__ == "__main__":
    sys.exit(main())
