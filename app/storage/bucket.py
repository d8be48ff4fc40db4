"""The bytes of licensed files in an S3-compatible bucket, through `obstore`: import this only where a bucket is set.

Each object is named by its SHA-256 (docs/decisions.md). Every function but `sign` raises BucketUnavailableError where
the bucket cannot be used.
"""

import io
import logging
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from app.domain.errors import BucketUnavailableError
from app.domain.files.buckets import Bucket
from app.domain.texts import Text

_PREFIX = "files/"
_SIGNED_SECONDS = 300
"""nginx uses a signed address at once; the rest is for a clock that is behind the bucket's."""
_PART_BYTES = 8 * 1024 * 1024
_PARTS_AT_ONCE = 2
_REASONS = (
    re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>"),
    re.compile(r"status code: ([0-9]{3}[ A-Za-z]{0,40})"),
    re.compile(r"(InvalidCertificate|dns error|tcp connect error|operation timed out)"),
)
"""Where the library's errors say why, the most telling first."""
logger = logging.getLogger(__name__)


class BucketObjects:
    """The objects of a bucket, by the SHA-256 of their content."""

    def __init__(self, bucket: Bucket) -> None:
        # For questions that somebody waits for.
        self._quick = _store(bucket, retries=0, timeout=timedelta(seconds=5))
        # For bytes, however many; given up where nothing moves.
        self._patient = _store(bucket, retries=3, timeout=timedelta(days=1), read_timeout=timedelta(seconds=30))

    def put(self, sha256: str, content: Path) -> None:
        """Write an object, whole or not at all."""
        with _translated():
            obstore.put(
                self._patient, _PREFIX + sha256, content, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
            )

    def size(self, name: str, prefix: str = _PREFIX) -> int | None:
        """Return an object's size in bytes, None where it does not exist."""
        try:
            with _translated():
                return obstore.head(self._quick, prefix + name)["size"]
        except FileNotFoundError:
            return None

    def sizes(self, prefix: str = _PREFIX) -> dict[str, int]:
        """Return the sizes of all objects."""
        with _translated():
            found = [each for page in obstore.list(self._quick, prefix) for each in page]
        return {each["path"].removeprefix(prefix): each["size"] for each in found}

    def remove(self, name: str, prefix: str = _PREFIX) -> None:
        """Remove an object, if it exists."""
        with _translated(), suppress(FileNotFoundError):
            obstore.delete(self._quick, prefix + name)

    def sign(self, sha256: str) -> str:
        """Return the path and query that read an object for some minutes, without asking the bucket."""
        url = obstore.sign(self._quick, "GET", _PREFIX + sha256, timedelta(seconds=_SIGNED_SECONDS))
        return url.split("/", 3)[3]

    def open(self, sha256: str, size: int) -> BinaryIO:
        """Open an object of this size, to be fetched as it is read; FileNotFoundError if there is none."""
        if self.size(sha256) != size:
            raise FileNotFoundError(sha256)
        file = obstore.open_reader(self._patient, _PREFIX + sha256, buffer_size=_PART_BYTES, size=size)
        return cast("BinaryIO", _Reader(file))

    def check(self) -> None:
        """Write a small object, look it up, list it, and remove it: each needs a right."""
        name, prefix = secrets.token_hex(16), "probe/"
        with _translated():
            obstore.put(self._quick, prefix + name, b"probe")
        try:
            if self.size(name, prefix) is None or name not in self.sizes(prefix):
                raise BucketUnavailableError(Text("刚写入的对象不存在", "what was just written is not there"))
        finally:
            self.remove(name, prefix)


class _Reader(io.RawIOBase):
    """An object as a file."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401  # obstore's ReadableFile
        self._file = file

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        with _translated():
            piece = bytes(self._file.read(len(buffer)))
        buffer[: len(piece)] = piece
        return len(piece)


def _store(bucket: Bucket, *, retries: int, **client_options: Any) -> S3Store:  # noqa: ANN401  # durations
    if bucket.certificates is not None:
        client_options["root_certificate"] = bucket.certificates
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


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the library's errors into ours. A missing object stays a FileNotFoundError; a missing bucket does not."""
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error):
            raise
        found = next(filter(None, (reason.search(str(error)) for reason in _REASONS)), None)
        why = found[1].strip() if found else str(error).strip().partition("\n")[0][:200]
        logger.warning("bucket unavailable", extra={"reason": why})
        raise BucketUnavailableError(
            Text(
                f"{why}（请检查 KADUN_FILES_BUCKET 的各项设置与本机时钟）",
                f"{why} (check the settings KADUN_FILES_BUCKET… and this machine's clock)",
            )
        ) from error
