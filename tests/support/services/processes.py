"""Processes as /proc shows them."""

from pathlib import Path


def processes_in(folder: Path) -> list[int]:
    """The processes that work in a folder, as zygotes do, calls, and all that these start."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink() == folder:
                found.append(int(entry.name))
        except OSError:  # it has ended
            continue
    return sorted(found)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    """The processes that a process started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def users_of(ids: range) -> list[int]:
    """The processes that run under one of these user IDs."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                status = (entry / "status").read_text()
                numbers = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
                if any(int(number) in ids for number in numbers):
                    found.append(int(entry.name))
        except OSError:  # it has ended
            continue
    return sorted(found)
