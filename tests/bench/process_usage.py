"""What processes use of the machine: memory, and processor time."""

import os
import re
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def pss_mib(pid: int) -> int:
    """Return the memory of a process and its descendants in MiB; what processes share is divided among them (PSS)."""
    rollups = [_read(f"/proc/{member}/smaps_rollup") for member in _tree(pid)]
    return sum(int(kib) for rollup in rollups for kib in re.findall(r"^Pss: +(\d+) kB$", rollup, re.MULTILINE)) // 1024


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process, its descendants and those of them that have ended have taken."""
    columns = [_read(f"/proc/{member}/stat").rpartition(") ")[2].split() for member in _tree(pid)]
    return sum(int(ticks) for column in columns for ticks in column[11:15]) / _TICKS


def _tree(pid: int) -> list[int]:
    members = [pid]
    for member in members:  # grows while it is walked
        members += [int(child) for child in _read(f"/proc/{member}/task/{member}/children").split()]
    return members


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # it has just ended
        return ""
