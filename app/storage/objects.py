"""An S3-compatible bucket's objects, through `obstore`: import this module only where a bucket is set."""

import errno
import io
import logging
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from app.domain.buckets import Bucket, explain
from app.domain.errors import BucketUnavailableError
from app.domain.texts import Text

LISTING = "list of a bucket's objects"
_SIGNED_SECONDS = 60  # nginx uses a signed address at once
_PIECE_BYTES = 1024 * 1024
_PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_ONCE = 2
_LIST_SECONDS = 10.0
_ENDLESS = Text("列出对象的时间过长", "listing its objects takes too long")
listing = threading.Lock()
"""Held by the one list under way in a process: the library does not come back from one of empty pages without end."""
logger = logging.getLogger(__name__)


class Objects:
    """The objects of a bucket, by their names.

    Every method raises BucketUnavailableError where the bucket cannot be used, and those that read an object raise
    FileNotFoundError where it does not exist.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def size(self, name: str) -> int | None:
        """Return an object's size in bytes, None where it does not exist."""
        try:
            with _translated(name):
                return obstore.head(self._quick, name)["size"]
        except FileNotFoundError:
            return None

    def require(self, name: str, size: int) -> None:
        """Check that there is an object of this name and size."""
        if self.size(name) != size:
            raise _gone(name)

    def written_at(self, name: str) -> datetime:
        """Return when an object was written, by the bucket's clock, in whole seconds."""
        with _translated(name):
            return obstore.head(self._quick, name)["last_modified"]

    def sizes(self, prefix: str, names: Collection[str]) -> dict[str, int]:
        """Return the sizes of those of the names that the bucket lists among all that begin with a prefix."""
        done: Future[dict[str, int]] = Future()
        if not listing.acquire(timeout=_LIST_SECONDS):
            raise BucketUnavailableError(_ENDLESS)
        threading.Thread(target=self._list, args=(prefix, names, done), name=LISTING, daemon=True).start()
        try:
            return done.result(_LIST_SECONDS)
        except TimeoutError as error:
            raise BucketUnavailableError(_ENDLESS) from error

    def _list(self, prefix: str, names: Collection[str], done: "Future[dict[str, int]]") -> None:
        found, end = {}, time.monotonic() + _LIST_SECONDS
        try:
            with _translated(prefix):
                for page in obstore.list(self._quick, prefix):
                    if time.monotonic() > end:
                        raise TimeoutError  # noqa: TRY301  # as where the library does not come back
                    found.update({one["path"]: one["size"] for one in page if one["path"] in names})
            done.set_result(found)
        except Exception as error:  # noqa: BLE001  # raised where the result is awaited
            done.set_exception(error)
        finally:
            listing.release()

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        """Read an object of this size from its beginning to its end; of a longer one, at most a piece more."""
        with _translated(name):
            for piece in obstore.get(self._patient, name).stream(min_chunk_size=_PIECE_BYTES):
                yield bytes(piece)
                size -= len(piece)
                if size < 0:
                    return

    def reader(self, name: str, size: int) -> io.RawIOBase:
        """Open an object of this size, which is fetched as it is read."""
        return _Reader(obstore.open_reader(self._patient, name, size=size), name)

    def put(self, name: str, content: Path | bytes) -> None:
        """Write an object, whole or not at all."""
        store = self._quick if isinstance(content, bytes) else self._patient
        with _translated(name):
            obstore.put(store, name, content, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)

    def remove(self, name: str) -> None:
        """Remove an object, if it exists."""
        try:
            with _translated(name):
                obstore.delete(self._quick, name)
        except FileNotFoundError:
            return

    def signed_path(self, name: str) -> str:
        """Return the path and query that read an object for a minute, without asking the bucket."""
        url = obstore.sign(self._quick, "GET", name, timedelta(seconds=_SIGNED_SECONDS))
        return url.split("/", 3)[3]

    @cached_property
    def _quick(self) -> S3Store:
        """For questions that somebody waits for."""
        return self._store(retries=0, timeout=timedelta(seconds=5))

    @cached_property
    def _patient(self) -> S3Store:
        """For bytes, however many; given up where nothing moves."""
        return self._store(retries=3, timeout=timedelta(days=1), read_timeout=timedelta(seconds=30))

    def _store(self, *, retries: int, **client_options: Any) -> S3Store:  # noqa: ANN401  # durations
        bucket = self._bucket
        if bucket.certificates is not None:
            client_options["root_certificate"] = bucket.certificates
        if bucket.proxy is not None:
            client_options["proxy_url"] = bucket.proxy
        return S3Store(
            bucket.name,
            endpoint=bucket.origin,
            region=bucket.region,
            access_key_id=bucket.key_id,
            secret_access_key=bucket.secret,
            virtual_hosted_style_request=bucket.virtual_hosted,
            disable_bulk_delete=True,  # not every vendor has it
            client_options={"connect_timeout": timedelta(seconds=2), **client_options},  # type: ignore[arg-type]
            retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=30)},
        )


class _Reader(io.RawIOBase):
    """An object as a file that can be read from anywhere."""

    def __init__(self, file: Any, name: str) -> None:  # noqa: ANN401  # obstore's ReadableFile
        self._file = file
        self._name = name

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset."""
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  # a buffer
        """Read what comes next; a bucket that fails is a disk that fails."""
        try:
            with _translated(self._name):
                piece = bytes(self._file.read(len(buffer)))
        except BucketUnavailableError as error:
            raise OSError(errno.EIO, str(error), self._name) from error
        buffer[: len(piece)] = piece
        return len(piece)


def _gone(name: str) -> FileNotFoundError:
    """Return the error for an object that does not exist."""
    return FileNotFoundError(errno.ENOENT, "not in the bucket", name)


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Turn the library's errors into ours: a missing object, or a bucket that cannot be used."""
    try:
        yield
    except FileNotFoundError as error:
        if "<Code>NoSuchBucket</Code>" in str(error):
            raise _unavailable(error) from error
        raise _gone(name) from error
    except BaseError as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> BucketUnavailableError:
    text = explain(str(error))
    logger.warning("bucket unavailable", extra={"reason": text.en})
    return BucketUnavailableError(text)
