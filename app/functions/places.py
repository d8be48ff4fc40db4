"""Places for calls. Each has user IDs of its own, so that the kernel separates the calls from one another."""

import contextlib
import ctypes
import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from app.domain.functions import MAX_PLACES
from app.functions import processes
from app.functions.processes import libc

IDS = 1 + 2 * MAX_PLACES
"""How many user IDs the functions service needs."""
ROOT = "/tmp"  # noqa: S108
"""The folder of temporary folders. Not `tempfile.gettempdir()`, which a module may have changed."""
_SHARED = (ROOT, "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")  # noqa: S108
"""Folders in which every user may write."""
_IPC_RMID = 0  # shmctl(2), msgctl(2), semctl(2)
_IPC: dict[str, Callable[[int], object]] = {
    "shm": lambda key: libc.shmctl(key, _IPC_RMID, None),
    "msg": lambda key: libc.msgctl(key, _IPC_RMID, None),
    "sem": lambda key: libc.semctl(key, 0, _IPC_RMID, ctypes.c_void_p(0)),
}


class Place(NamedTuple):
    """The user IDs and the group ID of one place.

    A call runs as `user`, its supervisor as `supervisor`: the call can neither signal its supervisor nor lower its
    priority. The supervisor keeps SETUID, to take on `user` when it ends the call.
    """

    user: int
    supervisor: int
    group: int

    @classmethod
    def numbered(cls, first: int, number: int) -> "Place":
        """Return a place by its number, where the service's user IDs begin with `first`."""
        if not 0 <= number < MAX_PLACES:
            raise ValueError(f"place {number} is not between 0 and {MAX_PLACES - 1}")
        return cls(first + 1 + 2 * number, first + 2 + 2 * number, first)

    def enter(self) -> None:
        """Become a supervisor in this place."""
        processes.become(self.supervisor, self.group, kept=(processes.SETUID,))

    def become_call(self) -> None:
        """Become a call in this place, without any capability; only a supervisor can."""
        os.setresuid(self.user, self.user, self.user)
        processes.keep(())
        processes.set_dumpable(1)  # otherwise its /proc/self would be root's

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Let a supervisor have the call's effective user ID, while no call runs that could lower its priority."""
        os.seteuid(self.user)
        try:
            yield
        finally:
            os.seteuid(self.supervisor)

    def kill_others(self) -> None:
        """Kill all other processes of this place at once; none of them can fork meanwhile."""
        if os.getresuid() != (self.supervisor,) * 3:
            raise RuntimeError("only a supervisor may end a place's processes: others might kill the whole machine's")
        with contextlib.suppress(ProcessLookupError, PermissionError), self.owned():
            os.kill(-1, signal.SIGKILL)

    def sweep(self) -> None:
        """Remove what calls have left where every user of this machine may write; for a supervisor."""
        with self.owned():
            for folder in _SHARED:
                _sweep(folder, self.user)
            for kind, remove_key in _IPC.items():
                for key in _ipc_keys(kind, self.user):
                    remove_key(key)


def remove(folder: Path) -> None:
    """Remove a folder and its contents, when every process that could write there has ended."""
    with contextlib.suppress(OSError):
        folder.rmdir()  # nearly always it is empty
        return
    # Not shutil.rmtree: folders may be nested deeper than Python calls functions, and without our permissions.
    for command in (("chmod", "-R", "u+rwx"), ("rm", "-rf")):
        with contextlib.suppress(OSError):
            subprocess.run([*command, "--", folder], check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _sweep(folder: str, user: int) -> None:
    with contextlib.suppress(OSError, RecursionError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # it is gone
                status = entry.stat(follow_symlinks=False)
                if status.st_uid == user:
                    if stat.S_ISDIR(status.st_mode):
                        remove(Path(entry.path))
                    else:
                        os.unlink(entry.path)  # noqa: PTH108
                elif stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_IWOTH:
                    _sweep(entry.path, user)  # another call has opened its folder to this one


def _ipc_keys(kind: str, user: int) -> list[int]:
    try:
        with open(f"/proc/sysvipc/{kind}", encoding="utf-8") as table:  # noqa: PTH123  # before and after every call
            header, *lines = table
    except OSError:  # a kernel without them
        return []
    names = header.split()  # proc(5)
    rows = [dict(zip(names, line.split(), strict=False)) for line in lines]
    return [int(row[names[1]]) for row in rows if str(user) in (row["uid"], row["cuid"])]
