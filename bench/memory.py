"""Memory of a process and all that descend from it, as Linux counts it."""

import re
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
