"""An older commit whose service is measured beside this checkout's, by this checkout's measurements."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import BenchError
from tests.bench.service import Code
from trial.environment import CHECKOUT
from trial.programs import tail

_VENV = """
set -euo pipefail
source "$ROOT/scripts/lib/common.sh"
source "$ROOT/scripts/lib/python.sh"
ensure_venv requirements.txt >&2
"""


@contextmanager
def older(commit: str) -> Iterator[Code]:
    """A checkout of `commit` in a folder of its own, gone afterwards."""
    git = ["git", "-c", "safe.directory=*", "-C", str(CHECKOUT)]
    with tempfile.TemporaryDirectory(prefix="kadun-against-") as scratch:
        folder = Path(scratch, "checkout")
        done = subprocess.run(
            [*git, "worktree", "add", "--detach", folder, commit], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BenchError(f"no checkout of {commit}: {tail(done.stderr, lines=1)}")
        try:
            yield Code(commit, folder, _python(folder))
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", folder], check=False)


def pins(requirements: str) -> set[str]:
    return set(re.findall(r"^[A-Za-z0-9._-]+==[^\s\\]+", requirements, re.MULTILINE))


def _python(folder: Path) -> str:
    """Return this Python if it has all that the checkout in `folder` requires, otherwise one made for that."""
    here, there = (pins((root / "requirements.txt").read_text()) for root in (CHECKOUT, folder))
    if there <= here:
        return sys.executable
    done = subprocess.run(
        ["bash", "-c", _VENV], env=os.environ | {"ROOT": str(folder)}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"no Python for the older commit: {tail(done.stderr, lines=1)}")
    return str(folder / ".venv/bin/python")
