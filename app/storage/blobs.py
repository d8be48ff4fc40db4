"""The bytes of licensed files, each named by the SHA-256 of its content: in a folder, or in a bucket.

A licensed file's name is never part of a path. Other files in the folder are left alone.
"""

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, NamedTuple

from app.domain.files.buckets import Bucket
from app.domain.files.files import Blob
from app.domain.texts import RefusedError

if TYPE_CHECKING:
    from app.storage.bucket import BucketObjects

BLOCK_BYTES = 1024 * 1024
SPARE_BYTES = 64 * 1024 * 1024
"""Left free on the disk, which may also be the database's."""
_UNFINISHED = ".adding-"
_ABANDONED_SECONDS = 24 * 3600


class Received(NamedTuple):
    """Bytes on the disk that are not yet installed."""

    blob: Blob
    partial: Path


class Blobs:
    """The folder, and the bucket where one is set.

    Bytes in the folder come first, so that files move between the two while clients download them. The folder is
    created with the first file if its parent exists. What needs the bucket raises BucketUnavailableError.
    """

    def __init__(self, folder: Path, bucket: Bucket | None = None) -> None:
        self._folder = folder
        self.bucket = None if bucket is None else bucket_objects(bucket)

    def path(self, blob: Blob) -> Path:
        """Return where the folder has these bytes, if it has them."""
        return self._folder / blob.sha256

    def holds(self, blob: Blob) -> bool:
        """Tell whether the folder has these bytes."""
        try:
            return self.path(blob).stat().st_size == blob.size
        except OSError:
            return False

    def may_hold(self, blob: Blob) -> bool:
        """Tell whether the bytes may be there, without asking the bucket: an offer does not wait for it."""
        return self.bucket is not None or self.holds(blob)

    def missing(self, blobs: Collection[Blob]) -> set[Blob]:
        """Return those whose bytes are neither in the folder nor in the bucket."""
        absent = {blob for blob in blobs if not self.holds(blob)}
        if self.bucket is None or not absent:
            return absent
        from app.runtime.greenlets import in_thread  # noqa: PLC0415  # gevent, which commands without a bucket do without

        sizes = in_thread(self.bucket.sizes)
        return {blob for blob in absent if sizes.get(blob.sha256) != blob.size}

    def locate(self, blob: Blob) -> str | None:
        """Return the signed path by which nginx reads bytes from the bucket, None if they are in the folder.

        Whether the bucket has them, nginx finds out. Raise OSError if they are missing or cannot be read.
        """
        if self.bucket is not None and not self.holds(blob):
            return self.bucket.sign(blob.sha256)
        self.open(blob).close()
        return None

    def open(self, blob: Blob) -> BinaryIO:
        """Open the bytes, which stay complete whatever happens to their name; OSError if they cannot be read."""
        if self.bucket is not None and not self.holds(blob):
            return self.bucket.open(*blob)
        file = self.path(blob).open("rb")
        if os.fstat(file.fileno()).st_size == blob.size:
            return file
        file.close()
        raise FileNotFoundError(errno.ENOENT, "other bytes are there", blob.sha256)

    @contextmanager
    def receiving(self, source: IO[bytes], size: int | None) -> Iterator[Received]:
        """Write a stream to the disk, upload it where there is a bucket, and forget it unless it was installed.

        `size` is None where it is not known. Raise RefusedError if the disk has no room or the stream has another size,
        OSError if the folder or the source cannot be used.
        """
        with suppress(FileExistsError):
            self._folder.mkdir()
            self._folder.chmod(0o755)  # whatever the umask, for nginx, which is another user
        self._sweep()
        self._check_room(size or 0)
        handle, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=self._folder)
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as partial:
                blob = self._copy(source, partial)
                if size is not None and blob.size != size:
                    raise RefusedError(
                        f"应有 {size} 字节，却收到 {blob.size} 字节，未添加",
                        f"{size} bytes were announced and {blob.size} came: nothing was added",
                    )
                partial.flush()
                os.fchmod(partial.fileno(), 0o644)  # readable for nginx, which sends it as another user
                os.fsync(partial.fileno())
            if self.bucket is not None:
                self.bucket.put(blob.sha256, path)
            yield Received(blob, path)
        finally:
            path.unlink(missing_ok=True)

    def install(self, received: Received) -> None:
        """Install received bytes durably under their digest.

        A copy in the folder goes where there is a bucket: it is read first, and may be what an operator repairs by
        adding the file again.
        """
        blob = received.blob
        if self.bucket is not None:
            if self.bucket.size(blob.sha256) != blob.size:  # another command has removed it since it was uploaded
                self.bucket.put(blob.sha256, received.partial)
            self.path(blob).unlink(missing_ok=True)
            return
        received.partial.replace(self.path(blob))
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self, sha256: str) -> None:
        """Remove the bytes; downloads under way continue."""
        if self.bucket is not None:
            self.bucket.remove(sha256)
        (self._folder / sha256).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove the leftovers of additions that were killed."""
        for path in self._folder.glob(f"{_UNFINISHED}*"):
            with suppress(OSError):
                if path.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                    path.unlink()

    def _copy(self, source: IO[bytes], target: BinaryIO) -> Blob:
        digest, size = hashlib.sha256(), 0
        while block := source.read(BLOCK_BYTES):
            self._check_room(len(block))
            target.write(block)
            digest.update(block)
            size += len(block)
        return Blob(digest.hexdigest(), size)

    def _check_room(self, wanted: int) -> None:
        if shutil.disk_usage(self._folder).free < wanted + SPARE_BYTES:
            raise RefusedError(
                f"{self._folder} 所在磁盘空间不足，未添加", f"the disk of {self._folder} has no room: nothing was added"
            )


def bucket_objects(bucket: Bucket) -> "BucketObjects":
    """Return the objects of a bucket."""
    from app.storage.bucket import BucketObjects  # noqa: PLC0415  # 7 MB that other installations do without

    return BucketObjects(bucket)
