"""What a store of licensed files' bytes does, and which one an installation has."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from app.domain.buckets import Bucket
from app.storage.blobs import Blob, Blobs, Location, Received
from app.storage.bucket_blobs import BucketBlobs


class BlobStore(Protocol):
    """Bytes by their digest. `Blobs` keeps them in a folder, `BucketBlobs` in a bucket; both say what is raised."""

    def missing(self, blobs: Collection[Blob]) -> set[Blob]:
        """Return those whose bytes are not there."""

    def may_hold(self, blob: Blob) -> bool:
        """Tell whether the bytes may be there, without asking another machine."""

    def locate(self, blob: Blob) -> Location:
        """Return where nginx finds the bytes."""

    def open(self, blob: Blob) -> BinaryIO:
        """Open the bytes."""

    def is_intact(self, blob: Blob) -> bool:
        """Read the bytes whole and compare their digest."""

    def receiving(
        self, source: BinaryIO, size: int | None, progress: Callable[[int], None] = ...
    ) -> AbstractContextManager[Received]:
        """Take a stream in, and forget it at the end unless it was installed."""

    def install(self, received: Received) -> None:
        """Install received bytes durably under their digest."""

    def remove(self, sha256: str) -> None:
        """Remove the bytes; downloads under way continue."""


def blob_store(folder: Path, bucket: Bucket | None) -> BlobStore:
    """Return the store of an installation: its bucket, or its folder."""
    return Blobs(folder) if bucket is None else BucketBlobs(bucket, Blobs(folder))
