"""What programs use of the machine: memory, and processor time."""

import os
import re
from pathlib import Path

from tests.bench import BenchError
from trial.programs import Child

_TICKS = os.sysconf("SC_CLK_TCK")


def pss_mib(program: Child) -> int:
    """Return the memory of a program's processes in MiB; what processes share is divided among them (PSS)."""
    rollups = [_read(f"/proc/{member}/smaps_rollup") for member in _tree(program)]
    return sum(int(kib) for rollup in rollups for kib in re.findall(r"^Pss: +(\d+) kB$", rollup, re.MULTILINE)) // 1024


def cpu_seconds(program: Child) -> float:
    """Return the processor time that a program's processes and those of them that have ended have taken."""
    columns = [_read(f"/proc/{member}/stat").rpartition(") ")[2].split() for member in _tree(program)]
    return sum(int(ticks) for column in columns for ticks in column[11:15]) / _TICKS


def _tree(program: Child) -> list[int]:
    if program.pid is None:
        raise BenchError("a service or PostgreSQL has ended")
    members = [program.pid]
    for member in members:  # grows while it is walked
        members += [int(child) for child in _read(f"/proc/{member}/task/{member}/children").split()]
    return members


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # it has just ended
        return ""
