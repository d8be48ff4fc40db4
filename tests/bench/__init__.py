"""The Python behind scripts/bench.sh; docs/performance.md says what each figure means."""

import subprocess
from collections.abc import Sequence
from typing import Any

from trial.programs import tail


class BenchError(Exception):
    """A figure that cannot be had, or would be wrong. The message is one line for the person who asked."""


def run(command: Sequence[str], **options: Any) -> str:  # Popen's
    """Return what a program printed, or raise a BenchError that names it."""
    name = " ".join(map(str, command[:4]))
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{name} had not ended after {error.timeout:.0f} s") from error
    if done.returncode:
        raise BenchError(f"{name} failed with status {done.returncode}: {tail(done.stderr or done.stdout, lines=1)}")
    return str(done.stdout)
