"""Looking for processes that are left over."""

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
