"""Files that a command reads or writes; `-` is standard input or output.

scripts/cardctl runs commands in the app's container, which cannot see the caller's files: it gives `-` in their place.
"""

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def open_input(path: str, size: int | None = None) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open a file to read, with its size in bytes where that is known; `size` is that of standard input."""
    if path == "-":
        yield sys.stdin.buffer, size
    else:
        with Path(path).open("rb") as source:
            status = os.fstat(source.fileno())
            yield source, status.st_size if stat.S_ISREG(status.st_mode) else None


@contextlib.contextmanager
def replace_output(target: str) -> Iterator[BinaryIO]:
    """Open a file to write, which takes the place of `target` only when all went well."""
    if target == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
