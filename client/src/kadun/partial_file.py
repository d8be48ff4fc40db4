"""The received part of a download: beside its target, kept between starts, locked by one program at a time."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, final

from kadun import files
from kadun.errors import DownloadFailed

_BLOCK_BYTES = 1024 * 1024
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True)
class Offer:
    """One version of a file, as a verdict offers it."""

    name: str
    size: int
    sha256: str
    url: str = field(repr=False)  # it permits the download, for ten minutes
    reference: str


@final
class PartialFile:
    """`NAME.part` beside the target, and `NAME.part.json` with its version; a failure leaves the target unchanged."""

    def __init__(self, target: Path, offer: Offer) -> None:
        self._target = target
        self._path = target.with_name(f"{target.name}.part")
        self._metadata = target.with_name(f"{target.name}.part.json")
        self._offer = offer
        self.size = 0  # bytes received

    def __enter__(self) -> PartialFile:
        """Open the part that an earlier try left, if it is of the same version of the file."""
        with self._saving():
            self._file = self._opened()
        if not self._recalled():
            try:
                self.restart()
            except DownloadFailed:
                self._file.close()
                raise
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the file and keep it for the next try, unless it is empty."""
        if self._file.closed:  # discarded or installed: the path may now belong to another program
            return
        if not self.size:
            self.discard()
        self._file.close()

    def restart(self) -> None:
        """Start over."""
        with self._saving():
            self._file.truncate(0)
            self._metadata.write_text(json.dumps({"sha256": self._offer.sha256}), encoding="ascii")
            self.size = 0
            if shutil.disk_usage(self._path.parent).free < self._offer.size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def append(self, piece: bytes) -> None:
        """Append the next bytes."""
        with self._saving():
            self._file.seek(self.size)
            self._file.write(piece)
            self._file.flush()
            self.size += len(piece)

    def install(self) -> bool:
        """Replace the target by the complete file; if it is damaged, start over and return False."""
        with self._saving():
            if self.size != self._offer.size or sha256_of(self._file) != self._offer.sha256:
                self.restart()
                return False
            os.fsync(self._file.fileno())
            if sys.platform == "win32":
                self._file.close()  # Windows cannot rename an open file
            files.replace(self._path, self._target)
        _remove(self._metadata)
        self._file.close()
        return True

    def discard(self) -> None:
        """Remove both files, if the system permits it."""
        self.size = 0
        if sys.platform == "win32":
            self._file.close()
        _remove(self._path)  # elsewhere before it is closed, after which another program may use it
        _remove(self._metadata)
        self._file.close()

    def _opened(self) -> BinaryIO:
        while True:
            file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b")
            if not files.lock(file, offset=2**40):  # far beyond the content
                file.close()
                raise DownloadFailed("under_way", self._offer.name, self._offer.reference)
            with suppress(FileNotFoundError):  # another program has just installed the file that we opened
                if os.path.samestat(os.fstat(file.fileno()), self._path.stat()):
                    return file
            file.close()

    def _recalled(self) -> bool:
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            note = json.loads(self._metadata.read_text(encoding="ascii"))  # anybody may have written it
            size = os.fstat(self._file.fileno()).st_size
            if note["sha256"] == self._offer.sha256 and size <= self._offer.size:
                self.size = size
                return True
        return False

    @contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            yield
        except OSError as failure:
            full = failure.errno in _FULL
            if full and hasattr(self, "_file"):
                self.discard()  # a full disk affects other programs, too
            reason = "disk_full" if full else "not_saved"
            detail = f"{type(failure).__name__}: {failure.strerror}"
            raise DownloadFailed(reason, self._offer.name, self._offer.reference, detail) from None


def _remove(path: Path) -> None:
    with suppress(OSError):  # removed already, or left for the next time
        path.unlink()


def sha256_of(file: BinaryIO) -> str:
    """Return the hex digest of a complete file."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()
