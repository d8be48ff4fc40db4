"""A bucket that answers without end, slowly, or not at all keeps the app waiting no longer than it has to."""

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.domain.buckets import Bucket
from app.domain.errors import BucketUnavailableError
from app.storage import bucket_blobs, objects
from app.storage.blobs import Blob, Blobs
from app.storage.bucket_blobs import BucketBlobs
from tests.support.bucket_host import Quiet, TlsFront, serving
from tests.support.hub_thread import HubThread
from tests.support.pki import Issued
from tests.support.service import wait_for

BLOB = Blob("0" * 64, 10_000)
LOOKED_UP = Blob("1" * 64, 16)
ENDLESS_BYTES = 10**12
PAGE = "<ListBucketResult>{}<KeyCount>{}</KeyCount>{}</ListBucketResult>"
MORE = "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>"
ENTRY = """<Contents><Key>files/{}</Key><LastModified>2026-11-28T09:00:00.000Z</LastModified><ETag>"x"</ETag>
<Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>"""


class _Bucket(Quiet, BaseHTTPRequestHandler):
    """Lists objects without end, and sends bytes without end."""

    protocol_version = "HTTP/1.1"
    pages = itertools.count()
    is_endless: bool
    entries: str
    sent: int
    asked: list[str]
    heads: list[str]
    may_answer = threading.Event()

    def do_GET(self) -> None:
        if "list-type=2" in self.path:
            more = MORE.format(next(self.pages)) if self.is_endless else ""
            self._answer(PAGE.format(more, self.entries.count("<Key>"), self.entries).encode())
            return
        self._head(ENDLESS_BYTES)
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client has read enough
            for _ in range(64):
                self.wfile.write(bytes(1024 * 1024))
                type(self).sent += 1

    def do_HEAD(self) -> None:
        self.heads.append(self.path)
        self.may_answer.wait(60)
        self._head(LOOKED_UP.size)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"")

    def do_DELETE(self) -> None:
        self.asked.append(self.path)
        self._answer(b"")

    def _answer(self, content: bytes) -> None:
        self._head(len(content))
        self.wfile.write(content)

    def _head(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.send_header("Last-Modified", "Sat, 28 Nov 2026 09:00:00 GMT")
        self.send_header("ETag", '"x"')
        self.end_headers()


@pytest.fixture
def front(tmp_path: Path, authority: Issued) -> Iterator[TlsFront]:
    _Bucket.is_endless, _Bucket.entries, _Bucket.sent, _Bucket.asked, _Bucket.heads = True, "", 0, [], []
    _Bucket.may_answer.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Bucket)
    with serving(server), TlsFront(tmp_path, Issued.make("localhost", issuer=authority), server.server_port) as front:
        yield front


@pytest.fixture
def blobs(front: TlsFront, authority: Issued, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketBlobs]:
    monkeypatch.setattr(objects, "_LIST_SECONDS", 0.5)
    endpoint, certificates = f"https://localhost:{front.port}", authority.pem.decode()
    bucket = Bucket("files", endpoint, "x", "key", "secret", virtual_hosted=False, certificates=certificates)
    yield BucketBlobs(bucket, Blobs(tmp_path / "files"))
    _Bucket.is_endless = False
    assert is_free()


def is_free() -> bool:
    """Wait until no list is under way."""
    is_free = objects.listing.acquire(timeout=60)
    if is_free:
        objects.listing.release()
    return is_free


def test_a_list_without_end_is_given_up(blobs: BucketBlobs) -> None:
    _Bucket.entries = "".join(ENTRY.format(number) for number in range(50))
    with pytest.raises(BucketUnavailableError, match="takes too long"):
        blobs.missing({BLOB})
    assert is_free()


def test_a_list_of_empty_pages_without_end_keeps_one_thread_whoever_asks_again(
    blobs: BucketBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        with pytest.raises(BucketUnavailableError, match="takes too long"):
            blobs.missing({BLOB})
    assert sum(thread.name == objects.LISTING for thread in threading.enumerate()) == 1
    _Bucket.is_endless = False
    assert is_free()
    monkeypatch.setattr(objects, "_LIST_SECONDS", 60)
    assert blobs.missing({BLOB}) == {BLOB}


def test_of_an_object_without_end_little_more_is_read_than_it_should_have(blobs: BucketBlobs, tmp_path: Path) -> None:
    assert not blobs.is_intact(BLOB)
    assert not blobs.download(BLOB)
    assert not list((tmp_path / "files").iterdir())
    assert _Bucket.sent < 64


def test_a_probe_reads_no_more_than_it_wrote_and_leaves_nothing(
    blobs: BucketBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects.Objects, "sizes", lambda *_: {})
    fault = blobs.probe().fault
    assert fault is not None
    assert fault.en == "cannot read: other bytes came back than were written"
    assert _Bucket.sent < 64
    assert len(_Bucket.asked) == 1


def test_a_probe_of_a_silent_bucket_ends_with_its_first_fault(
    blobs: BucketBlobs, front: TlsFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    front.silent = True
    for further in ("written_at", "sizes", "pieces"):
        monkeypatch.setattr(objects.Objects, further, lambda *_: pytest.fail("asked again"))
    fault = blobs.probe().fault
    assert fault is not None
    assert fault.en.startswith("cannot write: the bucket cannot be reached")


def test_a_found_file_is_remembered_for_some_seconds_and_an_absent_one_is_not(
    blobs: BucketBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        assert blobs.locate(LOOKED_UP).in_bucket
        with pytest.raises(FileNotFoundError):
            blobs.locate(BLOB)
    assert Counter(path[-64:] for path in _Bucket.heads) == {LOOKED_UP.sha256: 1, BLOB.sha256: 3}
    later = time.monotonic() + 11
    monkeypatch.setattr(bucket_blobs, "time", SimpleNamespace(monotonic=lambda: later))
    blobs.locate(LOOKED_UP)
    assert len(_Bucket.heads) == 5


def test_downloads_of_one_file_wait_for_one_answer_and_others_need_no_thread(
    blobs: BucketBlobs, hub_thread: HubThread
) -> None:
    known = LOOKED_UP._replace(sha256="2" * 64)
    hub_thread.call(lambda: blobs.locate(known))
    _Bucket.may_answer.clear()
    waiting = hub_thread.begin_all([lambda: blobs.locate(LOOKED_UP)] * 20)
    wait_for(lambda: len(_Bucket.heads) == 5)  # all threads are taken
    assert hub_thread.call(lambda: blobs.locate(known)).in_bucket
    _Bucket.may_answer.set()
    assert all(one.result(60).in_bucket for one in waiting)
    assert len(_Bucket.heads) == 5
