"""What calls write: each has a temporary folder, and leaves nothing behind when it has a user of its own."""

import contextlib
import ctypes
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from app.functions.processes import libc

# Not `tempfile.gettempdir()`, which a module may have changed.
_ROOT = Path("/tmp")  # noqa: S108
_SHARED = (str(_ROOT), "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")  # noqa: S108
"""Folders in which every user may write."""
_IPC_RMID = 0  # shmctl(2), msgctl(2), semctl(2)
_IPC: dict[str, Callable[[int], object]] = {
    "shm": lambda key: libc.shmctl(key, _IPC_RMID, None),
    "msg": lambda key: libc.msgctl(key, _IPC_RMID, None),
    "sem": lambda key: libc.semctl(key, 0, _IPC_RMID, ctypes.c_void_p(0)),
}


def create() -> Path:
    """Create a folder for a call.

    Raises:
        OSError: the disk is full.
    """
    return Path(tempfile.mkdtemp(prefix="kadun-call-", dir=_ROOT))


def remove(folder: Path) -> None:
    """Remove a folder and its contents, when every process that could write there has ended."""
    with contextlib.suppress(OSError):
        folder.rmdir()  # nearly always it is empty
        return
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(folder)
        return
    # Folders may be nested deeper than Python calls functions, and the function may have taken away our permissions.
    for command in (("chmod", "-R", "u+rwx"), ("rm", "-rf")):
        with contextlib.suppress(OSError):
            subprocess.run([*command, "--", folder], check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def sweep(user: int) -> None:
    """Remove all that a user has in the folders and tables of this machine in which every user may write."""
    for folder in _SHARED:
        _sweep(folder, user)
    for kind, remove_key in _IPC.items():
        for key in _ipc_keys(kind, user):
            remove_key(key)


def _sweep(folder: str, user: int) -> None:
    with contextlib.suppress(OSError, RecursionError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # it is gone
                status = entry.stat(follow_symlinks=False)
                if status.st_uid == user:
                    _remove_entry(entry)
                elif stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_IWOTH:
                    _sweep(entry.path, user)  # another call has opened its folder to this one


def _remove_entry(entry: os.DirEntry[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        remove(Path(entry.path))
    else:
        os.unlink(entry.path)  # noqa: PTH108


def _ipc_keys(kind: str, user: int) -> list[int]:
    """Return the IDs of a user's System V shared memory, message queues or semaphores; see proc(5)."""
    try:
        with open(f"/proc/sysvipc/{kind}", encoding="utf-8") as table:  # noqa: PTH123  # before and after every call
            header, *lines = table
    except OSError:  # a kernel without them
        return []
    names = header.split()
    rows = [dict(zip(names, line.split(), strict=False)) for line in lines]
    return [int(row[names[1]]) for row in rows if str(user) in (row["uid"], row["cuid"])]
