"""The bytes of licensed files in an S3-compatible bucket, each object named by its SHA-256 (docs/adr/0011).

Files that are still in the folder are read from there, so that files move between the two while clients download them.
"""

import hashlib
import io
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar, cast

from app import hub
from app.domain.buckets import Bucket
from app.domain.errors import BucketUnavailableError
from app.domain.texts import Text
from app.storage.blobs import Blob, Blobs, Location, Received

Result = TypeVar("Result")

_PREFIX = "files/"
_QUESTIONS_AT_ONCE = 4
_WAIT_SECONDS = 5.0
_KNOWN_SECONDS = 10.0
"""How long a download believes another's answer, so that many of one file do not take the threads from the others."""
_BUSY = Text("等待存储桶的请求过多", "too many requests wait for the bucket")
_OTHER_SIZE = Text("上传后存储桶中的大小不符", "after its upload the object has another size")
_OTHER_BYTES = Text("读到的内容与写入的不同", "other bytes came back than were written")
_GONE = Text("刚写入的对象不存在", "the object that was just written does not exist")


class Probe(NamedTuple):
    """What happened to a small object that was written, looked up, listed, read and removed.

    `fault` is the first step that failed, and why. `clock_offset_seconds` is how far the bucket's clock is ahead, to
    a second or so, if it could be told.
    """

    fault: Text | None
    clock_offset_seconds: float | None


class BucketBlobs:
    """The bucket, and the folder where bytes wait while they are uploaded.

    Every method raises BucketUnavailableError where it needs the bucket and cannot use it.
    """

    def __init__(self, bucket: Bucket, folder: Blobs) -> None:
        from app.storage.objects import Objects  # noqa: PLC0415  # 7 MB that other installations do without

        self._objects = Objects(bucket)
        self.folder = folder
        self._threads = hub.OwnThreads(_QUESTIONS_AT_ONCE, _WAIT_SECONDS)
        self._known: dict[Blob, float] = {}

    def missing(self, blobs: Collection[Blob]) -> set[Blob]:
        """Return those whose bytes are neither in the bucket nor in the folder."""
        elsewhere = self.folder.missing(blobs)
        names = {_name(blob) for blob in elsewhere}
        sizes = self._ask(lambda: self._objects.sizes(_PREFIX, names)) if names else {}
        return {blob for blob in elsewhere if sizes.get(_name(blob)) != blob.size}

    def may_hold(self, _blob: Blob) -> bool:
        """Tell without asking the bucket: an offer does not wait for it."""
        return True

    def locate(self, blob: Blob) -> Location:
        """Return where nginx finds the bytes: in the folder, or under a signed path of the bucket.

        Raises:
            FileNotFoundError: they are gone, or other bytes are there.
        """
        if self.folder.holds(blob):
            return self.folder.locate(blob)
        if not self._is_known(blob):
            self._ask(lambda: self._require(blob))
        return Location(in_bucket=True, address=self._objects.signed_path(_name(blob)))

    def open(self, blob: Blob) -> BinaryIO:
        """Open the bytes, which are fetched as they are read.

        Raises:
            FileNotFoundError: they are gone, or other bytes are there.
        """
        if self.folder.holds(blob):
            return self.folder.open(blob)
        self._ask(lambda: self._objects.require(_name(blob), blob.size))
        return cast("BinaryIO", self._objects.reader(_name(blob), blob.size))

    def is_intact(self, blob: Blob) -> bool:
        """Read the bytes whole and compare their digest.

        Raises:
            OSError: they are gone.
        """
        return self.folder.is_intact(blob) if self.folder.holds(blob) else self.is_intact_in_bucket(blob)

    @contextmanager
    def receiving(
        self, source: BinaryIO, size: int | None, progress: Callable[[int], None] = lambda _bytes: None
    ) -> Iterator[Received]:
        """Write a stream to the disk, since its digest is the object's name, and upload it.

        Raises:
            RefusedError: the disk has no room, or the stream has another size.
            OSError: the folder or the source cannot be used.
        """
        with self.folder.receiving(source, size, progress) as received:
            self._upload(received.partial, received.blob)
            yield received

    def install(self, received: Received) -> None:
        """Make sure that the object is there: another command may have removed it since it was uploaded.

        A copy in the folder goes: it is read first, and may be what an operator repairs by adding the file again.
        """
        if not self.is_in_bucket(received.blob):
            self._upload(received.partial, received.blob)
        self.folder.remove(received.blob.sha256)

    def remove(self, sha256: str) -> None:
        """Remove the bytes from the bucket and the folder; downloads under way continue."""
        self._objects.remove(_PREFIX + sha256)
        self.folder.remove(sha256)

    def remove_from_bucket(self, blob: Blob) -> None:
        """Remove the object, and leave the folder alone."""
        self._objects.remove(_name(blob))

    def is_in_bucket(self, blob: Blob) -> bool:
        """Tell whether the bucket has an object of this name and size."""
        return self._objects.size(_name(blob)) == blob.size

    def is_intact_in_bucket(self, blob: Blob) -> bool:
        """Read the object whole and compare its digest.

        Raises:
            FileNotFoundError: it does not exist.
        """
        digest = hashlib.sha256()
        for piece in self._objects.pieces(_name(blob), blob.size):
            digest.update(piece)
        return digest.hexdigest() == blob.sha256

    def upload(self, blob: Blob) -> None:
        """Copy bytes from the folder to the bucket.

        Raises:
            OSError: they are not in the folder.
        """
        with self.folder.open(blob) as source:
            self._upload(Path(source.name), blob)

    def download(self, blob: Blob) -> bool:
        """Copy bytes from the bucket to the folder if their digest is right; tell whether it is.

        Raises:
            RefusedError: the disk has no room.
            OSError: the object does not exist, or the folder cannot be used.
        """
        stream = cast("BinaryIO", _Stream(self._objects.pieces(_name(blob), blob.size)))
        with self.folder.receiving(stream, None) as received:
            is_right = received.blob == blob
            if is_right:
                self.folder.install(received)
        return is_right

    def probe(self) -> Probe:
        """Use every right that the service needs, on a small object of its own."""
        name, content = f"probe/{secrets.token_hex(16)}", secrets.token_bytes(16)
        offset: list[float] = []
        began = datetime.now(UTC)

        def look_up() -> None:
            offset.append(clock_offset(self._objects.written_at(name), began, datetime.now(UTC)))

        def read() -> None:
            if b"".join(self._objects.pieces(name, len(content))) != content:
                raise BucketUnavailableError(_OTHER_BYTES)

        steps = (
            (Text("写入", "write"), lambda: self._objects.put(name, content)),
            (Text("查询", "look up"), look_up),
            (Text("列出", "list"), lambda: self._objects.sizes("probe/", [name])),
            (Text("读取", "read"), read),
        )
        fault = next(filter(None, (_fault(*step) for step in steps)), None)  # the first: a silent bucket fails slowly
        left = _fault(Text("删除", "delete"), lambda: self._objects.remove(name))
        return Probe(fault or left, offset[0] if offset else None)

    def _ask(self, question: Callable[[], Result]) -> Result:
        try:
            return self._threads.run(question)
        except TimeoutError as error:
            raise BucketUnavailableError(_BUSY) from error

    def _require(self, blob: Blob) -> None:
        if self._is_known(blob):  # by another download's question, which this one has waited for
            return
        self._objects.require(_name(blob), blob.size)
        now = time.monotonic()
        self._known = {one: end for one, end in self._known.items() if end > now} | {blob: now + _KNOWN_SECONDS}

    def _is_known(self, blob: Blob) -> bool:
        return self._known.get(blob, 0.0) > time.monotonic()

    def _upload(self, path: Path, blob: Blob) -> None:
        self._objects.put(_name(blob), path)
        if not self.is_in_bucket(blob):
            raise BucketUnavailableError(_OTHER_SIZE)


def clock_offset(written_at: datetime, began: datetime, ended: datetime) -> float:
    """Return how many seconds a clock is ahead that says when something was written, in whole seconds.

    Args:
        written_at: What it said of a moment between the other two.
        began: By our clock.
        ended: By our clock.
    """
    if written_at > ended:
        return (written_at - ended).total_seconds()
    return min((written_at + timedelta(seconds=1) - began).total_seconds(), 0.0)


class _Stream(io.RawIOBase):
    """Pieces of bytes as a file that is read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int = -1) -> bytes:
        """Return the next piece, whatever its size; nothing at the end."""
        return next(self._pieces, b"")


def _name(blob: Blob) -> str:
    return _PREFIX + blob.sha256


def _fault(step: Text, work: Callable[[], object]) -> Text | None:
    try:
        work()
    except BucketUnavailableError as error:
        why = error.text
    except FileNotFoundError:
        why = _GONE
    else:
        return None
    return Text(f"无法{step.zh}：{why.zh}", f"cannot {step.en}: {why.en}")
