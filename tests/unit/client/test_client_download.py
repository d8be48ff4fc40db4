"""Downloads: complete and put in place at once, resumed after interruptions, or ended without the file."""
# Owns client-download.

import hashlib
import json
import queue
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from kadun import CardRejected, Client, DownloadFailed, ServerUnreachable, UntrustedAnswer
from kadun.partial_file import Offer, PartialFile
from kadun.transport import HttpTransport

from tests.support.client import fakes, local_http
from tests.support.client.fakes import FakeServer, MakeClient, claims_for, full_disk, left_in, reject, setting
from tests.support.client.local_http import LONG_SECONDS, SOON_SECONDS, Handler, LocalServer, Respond, StalledQueue
from tests.support.tables import for_each

NAME = "模型.bin"
SIZE = 300_000
CONTENT = hashlib.shake_128(b"a model").digest(SIZE)
WHOLE, RESUMED = None, "bytes=100000-"
Fetch = Callable[..., bytes]
Fails = Callable[..., DownloadFailed]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class FileServer:
    """Answers POST with a signed list of its one file, and GET with the bytes; `script` stands before the truth."""

    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake
        self.content = CONTENT
        self.ranges_served = True
        self.changes: dict[str, Any] = {}  # to the entry in the list
        self.script: list[Respond] = []
        self.links_issued = 0
        self.gets: list[tuple[str, str | None]] = []  # the path and the range
        fake.genuine = self.listing  # type: ignore[method-assign]

    @property
    def ranges(self) -> list[str | None]:
        return [asked for _path, asked in self.gets]

    def __call__(self, handler: Handler, body: bytes) -> None:
        if handler.command == "POST":
            self.links_issued += 1
            handler.send(200, self.fake.exchange(handler.path, body, "").body, Content_Type="application/json")
            return
        self.gets.append((handler.path, handler.headers.get("Range")))
        respond = self.script.pop(0) if self.script else self.serve
        respond(handler, body)

    def listing(self, request: dict[str, Any]) -> Any:
        claims = claims_for(request)
        url = f"/v1/files/{quote(NAME)}?token=link{self.links_issued}"
        entry = {"name": NAME, "size": len(self.content), "sha256": sha256(self.content), "url": url, **self.changes}
        claims["files"] = [{"name": "other.txt", "size": 1, "sha256": "0" * 64, "url": "/o"}, entry]
        self.fake.tweak(claims)
        return fakes.verdict_response(self.fake.key.token(claims))

    def serve(self, handler: Handler, _body: bytes = b"", *, sent: int | None = None) -> None:
        """Send what is asked for; only the first `sent` bytes of it, should that be told."""
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(asked.group(1)) if asked and self.ranges_served else 0
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(self.content) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        handler.end_headers()
        handler.wfile.write(self.content[start:][:sent])

    def cut_after(self, sent: int) -> Respond:
        return lambda handler, _body: self.serve(handler, sent=sent)


def refuse(handler: Handler, _body: bytes = b"") -> None:
    handler.send(403, b"{}")


@pytest.fixture
def files(server: FakeServer) -> FileServer:
    return FileServer(server)


@pytest.fixture
def local(files: FileServer) -> Iterator[LocalServer]:
    with local_http.serving(files) as running:
        yield running


@pytest.fixture
def downloader(local: LocalServer, make_client: MakeClient) -> Client:
    return make_client(transport=HttpTransport(local.url, timeout_seconds=LONG_SECONDS))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / NAME


@pytest.fixture
def fetch(downloader: Client, target: Path) -> Fetch:
    """Download the file, and return what is at the target then."""
    return lambda **more: downloader.download(NAME, target, **more).read_bytes()


@pytest.fixture
def fails(downloader: Client, target: Path) -> Fails:
    """The error of a download that must fail."""

    def fails(name: str = NAME, to: Path = target) -> DownloadFailed:
        with pytest.raises(DownloadFailed) as caught:
            downloader.download(name, to)
        return caught.value

    return fails


def test_a_file_is_fetched_once_and_put_in_place(fetch: Fetch, files: FileServer, target: Path) -> None:
    progress: list[tuple[int, int]] = []
    assert fetch(on_progress=lambda *now: progress.append(now)) == CONTENT
    assert left_in(target.parent) == [NAME]
    assert progress == sorted(progress)
    assert progress[-1] == (SIZE, SIZE)
    assert [request["function"] for request in files.fake.requests] == ["文件下载"]
    assert files.fake.paths == ["/v1/files"]
    progress.clear()
    fetch(on_progress=lambda *now: progress.append(now))
    assert (len(files.gets), progress) == (1, [(SIZE, SIZE)])
    (target.parent / "elsewhere").mkdir()
    elsewhere = target.parent / "elsewhere" / "model"
    target.unlink()
    target.symlink_to(elsewhere)
    fetch()
    assert target.is_symlink()
    assert elsewhere.read_bytes() == CONTENT
    files.content = b""
    assert fetch() == b""
    assert (len(files.gets), left_in(target.parent)) == (2, ["elsewhere", NAME])


def publish(files: FileServer, handler: Handler) -> None:
    files.content = CONTENT[::-1]
    refuse(handler)


@for_each(
    "respond, requests, links",
    [
        (lambda files, handler: files.serve(handler, sent=150_000), [WHOLE, RESUMED, "bytes=250000-"], 1),
        (lambda files, handler: handler.send(200, files.content), [WHOLE, RESUMED], 1),  # no ranges
        (lambda _files, handler: handler.send(416, b""), [WHOLE, RESUMED, WHOLE], 1),  # no such range
        (lambda _files, handler: refuse(handler), [WHOLE, RESUMED, RESUMED], 2),  # an expired link
        (publish, [WHOLE, RESUMED, WHOLE], 2),  # a new version
    ],
)
def test_a_download_that_broke_off_is_resumed_or_begins_anew(
    respond: Callable[[FileServer, Handler], None],
    requests: list[object],
    links: int,
    fetch: Fetch,
    files: FileServer,
    target: Path,
) -> None:
    target.unlink(missing_ok=True)
    files.gets.clear()
    files.links_issued = 0
    files.script = [files.cut_after(100_000), lambda handler, _body: respond(files, handler)]
    assert fetch() == files.content
    assert (files.ranges, files.links_issued) == (requests, links)
    assert files.gets[-1][0].endswith(f"token=link{links}")


NOTE = json.dumps({"sha256": sha256(CONTENT)})


@for_each(
    "part, note, requests",
    [
        (bytes(100_000), NOTE, [RESUMED, WHOLE]),  # zeros, as after a power cut
        (CONTENT, NOTE, []),
        (CONTENT[:100_000], f'{NOTE[:-1]}, "etag": "v1"}}', [RESUMED]),  # as release 1.0 wrote it
        *((CONTENT[:100_000], note, [WHOLE]) for note in ("", "[]", "{}", '{"sha256": 1}', "\udcff")),
    ],
)
def test_what_an_earlier_try_left_is_used_as_far_as_it_is_right(
    part: bytes, note: str, requests: list[object], fetch: Fetch, files: FileServer, target: Path
) -> None:
    target.unlink(missing_ok=True)
    files.gets.clear()
    Path(f"{target}.part").write_bytes(part)
    Path(f"{target}.part.json").write_bytes(note.encode("utf-8", "surrogateescape"))
    assert fetch() == CONTENT
    assert files.ranges == requests


def test_tries_with_progress_do_not_count_and_a_busy_server_says_when_to_ask_again(
    fetch: Fetch, files: FileServer, pauses: list[float], target: Path
) -> None:
    files.script = [files.cut_after(70_000) for _ in range(4)]
    fetch()
    assert (len(files.gets), len(pauses)) == (5, 4)
    assert max(pauses) <= 0.5  # after a fruitful try the pauses begin anew
    target.unlink()
    files.script = [lambda handler, _body: handler.send(503, b"", Retry_After="4")]
    assert fetch() == CONTENT
    assert 4 < pauses[4] <= 4.5
    target.unlink()
    files.script = [files.cut_after(0)] * 9
    with pytest.raises(ServerUnreachable):
        fetch()
    assert len(files.script) == 6


def test_a_stalled_download_is_resumed(fetch: Fetch, files: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "Queue", StalledQueue)
    received = threading.Event()

    def hang(handler: Handler, _body: bytes) -> None:
        files.serve(handler, sent=100_000)
        received.wait(SOON_SECONDS)
        local_http.stall(handler)

    files.script = [hang]
    assert fetch(on_progress=lambda done, _total: received.set() if done >= 100_000 else None) == CONTENT
    assert files.ranges == [WHOLE, RESUMED]


def test_a_slow_callback_does_not_count_as_a_slow_server(
    fetch: Fetch, files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("kadun.transport.time", clock)
    called = threading.Semaphore(0)

    def dawdle(_done: int, _total: int) -> None:
        clock.now += 10 * LONG_SECONDS
        called.release()

    def send_pieces(handler: Handler, _body: bytes) -> None:
        files.serve(handler, sent=0)
        for start in range(0, 500, 100):  # less than restarts the time limit
            handler.wfile.write(CONTENT[start : start + 100])
            called.acquire(timeout=SOON_SECONDS)

    files.content, files.script = CONTENT[:500], [send_pieces]
    assert fetch(on_progress=dawdle) == CONTENT[:500]
    assert len(files.gets) == 1


def test_a_slow_callback_loses_nothing_of_what_waits_for_it_and_may_leave(
    fetch: Fetch, files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, seen = threading.Event(), list[int]()

    class Queue(queue.Queue[Any]):
        def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002 - the original's
            if self.full():
                waits.set()
            super().put(item, block, timeout)

    def dawdle(done: int, _total: int) -> None:
        waits.wait(SOON_SECONDS)
        seen.append(done)
        if len(seen) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(queue, "Queue", Queue)
    files.content = CONTENT * 20  # more than the stream reads ahead
    with pytest.raises(KeyboardInterrupt):
        fetch(on_progress=dawdle)
    local_http.wait_until(lambda: not local_http.threads("kadun-request"))
    assert waits.is_set()
    assert fetch(on_progress=dawdle) == CONTENT * 20
    assert files.ranges == [WHOLE, f"bytes={seen[0]}-"]


def test_a_server_that_refuses_a_new_link_is_given_up(fails: Fails, files: FileServer, target: Path) -> None:
    files.script = [refuse] * 9
    assert (fails().reason, len(files.gets), left_in(target.parent)) == ("refused", 2, [])


def test_a_rejected_card_gets_no_file_and_no_further_link(fetch: Fetch, files: FileServer, target: Path) -> None:
    def freeze(handler: Handler, body: bytes) -> None:
        files.fake.tweak = reject("CARD_FROZEN")
        refuse(handler, body)

    files.script = [freeze]
    for _ in range(2):
        with pytest.raises(CardRejected, match="冻结"):
            fetch()
    assert (len(files.gets), left_in(target.parent)) == (1, [])


ELSEWHERE = ["http://other/x", "//other/x", "/\\other/x", "\\\\other/x", "@other/x", ":80@other/x", ".other/x"]
NO_PATH = ["v1/files/x", "", "/x#y", "/x y", "/x\r\nX: y", "/文件", "/" + "x" * 5000, 7, None]


@for_each(
    "changes, tweak, problem",
    [
        *(({"size": size}, setting(), "claim files") for size in (-1, True, 1.5, "7", None)),
        *(({"sha256": digest}, setting(), "claim files") for digest in ("0" * 63, "G" * 64, None)),
        ({"name": "other.txt"}, setting(), "claim files"),  # named twice then
        *(({"url": url}, setting(), "not a path on the same server") for url in (*ELSEWHERE, *NO_PATH)),
        *(({}, setting(files=listed), "claim files") for listed in (None, {}, "[]")),
        ({}, lambda claims: claims.pop("files"), "claim files"),
    ],
)
def test_a_malformed_list_is_untrusted_and_no_address_on_another_server_is_followed(
    changes: dict[str, Any], tweak: Any, problem: str, downloader: Client, files: FileServer, target: Path
) -> None:
    files.changes, files.fake.tweak = changes, tweak
    with pytest.raises(UntrustedAnswer, match=problem):
        downloader.download(changes.get("name", NAME), target)
    assert (files.gets, left_in(target.parent)) == ([], [])


def test_a_file_with_wrong_content_is_not_installed(fails: Fails, files: FileServer, target: Path) -> None:
    target.write_bytes(b"old")
    files.changes = {"sha256": sha256(b"something else")}
    error = fails()
    assert (error.reason, error.reference) == ("damaged", "REF45678")
    assert error.message == f"文件 {NAME} 下载后校验不符，已丢弃，请重试（参考号 REF45678）"
    assert (target.read_bytes(), left_in(target.parent), len(files.gets)) == (b"old", [NAME], 1)


@for_each(
    "respond",
    [
        lambda handler: handler.send(200, b"<html>sign in</html>", Content_Type="text/html"),
        lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 65_536),  # without an end
        lambda handler: handler.send(206, CONTENT[100_000:], Content_Range=f"bytes 100001-{SIZE}/{SIZE + 1}"),
        lambda handler: handler.send(206, CONTENT[100_000:]),  # of no range
    ],
)
def test_wrong_bytes_do_not_discard_the_received_ones(
    respond: Callable[[Handler], None], fetch: Fetch, files: FileServer, target: Path
) -> None:
    target.unlink(missing_ok=True)
    files.gets.clear()
    files.script = [files.cut_after(100_000), lambda handler, _body: respond(handler)]
    with pytest.raises(UntrustedAnswer):
        fetch()
    assert fetch() == CONTENT
    assert files.ranges == [WHOLE, RESUMED, RESUMED]


def test_a_server_that_always_starts_over_is_given_up(fetch: Fetch, files: FileServer) -> None:
    def start_over(handler: Handler, _body: bytes) -> None:
        files.ranges_served = False
        files.serve(handler, sent=100_000 + 100_000 * (len(files.gets) % 2))

    files.script = [start_over] * 99
    with pytest.raises((UntrustedAnswer, ServerUnreachable)):
        fetch()
    assert len(files.gets) < 12


def test_programs_started_together_do_not_write_into_one_part(
    make_client: MakeClient, local: LocalServer, fetch: Fetch, target: Path
) -> None:
    def download(_number: int) -> str:
        try:
            make_client(transport=HttpTransport(local.url)).download(NAME, target)
        except DownloadFailed as failure:
            return failure.reason
        return "done"

    refusals: list[str] = []
    assert fetch(on_progress=lambda *_now: refusals.append(download(1))) == CONTENT
    assert set(refusals) == {"under_way"}
    with ThreadPoolExecutor(6) as programs:
        for _round in range(5):
            target.unlink(missing_ok=True)
            outcomes = set(programs.map(download, range(6)))
            assert {"done"} <= outcomes <= {"done", "under_way"}
            assert (target.read_bytes(), left_in(target.parent)) == (CONTENT, [NAME])


def test_a_full_disk_is_reported_before_anything_is_downloaded(fails: Fails, files: FileServer, target: Path) -> None:
    target.write_bytes(b"old")
    files.changes = {"size": 2**60}
    error = fails()
    assert (error.reason, "磁盘空间不足" in error.message) == ("disk_full", True)
    assert (files.gets, target.read_bytes(), left_in(target.parent)) == ([], b"old", [NAME])


def test_a_part_discarded_for_a_full_disk_may_then_belong_to_another_program(target: Path) -> None:
    def part_of(size: int) -> PartialFile:
        return PartialFile(target, Offer(NAME, size, sha256(CONTENT), "/", "REF45678"))

    Path(f"{target}.part").write_bytes(b"some")
    Path(f"{target}.part.json").write_text(NOTE, encoding="ascii")
    with part_of(2**60) as ours:
        with pytest.raises(DownloadFailed, match="磁盘空间不足"):
            ours.restart()
        assert left_in(target.parent) == []
        theirs = part_of(SIZE).__enter__()  # another program finds the lock free, and some room
        theirs.append(b"their bytes")
    assert left_in(target.parent) == [f"{NAME}.part", f"{NAME}.part.json"]
    theirs.__exit__()


def test_a_failed_write_leaves_the_target_unchanged(fails: Fails, files: FileServer, target: Path) -> None:
    target.write_bytes(b"old")
    with full_disk(SIZE // 4):
        error = fails()
    assert (error.reason, error.detail) == ("not_saved", "OSError: File too large")
    assert (len(files.gets), target.read_bytes()) == (1, b"old")


def test_a_missing_file_and_a_wrong_target_are_clear_errors(
    fails: Fails, downloader: Client, files: FileServer, target: Path
) -> None:
    with pytest.raises(ValueError, match="folder"):
        downloader.download(NAME, target.parent)
    assert files.fake.requests == []
    no_folder, not_offered = fails(to=target / "missing" / "model.bin"), fails("model\x1b.bin")
    assert (no_folder.reason, "No such file" in no_folder.detail, files.gets) == ("not_saved", True, [])
    assert not_offered.reason == "missing"
    assert not_offered.message == "服务器上没有文件 model?.bin，请更新程序或联系卖家（参考号 REF45678）"
