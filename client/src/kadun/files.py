"""Files that other programs look into as well: our own second process, and on Windows virus scanners."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCANNERS_SECONDS = 1.0
_LOCK_SECONDS = 3.0  # whoever holds it writes one small file
_PAUSE_SECONDS = 0.02


def replace(source: Path, target: Path) -> None:
    """Put a file in another's place. Windows refuses that while somebody has either open: we wait a second for it.

    Raises:
        OSError: it could not be done; both files are as they were.
    """
    _insisting(lambda: source.replace(target))


def remove(path: Path) -> None:
    """Remove a file that may be gone already.

    Raises:
        OSError: it could not be done.
    """
    with suppress(FileNotFoundError):
        _insisting(path.unlink)


def remove_or_empty(path: Path) -> None:
    """Remove a file; where that is refused, make it empty in place."""
    try:
        remove(path)
    except OSError:
        with suppress(OSError), path.open("r+b") as file:
            file.truncate(0)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only process in here, on this machine.

    Where there is no lock to be had (a folder that cannot be written, a network drive, a process that hangs with it)
    it goes on without: the lock keeps honest processes apart, and no customer may be shut out by it.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError:
        yield
        return
    with file:  # closing it gives the lock back
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _lock(file) and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
        yield


def _lock(file: BinaryIO) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - there is none elsewhere

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - there is none on Windows

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _insisting(work: Callable[[], object]) -> None:
    deadline = time.monotonic() + (_SCANNERS_SECONDS if sys.platform == "win32" else 0)
    while time.monotonic() < deadline:
        with suppress(PermissionError):
            work()
            return
        time.sleep(_PAUSE_SECONDS)
    work()
