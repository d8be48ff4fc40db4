"""Operations on files that other processes open, too: a second client, and on Windows virus scanners."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Callable

_SCANNERS_SECONDS = 1.0
_LOCK_SECONDS = 3.0  # its holder writes one small file
_PAUSE_SECONDS = 0.02


def replace(source: Path, target: Path) -> None:
    """Replace a file by another. Windows refuses this while either is open; then retry for a second."""
    _insisting(lambda: source.replace(target))


@contextmanager
def replaced(target: Path, *, mode: int | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `target` if the block succeeds; a crash leaves one of the two."""
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix=".new-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            Path(partial).chmod(mode)
        replace(Path(partial), target)
    except BaseException:
        with suppress(OSError):
            Path(partial).unlink()
        raise


def remove(path: Path) -> None:
    """Remove a file; ignore a missing one."""
    with suppress(FileNotFoundError):
        _insisting(path.unlink)


def remove_or_empty(path: Path) -> None:
    """Remove a file, or truncate it if it cannot be removed."""
    try:
        remove(path)
    except OSError:
        with suppress(OSError), path.open("r+b") as file:
            file.truncate(0)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Exclude other processes of this machine.

    Continue without a lock if none is available (a read-only folder, a hanging process): no customer is locked out.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError:
        yield
        return
    with file:  # closing it releases the lock
        deadline = time.monotonic() + _LOCK_SECONDS
        while not lock(file) and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
        yield


def lock(file: BinaryIO, offset: int = 0) -> bool:
    """Lock the file until it is closed, and return False if another program holds the lock.

    Where a drive has no locks, none is needed. On Windows the byte at the offset is locked, which prevents reading it.
    """
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - Windows only

            file.seek(offset)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - not on Windows

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as failure:
        return failure.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


def _insisting(work: Callable[[], object]) -> None:
    deadline = time.monotonic() + (_SCANNERS_SECONDS if sys.platform == "win32" else 0)
    while time.monotonic() < deadline:
        with suppress(PermissionError):
            work()
            return
        time.sleep(_PAUSE_SECONDS)
    work()
