"""Moves of licensed files between the folder and the bucket, while clients download them.

With a bucket set, the service reads a file from the folder if it is there, else from the bucket. A move copies the
bytes, reads the copy back, compares its digest, and only then removes the original: it can be interrupted and repeated.
"""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from app.domain.files.files import Blob
from app.domain.texts import RefusedError, Text
from app.runtime.settings import Settings
from app.services.files.file_store import files, is_wanted, lock_files
from app.storage.blobs import Blobs, bucket_objects
from app.storage.database import Database

BUCKET, FOLDER = PLACES = ("bucket", "folder")
"""Where a file's bytes are to be."""


class MovedFiles(NamedTuple):
    """What became of the bytes of some files, which may be the same; `left` is why they were not moved."""

    names: tuple[str, ...]
    sha256: str
    left: Text | None


class FileMoves:
    """Moves the files of the installation that has these settings; RefusedError where no bucket is set."""

    def __init__(self, database: Database, settings: Settings) -> None:
        if settings.files_bucket is None:
            raise RefusedError("没有设置存储桶（KADUN_FILES_BUCKET）", "no bucket is set (KADUN_FILES_BUCKET)")
        self.database = database
        self.folder = Blobs(settings.files_dir)
        self.bucket = bucket_objects(settings.files_bucket)

    def run(self, to: str) -> Iterator[MovedFiles]:
        """Move every file into one of `PLACES`, and tell of each when it is done; BucketUnavailableError ends it."""
        names: dict[Blob, list[str]] = {}
        for row in files():
            names.setdefault(Blob(row.sha256, row.size), []).append(row.name)
        copy = self._to_bucket if to == BUCKET else self._to_folder
        for blob, of in names.items():
            left = None
            try:
                copy(blob)
                self._remove_original(blob, to)
            except RefusedError as error:
                left = error.text
            except OSError as error:
                left = Text(f"{error.strerror}", f"{error.strerror}")
            yield MovedFiles(tuple(of), blob.sha256, left)

    def _to_bucket(self, blob: Blob) -> None:
        if not self.folder.holds(blob):
            self._require_in_bucket(blob)
        elif not self._is_intact_in_bucket(blob):
            if not _is_intact(blob, self.folder.open(blob)):
                raise _altered()
            self.bucket.put(blob.sha256, self.folder.path(blob))
            if not self._is_intact_in_bucket(blob):
                raise RefusedError("存储桶中的内容与上传的不同", "the bucket has other bytes than were uploaded")

    def _to_folder(self, blob: Blob) -> None:
        if self.folder.holds(blob) and _is_intact(blob, self.folder.open(blob)):
            return
        self._require_in_bucket(blob)
        with self.bucket.open(*blob) as source, self.folder.receiving(source, blob.size) as received:
            if received.blob != blob:
                raise _altered()
            self.folder.install(received)

    def _is_intact_in_bucket(self, blob: Blob) -> bool:
        try:
            return _is_intact(blob, self.bucket.open(*blob))
        except FileNotFoundError:
            return False

    def _require_in_bucket(self, blob: Blob) -> None:
        if self.bucket.size(blob.sha256) != blob.size:
            raise RefusedError("内容丢失，请重新添加", "the content is lost: add the file again")

    def _remove_original(self, blob: Blob, to: str) -> None:
        """Remove the original, unless the copy is gone meanwhile; of a file that was removed meanwhile, both."""
        with self.database.transact():
            lock_files(self.database)
            wanted = is_wanted(blob.sha256)
            in_bucket = self.bucket.size(blob.sha256) == blob.size
            if wanted and not (in_bucket if to == BUCKET else self.folder.holds(blob)):
                raise RefusedError(
                    "另一条命令刚移动了内容，请再运行一次", "another command has just moved the content: run this again"
                )
            if to == BUCKET or not wanted:
                self.folder.remove(blob.sha256)
            if to == FOLDER or not wanted:
                self.bucket.remove(blob.sha256)


def _is_intact(blob: Blob, content: BinaryIO) -> bool:
    with content:
        digest = hashlib.file_digest(content, "sha256")  # type: ignore[arg-type]  # only the type lacks `readinto`
    return digest.hexdigest() == blob.sha256


def _altered() -> RefusedError:
    return RefusedError("内容被改动，请重新添加", "the content was altered: add the file again")
