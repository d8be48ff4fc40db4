"""Opens files where others may write. Runs with the host's python3 (3.10 or newer)."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_DESCRIPTOR = re.compile("/proc/[0-9]+/fd/[0-9]+")
"""A file that a script holds open: a link by nature, which nobody else can change."""


class NotRegularError(OSError):
    """Not a regular file, or one that is too large."""


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a regular file. A link is not followed, since it may lead to a secret; a named pipe is not waited for.

    Raises:
        NotRegularError: it is a link, a named pipe, a folder or a device.
        OSError: it cannot be opened.
    """
    no_follow = 0 if _DESCRIPTOR.fullmatch(str(file)) else os.O_NOFOLLOW

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags | no_follow | os.O_NONBLOCK)

    if no_follow and file.is_symlink():
        raise NotRegularError(f"是链接，不读取 is a link, and not followed: {file}")
    with open(file, "rb", opener=opener) as content:
        if not stat.S_ISREG(os.fstat(content.fileno()).st_mode):
            raise NotRegularError(f"不是普通文件 is not a regular file: {file}")
        yield content


def content_of(file: Path, most: int) -> bytes:
    """Return the content of a regular file of at most so many bytes.

    Raises:
        NotRegularError: it is not a regular file, or larger.
        OSError: it cannot be read.
    """
    with opened(file) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise NotRegularError(f"大于 {most} 字节 is larger than {most} bytes: {file}")
    return content
