"""python -m bench.client: what the SDK adds to the start of a customer's program.

Each figure is taken in a Python of its own, as a customer's start is one: how long `import kadun` takes beside the
imports of its dependencies alone, and how long `Client(…).open()` takes on a service of this machine.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg2
import pyrage

from app.tokens import keyring
from bench.cards import FIRST_CARD_ID, CardTable
from bench.errors import BenchError
from bench.gunicorn import Gunicorn
from trial.binaries import install_binaries
from trial.environment import CHECKOUT, Trial, write_secret
from trial.errors import TrialError, tail
from trial.postgres import EmbeddedPostgres
from trial.stopping import Stopping, StopRequested

_FOLDER = "/var/tmp"  # noqa: S108  # where PostgreSQL's account gets to; mkdtemp makes a folder in it
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
    stopping = Stopping()
    try:
        with _service(stopping) as (url, keys, folder):
            figures = _measure(starts, [url, keys, FIRST_CARD_ID, str(folder / "state")])
    except (BenchError, TrialError, psycopg2.Error, OSError) as error:
        print(f"bench: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        return 1
    except StopRequested:
        print("bench: stopped", file=sys.stderr)
        return 130
    print("\n".join(figures))
    return 0


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


@contextmanager
def _service(stopping: Stopping) -> Iterator[tuple[str, str, Path]]:
    """A service with unused cards: its address, its public keys, and a folder; all gone afterwards."""
    binaries = Trial.from_environ(os.environ, uid=os.geteuid()).binaries
    install_binaries(binaries)
    with ExitStack() as stack:
        with stopping.deferred():
            folder = Path(tempfile.mkdtemp(prefix="kadun-bench-", dir=_FOLDER))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            folder.chmod(0o711)
        write_secret(folder / "kernal_data_key", str(pyrage.x25519.Identity.generate()))
        keyring.create(folder / "keys", datetime.now(UTC))
        postgres = EmbeddedPostgres(binaries, folder / "cluster")
        stack.callback(postgres.stop)
        with stopping.deferred():
            postgres.start()
        postgres.create_database("unused")
        table = CardTable(postgres.url("unused"), 1000, datetime.now(UTC).date(), is_bound=False)
        table.fill()
        environ = {
            "DATABASE_URL": table.url,
            "KERNAL_DATA_KEY_FILE": str(folder / "kernal_data_key"),
            "KADUN_KEYS_DIR": str(folder / "keys"),
            "KADUN_FILES_DIR": str(folder / "files"),
            "KADUN_FUNCTIONS_SOCKET": str(folder / "functions.sock"),
            "PROMETHEUS_MULTIPROC_DIR": tempfile.mkdtemp(prefix="metrics-", dir=folder),
        }
        service = Gunicorn("app.wsgi:app", environ, folder / "service.log")
        stack.callback(service.stop)
        service.wait_for("/readyz")
        yield service.url, _public_keys(environ), folder


def _public_keys(environ: dict[str, str]) -> str:
    exported = subprocess.run(
        [sys.executable, "-P", "-m", "app", "key", "export"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)} | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if exported.returncode:
        raise BenchError(f"key export failed: {tail(exported.stderr, lines=1)}")
    return json.dumps(json.loads(exported.stdout))


def _line(name: str, values: Sequence[float]) -> str:
    return f"  {name:<36}{statistics.median(values):>8.0f}   ({min(values):.0f} to {max(values):.0f})"


if __name__ == "__main__":
    sys.exit(main())
