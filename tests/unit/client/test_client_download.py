"""Downloads: complete, verified and installed, with retries and resumption."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kadun import Client, ServerUnreachable
from kadun.transport import HttpTransport

from tests.support.client.file_server import CONTENT, NAME, SIZE, FileServer, left_in, refuse, sha256
from tests.support.client.timing import LONG_SECONDS, SOON_SECONDS, STALLED, StalledQueue

if TYPE_CHECKING:
    from tests.support.client.local_http import Handler, LocalServer


MakeClient = Callable[..., Client]
ROOT = Path(__file__).resolve().parents[3]


def test_a_file_is_fetched_checked_and_put_in_place(downloader: Client, files: FileServer, target: Path) -> None:
    progress: list[tuple[int, int]] = []
    assert downloader.download(NAME, target, on_progress=lambda *now: progress.append(now)) == target
    assert target.read_bytes() == CONTENT
    assert left_in(target.parent) == [NAME]
    assert progress == sorted(progress)
    assert progress[-1] == (SIZE, SIZE)
    assert [request["function"] for request in files.fake.requests] == ["文件下载"]
    assert files.fake.paths == ["/v1/files"]


def test_a_file_that_is_there_already_is_not_fetched_again(downloader: Client, files: FileServer, target: Path) -> None:
    target.write_bytes(CONTENT)
    progress: list[tuple[int, int]] = []
    downloader.download(NAME, str(target), on_progress=lambda *now: progress.append(now))
    assert (files.gets, progress) == ([], [(SIZE, SIZE)])


def test_an_older_file_gives_way_only_to_the_whole_new_one(downloader: Client, files: FileServer, target: Path) -> None:
    target.write_bytes(b"old")
    while_under_way = []
    downloader.download(NAME, target, on_progress=lambda *_now: while_under_way.append(target.read_bytes()))
    assert set(while_under_way) == {b"old"}
    assert target.read_bytes() == CONTENT


def test_an_empty_file_is_a_file(downloader: Client, files: FileServer, target: Path) -> None:
    files.content = b""
    downloader.download(NAME, target)
    assert target.read_bytes() == b""
    assert (files.gets, left_in(target.parent)) == ([], [NAME])


def test_a_target_that_is_a_link_stays_one(downloader: Client, target: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target.symlink_to(tmp_path / "elsewhere" / "model")
    downloader.download(NAME, target)
    assert target.is_symlink()
    assert (tmp_path / "elsewhere" / "model").read_bytes() == CONTENT


def test_a_broken_connection_is_resumed_where_it_broke(downloader: Client, files: FileServer, target: Path) -> None:
    files.script = [files.cut_after(100_000), files.cut_after(150_000)]
    downloader.download(NAME, target)
    assert target.read_bytes() == CONTENT
    assert files.ranges == [None, "bytes=100000-", "bytes=250000-"]
    assert [headers.get("If-Range") for _path, headers in files.gets] == [None, '"v1"', '"v1"']
    assert files.links_issued == 1


def test_tries_are_limited_but_those_with_progress_do_not_count(
    downloader: Client, files: FileServer, target: Path, pauses: list[float]
) -> None:
    files.script = [files.cut_after(70_000) for _ in range(4)]
    downloader.download(NAME, target)
    assert (len(files.gets), len(pauses)) == (5, 4)
    assert max(pauses) <= 0.5  # after a fruitful try the pauses begin anew


def test_what_arrived_before_an_outage_is_kept_for_the_next_start(
    downloader: Client, files: FileServer, target: Path, make_client: MakeClient, local: LocalServer
) -> None:
    target.write_bytes(b"old")
    files.script = [files.cut_after(200_000), files.cut_after(0), files.cut_after(0), files.cut_after(0)]
    with pytest.raises(ServerUnreachable):
        downloader.download(NAME, target)
    assert target.read_bytes() == b"old"
    assert (target.parent / f"{NAME}.part").stat().st_size == 200_000
    make_client(transport=HttpTransport(local.url)).download(NAME, target)
    assert target.read_bytes() == CONTENT
    assert files.gets[-1][1]["Range"] == "bytes=200000-"
    assert files.gets[-1][1]["If-Range"] == '"v1"'
    assert left_in(target.parent) == [NAME]


def test_a_stalled_download_is_resumed(
    downloader: Client, files: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "Queue", StalledQueue)
    received = threading.Event()

    def stall(handler: Handler, _body: bytes) -> None:
        files.serve(handler, sent=100_000)
        received.wait(SOON_SECONDS)
        STALLED.set()
        handler.server.released.wait()

    files.script = [stall]
    downloader.download(NAME, target, on_progress=lambda done, _total: received.set() if done >= 100_000 else None)
    assert target.read_bytes() == CONTENT
    assert files.ranges == [None, "bytes=100000-"]


def test_a_slow_callback_does_not_count_as_a_slow_server(
    downloader: Client, files: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("kadun.streaming.time", clock)
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
    downloader.download(NAME, target, on_progress=dawdle)
    assert (len(files.gets), target.read_bytes()) == (1, CONTENT[:500])


def test_a_slow_callback_loses_nothing_of_what_waits_for_it(
    downloader: Client, files: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = threading.Event()

    class Queue(queue.Queue[Any]):
        def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002 - the original's
            try:
                super().put(item, block, timeout)
            except queue.Full:
                waited.set()
                raise

    monkeypatch.setattr(queue, "Queue", Queue)
    monkeypatch.setattr("kadun.streaming._POLL_SECONDS", 0.01)
    files.content = CONTENT * 20  # more than the stream reads ahead
    downloader.download(NAME, target, on_progress=lambda *_now: waited.wait(SOON_SECONDS))
    assert waited.is_set()
    assert (len(files.gets), target.read_bytes()) == (1, CONTENT * 20)


def test_a_weak_etag_is_not_used_for_a_conditional_range(downloader: Client, files: FileServer, target: Path) -> None:
    files.script = [lambda handler, _body: files.serve(handler, sent=100_000, etag='W/"v1"')]
    downloader.download(NAME, target)
    assert files.ranges == [None, "bytes=100000-"]
    assert "If-Range" not in files.gets[1][1]
    assert target.read_bytes() == CONTENT


def test_a_server_whose_etag_changed_sends_the_whole_file(downloader: Client, files: FileServer, target: Path) -> None:
    def cut(handler: Handler, _body: bytes) -> None:
        files.serve(handler, sent=100_000)
        files.etag = '"v2"'

    files.script = [cut]
    downloader.download(NAME, target)
    assert target.read_bytes() == CONTENT
    assert files.ranges == [None, "bytes=100000-"]


def test_a_part_of_another_version_is_discarded(downloader: Client, files: FileServer, target: Path) -> None:
    def publish(handler: Handler, body: bytes) -> None:
        files.content, files.etag = CONTENT[::-1], '"v2"'
        refuse(handler, body)

    files.script = [files.cut_after(100_000), publish]
    downloader.download(NAME, target)
    assert target.read_bytes() == CONTENT[::-1]
    assert files.ranges == [None, "bytes=100000-", None]


def test_a_damaged_part_is_downloaded_again(downloader: Client, files: FileServer, target: Path) -> None:
    note = {"sha256": sha256(CONTENT), "etag": '"v1"'}
    Path(f"{target}.part").write_bytes(bytes(100_000))  # zeros, as after a power cut
    Path(f"{target}.part.json").write_text(json.dumps(note), encoding="ascii")
    downloader.download(NAME, target)
    assert files.ranges == ["bytes=100000-", None]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"sha256": 1, "etag": 2}', "\udcff"])
def test_a_part_without_valid_metadata_is_discarded(
    note: str, downloader: Client, files: FileServer, target: Path
) -> None:
    Path(f"{target}.part").write_bytes(CONTENT[:100_000])
    Path(f"{target}.part.json").write_bytes(note.encode("utf-8", "surrogateescape"))
    downloader.download(NAME, target)
    assert files.ranges == [None]
    assert target.read_bytes() == CONTENT


def test_a_complete_part_is_only_installed(downloader: Client, files: FileServer, target: Path) -> None:
    Path(f"{target}.part").write_bytes(CONTENT)
    Path(f"{target}.part.json").write_text(json.dumps({"sha256": sha256(CONTENT), "etag": None}), encoding="ascii")
    downloader.download(NAME, target)
    assert (files.gets, target.read_bytes()) == ([], CONTENT)


def test_a_range_that_the_server_does_not_know_begins_anew(downloader: Client, files: FileServer, target: Path) -> None:
    files.script = [files.cut_after(100_000), lambda handler, _body: handler.send(416, b"")]
    downloader.download(NAME, target)
    assert files.ranges == [None, "bytes=100000-", None]
    assert target.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_after_what_it_says(
    downloader: Client, files: FileServer, target: Path, pauses: list[float]
) -> None:
    files.script = [lambda handler, _body: handler.send(503, b"", Retry_After="4")]
    downloader.download(NAME, target)
    assert 4 < pauses[0] <= 4.5
    assert target.read_bytes() == CONTENT


def test_a_program_may_cancel_a_download_and_resume_it_later(
    downloader: Client, files: FileServer, target: Path
) -> None:
    def cancel(done: int, _total: int) -> None:
        raise KeyboardInterrupt(done)

    with pytest.raises(KeyboardInterrupt) as caught:
        downloader.download(NAME, target, on_progress=cancel)
    downloader.download(NAME, target)
    assert files.ranges == [None, f"bytes={caught.value.args[0]}-"]
    assert target.read_bytes() == CONTENT
