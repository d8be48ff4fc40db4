"""What processes use of the machine: memory, and the cores."""

import os
import re
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE = (3, 4)  # in /proc/stat: idle, and waiting for the disk
_GUEST = 8  # and further: counted in user time already


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


class OtherPrograms:
    """Counts, from its creation, what programs other than this process and its descendants use of the cores.

    The figures of a shared machine mean little without it.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._before = _other_seconds()

    def line(self) -> str:
        """Return as a line to print how many cores the others have kept busy on average."""
        cores = max(0.0, _other_seconds() - self._before) / (time.monotonic() - self._start)
        return f"beside: other programs kept {cores:.2f} cores busy during the rounds"


def _other_seconds() -> float:
    columns = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    busy = sum(int(ticks) for i, ticks in enumerate(columns[:_GUEST]) if i not in _IDLE)
    return busy / _TICKS - cpu_seconds(os.getpid())
