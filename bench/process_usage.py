"""What processes use of the machine: memory, and the cores."""

import os
import re
import time
from pathlib import Path
from typing import NamedTuple

_MIB = 1024  # in kB


class Memory(NamedTuple):
    """In MiB. PSS divides what processes share among them, RSS counts it for each again."""

    pss: int
    rss: int


def of_tree(pid: int) -> Memory:
    """Return what the process and its descendants hold now."""
    rollups = [_rollup(member) for member in tree(pid)]
    return Memory(
        sum(rollup.get("Pss", 0) for rollup in rollups) // _MIB,
        sum(rollup.get("Rss", 0) for rollup in rollups) // _MIB,
    )


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


def _rollup(pid: int) -> dict[str, int]:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return {}
    return {name: int(kib) for name, kib in re.findall(r"^(Pss|Rss): +(\d+) kB$", text, re.MULTILINE)}


_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE = (3, 4)  # in /proc/stat: idle, and waiting for the disk
_GUEST = 8  # and further: counted in user time already


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
    return (busy - sum(_ticks(pid) for pid in tree(os.getpid()))) / _TICKS


def _ticks(pid: int) -> int:
    """Return a process's time, with that of its children that have ended."""
    try:
        columns = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0
    return sum(int(ticks) for ticks in columns[11:15])
