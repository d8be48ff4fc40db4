"""Who runs on a cluster, from PostgreSQL's own file `postmaster.pid`. Standard library only."""

from dataclasses import dataclass
from pathlib import Path

from trial.processes import command_line, shared_memory_users

_PID, _PORT, _SHARED_MEMORY, _STATUS = 0, 3, 6, 7  # the file's lines, counted from 0
_SHARED_MEMORY_TABLE = Path("/proc/sysvipc/shm")


@dataclass(frozen=True)
class Postmaster:
    """A running postmaster; `status` is PostgreSQL's own word, such as starting, ready or stopping."""

    pid: int
    port: int
    status: str


def data_folder(cluster: Path) -> Path:
    """Returns PostgreSQL's own folder (PGDATA) in a cluster's."""
    return cluster / "data"


def pid_file(cluster: Path) -> Path:
    """Returns where the postmaster leaves its number."""
    return data_folder(cluster) / "postmaster.pid"


def running_postmaster(cluster: Path) -> Postmaster | None:
    """Returns the postmaster that runs on `cluster`, whoever started it.

    Its number alone proves nothing: after a kill it may be a zombie's, or another program's.
    """
    lines = _lines(cluster)
    if not lines or not lines[_PID].isdigit():
        return None
    pid = int(lines[_PID])
    if str(data_folder(cluster)) not in command_line(pid):
        return None
    port = lines[_PORT] if len(lines) > _PORT else ""
    status = lines[_STATUS] if len(lines) > _STATUS else "starting"
    return Postmaster(pid, int(port) if port.isdigit() else 0, status)


def has_orphans(cluster: Path) -> bool:
    """Tells whether processes of a postmaster that is gone still use the memory that they shared with it."""
    lines = _lines(cluster)
    segment = lines[_SHARED_MEMORY].split() if len(lines) > _SHARED_MEMORY else []
    return len(segment) > 1 and shared_memory_users(_SHARED_MEMORY_TABLE.read_text(), segment[1]) > 0


def _lines(cluster: Path) -> list[str]:
    try:
        return [line.strip() for line in pid_file(cluster).read_text().splitlines()]
    except OSError:
        return []
