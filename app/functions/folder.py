"""The folder of the vendor's modules: whether it has changed, and whether two hosts have the same."""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from app.functions.modules import packages_dir

Signature = frozenset[tuple[str, tuple[int, ...]]]


def signature(folder: Path) -> Signature:
    """Return a value that changes with content, mode or owner of a file below a folder, and with installed packages."""
    return frozenset({*map(_status, _files(folder)), _status(str(packages_dir(folder)))})


def digest(folder: Path) -> str:
    """Return the SHA-256, in hex, of the names and the content of all files below a folder."""
    whole = hashlib.sha256()
    for path in sorted(_files(folder)):
        content = ""
        with contextlib.suppress(OSError), open(path, "rb", opener=_without_waiting) as file:  # see below
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{os.path.relpath(path, folder)}\0{content}\0".encode(errors="surrogateescape"))
    return whole.hexdigest()


def _files(folder: Path) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not _is_temporary(name))
        for name in files:
            if not _is_temporary(name):
                yield os.path.join(where, name)  # noqa: PTH118  # of thousands, once a second


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # for the writer of a named pipe


def _is_temporary(name: str) -> bool:
    # Hidden, or a swap or backup file of an editor.
    return name.startswith((".", "#")) or name.endswith("~")


def _status(path: str) -> tuple[str, tuple[int, ...]]:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:  # gone, or a link to nowhere
        return path, ()
    # Not ctime, which hard links change.
    return path, (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode, status.st_uid, status.st_gid)
