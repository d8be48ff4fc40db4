"""The bytes of licensed files: one folder, each file named by the SHA-256 of its content.

A licensed file's name is never part of a path. Other files in the folder are left alone.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from app.domain.texts import RefusedError

BLOCK_BYTES = 1024 * 1024
SPARE_BYTES = 64 * 1024 * 1024
"""Left free on the disk, which may also be the database's."""
_UNFINISHED = ".adding-"


class Blob(NamedTuple):
    """The digest (`sha256`, lower-case hex) and size (bytes) of a file's content."""

    sha256: str
    size: int


class Received(NamedTuple):
    """Bytes on the disk that are not yet installed."""

    blob: Blob
    partial: Path


class Location(NamedTuple):
    """Where nginx finds bytes: in the folder under a name, or in the bucket under a signed path."""

    in_bucket: bool
    address: str


class Blobs:
    """The folder, created with the first file if its parent exists."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def holds(self, blob: Blob) -> bool:
        """Tell whether the folder has these bytes."""
        try:
            return (self._folder / blob.sha256).stat().st_size == blob.size
        except OSError:
            return False

    def missing(self, blobs: Collection[Blob]) -> set[Blob]:
        """Return those whose bytes the folder does not have."""
        return {blob for blob in blobs if not self.holds(blob)}

    may_hold = holds

    def locate(self, blob: Blob) -> Location:
        """Return where nginx finds the bytes.

        Raises:
            OSError: they are missing or cannot be read.
        """
        self.open(blob).close()
        return Location(in_bucket=False, address=blob.sha256)

    def is_intact(self, blob: Blob) -> bool:
        """Read the bytes whole and compare their digest.

        Raises:
            OSError: they are missing or cannot be read.
        """
        digest = hashlib.sha256()
        with self.open(blob) as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest() == blob.sha256

    def open(self, blob: Blob) -> BinaryIO:
        """Open the bytes; an open file stays complete whatever happens to its name.

        Raises:
            OSError: they are missing or cannot be read.
        """
        file = (self._folder / blob.sha256).open("rb")
        if os.fstat(file.fileno()).st_size == blob.size:
            return file
        file.close()
        raise FileNotFoundError(errno.ENOENT, "other bytes are there", blob.sha256)

    @contextmanager
    def receiving(
        self, source: BinaryIO, size: int | None, progress: Callable[[int], None] = lambda _bytes: None
    ) -> Iterator[Received]:
        """Write a stream to the disk, and remove it at the end unless it was installed.

        Args:
            source: Read to its end.
            size: The number of bytes, where that is known.
            progress: Called with the number of bytes just written.

        Raises:
            RefusedError: the disk has no room, or the stream has another size.
            OSError: the folder or the source cannot be used.
        """
        self._make_folder()
        self._sweep()
        self._check_room(size or 0)
        with self._unfinished() as (partial, path):
            blob = self._copy(source, partial, progress)
            if size is not None and blob.size != size:
                raise RefusedError(
                    f"应有 {size} 字节，却收到 {blob.size} 字节，未添加",
                    f"{size} bytes were announced and {blob.size} came: nothing was added",
                )
            partial.flush()
            os.fchmod(partial.fileno(), 0o644)  # readable for nginx, which sends it as another user
            os.fsync(partial.fileno())
            yield Received(blob, path)

    def install(self, received: Received) -> None:
        """Install received bytes durably under their digest."""
        received.partial.replace(self._folder / received.blob.sha256)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self, sha256: str) -> None:
        """Remove the bytes; downloads under way continue."""
        (self._folder / sha256).unlink(missing_ok=True)

    def _make_folder(self) -> None:
        with suppress(FileExistsError):
            self._folder.mkdir()
            self._folder.chmod(0o755)  # whatever the umask, for nginx, which is another user

    def _sweep(self) -> None:
        """Remove the leftovers of interrupted additions; additions under way hold a lock."""
        for path in self._folder.glob(f"{_UNFINISHED}*"):
            with suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    @contextmanager
    def _unfinished(self) -> Iterator[tuple[BinaryIO, Path]]:
        file, path = self._locked_file()
        with file:
            try:
                yield file, path
            finally:
                path.unlink(missing_ok=True)

    def _locked_file(self) -> tuple[BinaryIO, Path]:
        while True:
            handle, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=self._folder)
            file = os.fdopen(handle, "wb")
            fcntl.flock(file, fcntl.LOCK_EX)
            if Path(name).exists():
                return file, Path(name)
            file.close()  # swept away before it was locked

    def _copy(self, source: BinaryIO, target: BinaryIO, progress: Callable[[int], None]) -> Blob:
        digest, size = hashlib.sha256(), 0
        while block := source.read(BLOCK_BYTES):
            self._check_room(len(block))
            target.write(block)
            digest.update(block)
            size += len(block)
            progress(len(block))
        return Blob(digest.hexdigest(), size)

    def _check_room(self, wanted: int) -> None:
        if shutil.disk_usage(self._folder).free < wanted + SPARE_BYTES:
            raise _no_room(self._folder)


def _no_room(folder: Path) -> RefusedError:
    return RefusedError(f"{folder} 所在磁盘空间不足，未添加", f"the disk of {folder} has no room: nothing was added")
