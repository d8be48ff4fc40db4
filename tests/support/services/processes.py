"""Processes as /proc shows them."""

import contextlib
from collections.abc import Callable
from pathlib import Path


def processes(holds: Callable[[Path], object]) -> list[int]:
    """The processes for whose folders in /proc this holds."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if holds(folder):
                found.append(int(folder.name))
    return sorted(found)


def processes_in(folder: Path) -> list[int]:
    """The processes that work in a folder, as zygotes do, calls, and all that these start."""
    return processes(lambda process: (process / "cwd").readlink() == folder)


def processes_of(folder: Path) -> list[int]:
    """The living processes that have a folder in their arguments or their environment."""
    known = str(folder).encode()
    return processes(lambda process: any(known in (process / file).read_bytes() for file in ("cmdline", "environ")))


def users_of(ids: range) -> list[int]:
    """The processes that run under one of these user IDs."""

    def runs_under(process: Path) -> bool:
        lines = (process / "status").read_text().splitlines()
        return any(int(number) in ids for line in lines if line.startswith("Uid:") for number in line.split()[1:])

    return processes(runs_under)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
