"""An older commit whose service is measured beside this checkout's, by this checkout's measurements."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import run
from tests.bench.service import Code
from trial.environment import CHECKOUT

_VENV = """
set -euo pipefail
source "$ROOT/scripts/lib/common.sh"
source "$ROOT/scripts/lib/python.sh"
ensure_venv requirements.txt >&2
"""


@contextmanager
def older(commit: str) -> Iterator[Code]:
    """A checkout of `commit` in a folder of its own, gone afterwards."""
    worktree = ["git", "-C", str(CHECKOUT), "-c", "safe.directory=*", "worktree"]
    with tempfile.TemporaryDirectory(prefix="kadun-against-") as scratch:
        folder = Path(scratch, "checkout")
        run([*worktree, "add", "--detach", str(folder), commit])
        try:
            yield Code(commit, folder, _python(folder))
        finally:
            run([*worktree, "remove", "--force", str(folder)])


def _python(folder: Path) -> str:
    """Return this Python if it has all that the checkout in `folder` requires, otherwise one made for that."""
    here, there = (_pins((root / "requirements.txt").read_text()) for root in (CHECKOUT, folder))
    if there <= here:
        return sys.executable
    run(["bash", "-c", _VENV], env=os.environ | {"ROOT": str(folder)})
    return str(folder / ".venv/bin/python")


def _pins(requirements: str) -> set[str]:
    return set(re.findall(r"^[A-Za-z0-9._-]+==[^\s\\]+", requirements, re.MULTILINE))
