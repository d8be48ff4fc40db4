"""What else kept the machine busy meanwhile: the figures of a shared machine mean little without it."""

import os
import time
from pathlib import Path

from bench.memory import tree

_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE = (3, 4)  # in /proc/stat: idle, and waiting for the disk
_GUEST = 8  # and further: counted in user time already


class Beside:
    """Counts from its making what others than the processes `ours` and their descendants use of the cores."""

    def __init__(self, *ours: int) -> None:
        self._ours = ours
        self._start = time.monotonic()
        self._before = self._other_seconds()

    def cores(self) -> float:
        """Return how many cores the others have kept busy, on the average."""
        return max(0.0, self._other_seconds() - self._before) / (time.monotonic() - self._start)

    def line(self) -> str:
        """Return that as a line to print."""
        return f"beside: other programs kept {self.cores():.2f} cores busy during the rounds"

    def _other_seconds(self) -> float:
        columns = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        busy = sum(int(ticks) for i, ticks in enumerate(columns[:_GUEST]) if i not in _IDLE)
        return (busy - sum(_ticks(pid) for root in self._ours for pid in tree(root))) / _TICKS


def _ticks(pid: int) -> int:
    """Return a process's time, with that of its children that have ended."""
    try:
        columns = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0
    return sum(int(ticks) for ticks in columns[11:15])
