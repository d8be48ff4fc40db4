"""Downloads: complete, put in place at once, and resumed after interruptions."""

from __future__ import annotations

import json
import queue
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kadun import ServerUnreachable
from kadun.transport import HttpTransport

from tests.support.client.file_server import CONTENT, NAME, SIZE, FileServer, left_in, refuse, sha256
from tests.support.client.timing import LONG_SECONDS, SOON_SECONDS, STALLED, StalledQueue, wait_until
from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.client.file_server import Fetch
    from tests.support.client.local_http import Handler, LocalServer
    from tests.support.client.offline import MakeClient

WHOLE, RESUMED = None, "bytes=100000-"


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


def test_an_older_file_gives_way_only_to_the_whole_new_one(fetch: Fetch, target: Path) -> None:
    target.write_bytes(b"old")
    while_under_way = []
    assert fetch(on_progress=lambda *_now: while_under_way.append(target.read_bytes())) == CONTENT
    assert set(while_under_way) == {b"old"}


def test_an_empty_file_is_a_file(fetch: Fetch, files: FileServer, target: Path) -> None:
    files.content = b""
    assert fetch() == b""
    assert (files.gets, left_in(target.parent)) == ([], [NAME])


def test_a_target_that_is_a_link_stays_one(fetch: Fetch, target: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target.symlink_to(tmp_path / "elsewhere" / "model")
    fetch()
    assert target.is_symlink()
    assert (tmp_path / "elsewhere" / "model").read_bytes() == CONTENT


def break_off(files: FileServer, handler: Handler) -> None:
    files.serve(handler, sent=150_000)


def publish(files: FileServer, handler: Handler) -> None:
    files.content = CONTENT[::-1]
    refuse(handler, b"")


@pytest.mark.parametrize(
    ("respond", "requests", "links"),
    [
        (break_off, [WHOLE, RESUMED, "bytes=250000-"], 1),
        (lambda files, handler: handler.send(200, files.content), [WHOLE, RESUMED], 1),
        (lambda _files, handler: handler.send(416, b""), [WHOLE, RESUMED, WHOLE], 1),
        (lambda _files, handler: refuse(handler, b""), [WHOLE, RESUMED, RESUMED], 2),
        (publish, [WHOLE, RESUMED, WHOLE], 2),
    ],
    ids=["broken again", "no ranges", "no such range", "an expired link", "a new version"],
)
def test_a_download_that_broke_off_is_resumed_or_begins_anew(
    respond: Callable[[FileServer, Handler], None], requests: list[object], links: int, fetch: Fetch, files: FileServer
) -> None:
    files.script = [files.cut_after(100_000), lambda handler, _body: respond(files, handler)]
    assert fetch() == files.content
    assert (files.ranges, files.links_issued) == (requests, links)
    assert files.gets[-1][0].endswith(f"token=link{links}")


NOTE = json.dumps({"sha256": sha256(CONTENT)})


@for_each(
    ("part", "note", "requests"),
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


def test_tries_with_progress_do_not_count(fetch: Fetch, files: FileServer, pauses: list[float]) -> None:
    files.script = [files.cut_after(70_000) for _ in range(4)]
    fetch()
    assert (len(files.gets), len(pauses)) == (5, 4)
    assert max(pauses) <= 0.5  # after a fruitful try the pauses begin anew


def test_a_busy_server_is_asked_again_after_what_it_says(fetch: Fetch, files: FileServer, pauses: list[float]) -> None:
    files.script = [lambda handler, _body: handler.send(503, b"", Retry_After="4")]
    assert fetch() == CONTENT
    assert 4 < pauses[0] <= 4.5


def test_what_arrived_before_an_outage_is_kept_for_the_next_start(
    fetch: Fetch, files: FileServer, target: Path, make_client: MakeClient, local: LocalServer
) -> None:
    target.write_bytes(b"old")
    files.script = [files.cut_after(100_000), files.cut_after(0), files.cut_after(0), files.cut_after(0)]
    with pytest.raises(ServerUnreachable):
        fetch()
    assert target.read_bytes() == b"old"
    assert (target.parent / f"{NAME}.part").stat().st_size == 100_000
    make_client(transport=HttpTransport(local.url)).download(NAME, str(target))
    assert target.read_bytes() == CONTENT
    assert files.ranges[-1] == RESUMED
    assert left_in(target.parent) == [NAME]


def test_a_program_may_cancel_a_download_and_resume_it_later(fetch: Fetch, files: FileServer) -> None:
    def cancel(done: int, _total: int) -> None:
        raise KeyboardInterrupt(done)

    with pytest.raises(KeyboardInterrupt) as caught:
        fetch(on_progress=cancel)
    assert fetch() == CONTENT
    assert files.ranges == [None, f"bytes={caught.value.args[0]}-"]


def test_a_stalled_download_is_resumed(fetch: Fetch, files: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "Queue", StalledQueue)
    received = threading.Event()

    def stall(handler: Handler, _body: bytes) -> None:
        files.serve(handler, sent=100_000)
        received.wait(SOON_SECONDS)
        STALLED.set()
        handler.server.released.wait()

    files.script = [stall]
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
    wait_until(lambda: "kadun-request" not in {thread.name for thread in threading.enumerate()})
    assert waits.is_set()
    assert fetch(on_progress=dawdle) == CONTENT * 20
    assert len(files.gets) == 2
