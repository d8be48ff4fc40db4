"""Moves of licensed files between the folder and the bucket, while clients download them.

With a bucket set, the service reads a file from the folder if it is there, else from the bucket. A move copies the
bytes, reads the copy back, compares its digest, and only then removes the original: it can be interrupted and repeated.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from app.domain.errors import BucketUnavailableError
from app.domain.texts import RefusedError, Text
from app.settings import Settings
from app.storage import files
from app.storage.blob_store import blob_store
from app.storage.blobs import Blob
from app.storage.bucket_blobs import BucketBlobs
from app.storage.database import Database


class Place(StrEnum):
    """Where a file's bytes are to be."""

    BUCKET = "bucket"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Move:
    """What became of the bytes of some files, which may be the same; `left` is why they were not moved."""

    names: tuple[str, ...]
    blob: Blob
    was_there: bool = False
    left: Text | None = None


_ALTERED = Text("内容被改动，请重新添加", "the content was altered: add the file again")
_MOVED = Text("另一条命令刚移动了内容，请再运行一次", "another command has just moved the content: run this again")
_LOST = Text("内容丢失，请重新添加", "the content is lost: add the file again")


@dataclass(frozen=True, slots=True)
class FileMoves:
    """Moves the files of one installation."""

    database: Database
    blobs: BucketBlobs

    @classmethod
    def of_installation(cls, database: Database, settings: Settings) -> Self:
        """Return the moves of the installation that has these settings.

        Raises:
            RefusedError: no bucket is set.
        """
        blobs = blob_store(settings.files_dir, settings.files_bucket)
        if not isinstance(blobs, BucketBlobs):
            raise RefusedError("没有设置存储桶（KADUN_FILES_BUCKET）", "no bucket is set (KADUN_FILES_BUCKET)")
        return cls(database, blobs)

    def run(self, to: Place) -> Iterator[Move]:
        """Move every file, one after the other; tell of each when it is done.

        Files that share their bytes are one move. Once the bucket is unavailable, the rest is left.
        """
        names: dict[Blob, list[str]] = {}
        for row, _ in self.database.with_connection(files.listed):
            names.setdefault(Blob(row.sha256, row.size), []).append(row.name)
        move = self._to_bucket if to is Place.BUCKET else self._to_folder
        away: Text | None = None
        for blob, of in names.items():
            was_there, left = False, away
            if away is None:
                try:
                    was_there, left = move(blob)
                except BucketUnavailableError as error:
                    away = left = error.text
                except RefusedError as error:
                    left = error.text
                except OSError as error:
                    left = Text(f"{error.strerror}", f"{error.strerror}")
            yield Move(tuple(of), blob, was_there=was_there, left=left)

    def _to_bucket(self, blob: Blob) -> tuple[bool, Text | None]:
        blobs = self.blobs
        if not blobs.folder.holds(blob):
            return (True, None) if blobs.is_in_bucket(blob) else (False, _LOST)
        if not (blobs.is_in_bucket(blob) and blobs.is_intact_in_bucket(blob)):
            if not blobs.folder.is_intact(blob):
                return False, _ALTERED
            blobs.upload(blob)
            if not blobs.is_intact_in_bucket(blob):
                return False, Text("存储桶中的内容与上传的不同", "the bucket has other bytes than were uploaded")
        return False, self._settle(blob, Place.BUCKET)

    def _to_folder(self, blob: Blob) -> tuple[bool, Text | None]:
        blobs = self.blobs
        was_there = blobs.folder.holds(blob) and blobs.folder.is_intact(blob)
        if not was_there:
            if not blobs.is_in_bucket(blob):
                return False, _ALTERED if blobs.folder.holds(blob) else _LOST
            if not blobs.download(blob):
                return False, _ALTERED
        return was_there, self._settle(blob, Place.FOLDER)

    def _settle(self, blob: Blob, place: Place) -> Text | None:
        """Remove the original; and the copy, too, if its file was removed meanwhile.

        Nothing is removed where another command took the copy away meanwhile: the original is then the only one.
        """
        blobs = self.blobs

        def settle() -> Text | None:
            with self.database.atomic():
                files.lock(self.database)
                if not files.is_wanted(blob.sha256):
                    blobs.remove(blob.sha256)
                elif not (blobs.is_in_bucket(blob) if place is Place.BUCKET else blobs.folder.holds(blob)):
                    return _MOVED
                elif place is Place.BUCKET:
                    blobs.folder.remove(blob.sha256)
                else:
                    blobs.remove_from_bucket(blob)
                return None

        return self.database.with_connection(settle)
