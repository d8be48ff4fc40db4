"""What processes use of the machine: memory, and the cores."""

import os
import re
import time
from pathlib import Path

_KIB_PER_MIB = 1024
_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE = (3, 4)  # in /proc/stat: idle, and waiting for the disk
_GUEST = 8  # and further: counted in user time already


def pss_mib(pid: int) -> int:
    """Return the memory of a process and its descendants in MiB; what processes share is divided among them (PSS)."""
    return sum(_pss_kib(member) for member in tree(pid)) // _KIB_PER_MIB


def tree(pid: int) -> list[int]:
    """Return the numbers of a process and of all that descend from it."""
    members = [pid]
    for member in members:  # grows while it is walked
        members.extend(_children(member))
    return members


def _children(pid: int) -> list[int]:
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has just ended
        return []
    return [int(child) for text in lists for child in text.split()]


def _pss_kib(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss: +(\d+) kB$", rollup, re.MULTILINE)
    return int(found[1]) if found else 0


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process, its descendants and those of them that have ended have taken."""
    return sum(_ticks(member) for member in tree(pid)) / _TICKS


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


def _ticks(pid: int) -> int:
    """Return a process's time, with that of its children that have ended."""
    try:
        columns = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0
    return sum(int(ticks) for ticks in columns[11:15])
