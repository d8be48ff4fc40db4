"""Files of the vendor's: whole, checked and in place, or not at all."""

from __future__ import annotations

import json
import pickle
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kadun import CardRejected, Client, DownloadFailed, ServerUnreachable, UntrustedAnswer
from kadun.downloads import Offer
from kadun.partial_file import PartialFile
from kadun.transport import HttpTransport

from tests.support.client.fake_server import CARD, HARDWARE, FakeServer, SigningKey, pinned, reject, setting
from tests.support.client.file_server import CONTENT, NAME, SIZE, FileServer, refuse, sha256
from tests.support.client.local_http import Handler, LocalServer, serving

if TYPE_CHECKING:
    from tests.support.client.local_http import Respond

MakeClient = Callable[..., Client]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def files(server: FakeServer) -> FileServer:
    files = FileServer(server)
    server.genuine = files.listing  # type: ignore[method-assign]
    return files


@pytest.fixture
def local(files: FileServer) -> Iterator[LocalServer]:
    with serving(files) as running:
        yield running


@pytest.fixture
def client(local: LocalServer, make_client: MakeClient) -> Client:
    return make_client(transport=HttpTransport(local.url, timeout_seconds=1))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / NAME


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_checked_and_put_in_place(client: Client, files: FileServer, target: Path) -> None:
    progress: list[tuple[int, int]] = []
    assert client.download(NAME, target, on_progress=lambda *now: progress.append(now)) == target
    assert target.read_bytes() == CONTENT
    assert left_in(target.parent) == [NAME]
    assert progress == sorted(progress)
    assert progress[-1] == (SIZE, SIZE)
    assert [request["function"] for request in files.fake.requests] == ["文件下载"]
    assert files.fake.paths == ["/v1/files"]


def test_a_file_that_is_there_already_is_not_fetched_again(client: Client, files: FileServer, target: Path) -> None:
    target.write_bytes(CONTENT)
    progress: list[tuple[int, int]] = []
    client.download(NAME, str(target), on_progress=lambda *now: progress.append(now))
    assert (files.gets, progress) == ([], [(SIZE, SIZE)])


def test_an_older_file_gives_way_only_to_the_whole_new_one(client: Client, files: FileServer, target: Path) -> None:
    target.write_bytes(b"old")
    while_under_way = []
    client.download(NAME, target, on_progress=lambda *_now: while_under_way.append(target.read_bytes()))
    assert set(while_under_way) == {b"old"}
    assert target.read_bytes() == CONTENT


def test_an_empty_file_is_a_file(client: Client, files: FileServer, target: Path) -> None:
    files.content = b""
    client.download(NAME, target)
    assert target.read_bytes() == b""
    assert (files.gets, left_in(target.parent)) == ([], [NAME])


def test_a_target_that_is_a_link_stays_one(client: Client, target: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target.symlink_to(tmp_path / "elsewhere" / "model")
    client.download(NAME, target)
    assert target.is_symlink()
    assert (tmp_path / "elsewhere" / "model").read_bytes() == CONTENT


def test_a_broken_connection_is_resumed_where_it_broke(client: Client, files: FileServer, target: Path) -> None:
    files.script = [files.cut_after(100_000), files.cut_after(150_000)]
    client.download(NAME, target)
    assert target.read_bytes() == CONTENT
    assert files.ranges == [None, "bytes=100000-", "bytes=250000-"]
    assert [headers.get("If-Range") for _path, headers in files.gets] == [None, '"v1"', '"v1"']
    assert files.links_issued == 1


def test_tries_are_bounded_but_fruitful_ones_do_not_count(
    client: Client, files: FileServer, target: Path, pauses: list[float]
) -> None:
    files.script = [files.cut_after(70_000) for _ in range(4)]
    client.download(NAME, target)
    assert (len(files.gets), len(pauses)) == (5, 4)
    assert max(pauses) <= 0.5  # after a fruitful try the pauses begin anew


def test_what_arrived_before_an_outage_is_kept_for_the_next_start(
    client: Client, files: FileServer, target: Path, make_client: MakeClient, local: LocalServer
) -> None:
    target.write_bytes(b"old")
    files.script = [files.cut_after(200_000), files.cut_after(0), files.cut_after(0), files.cut_after(0)]
    with pytest.raises(ServerUnreachable):
        client.download(NAME, target)
    assert target.read_bytes() == b"old"
    assert (target.parent / f"{NAME}.part").stat().st_size == 200_000
    make_client(transport=HttpTransport(local.url)).download(NAME, target)
    assert target.read_bytes() == CONTENT
    assert files.gets[-1][1]["Range"] == "bytes=200000-"
    assert files.gets[-1][1]["If-Range"] == '"v1"'
    assert left_in(target.parent) == [NAME]


def test_a_server_that_stalls_half_way_is_asked_to_go_on(client: Client, files: FileServer, target: Path) -> None:
    def stall(handler: Handler, _body: bytes) -> None:
        files.serve(handler, sent=100_000)
        handler.wfile.flush()
        handler.server.released.wait()

    files.script = [stall]
    started = time.monotonic()
    client.download(NAME, target)
    assert target.read_bytes() == CONTENT
    assert files.ranges == [None, "bytes=100000-"]
    assert 0.9 < time.monotonic() - started < 5


def test_a_server_that_drips_is_given_up_in_time(client: Client, files: FileServer, target: Path) -> None:
    def drip(handler: Handler, _body: bytes) -> None:
        files.serve(handler, sent=0)
        while not handler.server.released.wait(0.05):
            handler.wfile.write(b"x")

    files.script = [drip] * 3
    started = time.monotonic()
    with pytest.raises(ServerUnreachable, match="within 1 second"):
        client.download(NAME, target)
    assert time.monotonic() - started < 8  # three tries of a second each


def test_a_slow_reader_is_not_taken_for_a_slow_server(client: Client, files: FileServer, target: Path) -> None:
    """A program may take its time in `on_progress`; the server is not to blame for that."""
    slept: list[int] = []

    def dawdle(done: int, _total: int) -> None:
        if not slept:
            slept.append(done)
            time.sleep(1.5)

    files.content = CONTENT * 20  # more than waits its turn in memory
    client.download(NAME, target, on_progress=dawdle)
    assert (len(files.gets), target.read_bytes()) == (1, CONTENT * 20)


def test_a_weak_etag_is_no_ground_for_a_conditional_range(client: Client, files: FileServer, target: Path) -> None:
    files.script = [lambda handler, _body: files.serve(handler, sent=100_000, etag='W/"v1"')]
    client.download(NAME, target)
    assert files.ranges == [None, "bytes=100000-"]
    assert "If-Range" not in files.gets[1][1]
    assert target.read_bytes() == CONTENT


def test_a_server_whose_etag_changed_sends_the_whole_file(client: Client, files: FileServer, target: Path) -> None:
    def cut(handler: Handler, _body: bytes) -> None:
        files.serve(handler, sent=100_000)
        files.etag = '"v2"'

    files.script = [cut]
    client.download(NAME, target)
    assert target.read_bytes() == CONTENT
    assert files.ranges == [None, "bytes=100000-"]


def test_a_part_of_another_version_is_thrown_away(client: Client, files: FileServer, target: Path) -> None:
    files.script = [files.cut_after(100_000), refuse]

    def publish(_handler: Handler, _body: bytes) -> None:
        files.content, files.etag = CONTENT[::-1], '"v2"'
        refuse(_handler, _body)

    files.script = [files.cut_after(100_000), publish]
    client.download(NAME, target)
    assert target.read_bytes() == CONTENT[::-1]
    assert files.ranges == [None, "bytes=100000-", None]


def test_a_file_of_the_wrong_bytes_never_reaches_its_place(client: Client, files: FileServer, target: Path) -> None:
    target.write_bytes(b"old")
    files.changes = {"sha256": sha256(b"something else")}
    with pytest.raises(DownloadFailed) as caught:
        client.download(NAME, target)
    assert (caught.value.reason, caught.value.reference) == ("damaged", "REF45678")
    assert caught.value.message == f"文件 {NAME} 下载后校验不符，已丢弃，请重试（参考号 REF45678）"
    assert (target.read_bytes(), left_in(target.parent)) == (b"old", [NAME])
    assert len(files.gets) == 1


def test_a_part_that_was_spoilt_since_is_fetched_once_more(client: Client, files: FileServer, target: Path) -> None:
    note = {"sha256": sha256(CONTENT), "etag": '"v1"'}
    Path(f"{target}.part").write_bytes(bytes(100_000))  # zeros, as after a power cut
    Path(f"{target}.part.json").write_text(json.dumps(note), encoding="ascii")
    client.download(NAME, target)
    assert files.ranges == ["bytes=100000-", None]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"sha256": 1, "etag": 2}', "\udcff"])
def test_a_part_that_nobody_can_tell_anything_about_is_thrown_away(
    note: str, client: Client, files: FileServer, target: Path
) -> None:
    Path(f"{target}.part").write_bytes(CONTENT[:100_000])
    Path(f"{target}.part.json").write_bytes(note.encode("utf-8", "surrogateescape"))
    client.download(NAME, target)
    assert files.ranges == [None]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ['"文"', '"v1\r\nX-Injected: 1"', 'W/"v1"', "v1", '"\x00"', 7, ["v1"], {}, True])
def test_a_remembered_etag_that_is_none_goes_into_no_header(
    etag: object, client: Client, files: FileServer, target: Path
) -> None:
    Path(f"{target}.part").write_bytes(CONTENT[:100_000])
    Path(f"{target}.part.json").write_text(json.dumps({"sha256": sha256(CONTENT), "etag": etag}), encoding="ascii")
    client.download(NAME, target)
    assert [headers.get("If-Range") for _path, headers in files.gets] == [None]
    assert target.read_bytes() == CONTENT


def test_a_whole_part_only_needs_to_be_put_in_place(client: Client, files: FileServer, target: Path) -> None:
    Path(f"{target}.part").write_bytes(CONTENT)
    Path(f"{target}.part.json").write_text(json.dumps({"sha256": sha256(CONTENT), "etag": None}), encoding="ascii")
    client.download(NAME, target)
    assert (files.gets, target.read_bytes()) == ([], CONTENT)


def test_an_expired_link_is_asked_for_anew(client: Client, files: FileServer, target: Path) -> None:
    files.script = [files.cut_after(100_000), refuse]
    client.download(NAME, target)
    assert target.read_bytes() == CONTENT
    assert files.links_issued == 2
    assert files.ranges == [None, "bytes=100000-", "bytes=100000-"]
    assert files.gets[2][0].endswith("token=link2")


def test_a_server_that_refuses_its_own_new_link_is_not_asked_for_ever(
    client: Client, files: FileServer, target: Path
) -> None:
    files.script = [refuse] * 9
    with pytest.raises(DownloadFailed) as caught:
        client.download(NAME, target)
    assert (caught.value.reason, len(files.gets)) == ("refused", 2)
    assert left_in(target.parent) == []


def test_a_card_frozen_during_a_download_ends_it_at_the_next_link(
    client: Client, files: FileServer, target: Path
) -> None:
    def freeze(handler: Handler, body: bytes) -> None:
        files.fake.tweak = reject("CARD_FROZEN")
        refuse(handler, body)

    files.script = [files.cut_after(100_000), freeze]
    with pytest.raises(CardRejected, match="冻结"):
        client.download(NAME, target)


def test_a_rejected_card_gets_no_file(client: Client, files: FileServer, target: Path) -> None:
    files.fake.tweak = reject("CARD_EXPIRED")
    with pytest.raises(CardRejected):
        client.download(NAME, target)
    assert (files.gets, left_in(target.parent)) == ([], [])


@pytest.mark.parametrize(
    "url",
    [
        "{other}/v1/files/x",
        "//{host}/v1/files/x",
        "/\\{host}/x",
        "\\\\{host}/x",
        "@{host}/x",
        ":80@{host}/x",
        ".{host}/x",
        "v1/files/x",
        "",
        "/x#y",
        "/x y",
        "/x\r\nX: y",
        "/文件",
        "/" + "x" * 5000,
        7,
        None,
    ],
)
def test_an_address_that_might_lead_elsewhere_is_not_followed(
    url: Any, client: Client, files: FileServer, target: Path
) -> None:
    with serving(lambda handler, _body: handler.send(200, CONTENT)) as other:
        host = other.url.partition("//")[2]
        files.changes = {"url": url.format(other=other.url, host=host) if isinstance(url, str) else url}
        with pytest.raises(UntrustedAnswer, match="not a path on the same server"):
            client.download(NAME, target)
    assert (other.seen, files.gets, left_in(target.parent)) == ([], [], [])


def test_a_redirect_is_not_followed(client: Client, files: FileServer, target: Path) -> None:
    with serving(lambda handler, _body: handler.send(200, CONTENT)) as other:
        files.script = [lambda handler, _body: handler.send(302, b"", Location=f"{other.url}/x")]
        with pytest.raises(UntrustedAnswer, match="302"):
            client.download(NAME, target)
    assert (other.seen, left_in(target.parent)) == ([], [])


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_file_that_is_not_offered_is_said_to_be_missing(
    language: str, make_client: MakeClient, local: LocalServer, files: FileServer, target: Path
) -> None:
    client = make_client(transport=HttpTransport(local.url), language=language)
    with pytest.raises(DownloadFailed) as caught:
        client.download("model\x1b.bin", target)
    assert caught.value.reason == "missing"
    assert caught.value.message == (
        "服务器上没有文件 model?.bin，请更新程序或联系卖家（参考号 REF45678）"
        if language == "zh"
        else "The server has no file model?.bin. Please update the program or contact the seller (reference REF45678)"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"size": -1},
        {"size": True},
        {"size": 1.5},
        {"size": "7"},
        {"size": None},
        {"sha256": "0" * 63},
        {"sha256": "G" * 64},
        {"sha256": None},
        {"name": "other.txt"},
    ],
)
def test_a_list_that_is_none_is_not_believed(
    changes: dict[str, Any], client: Client, files: FileServer, target: Path
) -> None:
    files.changes = changes
    name = "other.txt" if "name" in changes else NAME  # named twice then
    with pytest.raises(UntrustedAnswer, match="claim files"):
        client.download(name, target)
    assert files.gets == []


@pytest.mark.parametrize("listed", ["none", None, {}, "[]"])
def test_a_verdict_without_a_list_is_not_believed(listed: Any, client: Client, files: FileServer, target: Path) -> None:
    files.fake.tweak = (lambda claims: claims.pop("files")) if listed == "none" else setting(files=listed)
    with pytest.raises(UntrustedAnswer, match="claim files"):
        client.download(NAME, target)


def sign_in_page(handler: Handler, _body: bytes) -> None:
    handler.send(200, b"<html>sign in</html>", Content_Type="text/html")


def endless(handler: Handler, _body: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"x" * 65_536)


def other_range(handler: Handler, _body: bytes) -> None:
    handler.send(206, CONTENT[100_000:], Content_Range=f"bytes 100001-{SIZE}/{SIZE + 1}")


def no_range(handler: Handler, _body: bytes) -> None:
    handler.send(206, CONTENT[100_000:])


@pytest.mark.parametrize("respond", [sign_in_page, endless, other_range, no_range])
def test_what_are_not_the_bytes_asked_for_does_not_cost_those_that_are_there(
    respond: Respond, client: Client, files: FileServer, target: Path
) -> None:
    files.script = [files.cut_after(100_000), respond]
    with pytest.raises(UntrustedAnswer):
        client.download(NAME, target)
    client.download(NAME, target)
    assert files.ranges == [None, "bytes=100000-", "bytes=100000-"]
    assert target.read_bytes() == CONTENT


def test_a_range_that_the_server_does_not_know_begins_anew(client: Client, files: FileServer, target: Path) -> None:
    files.script = [files.cut_after(100_000), lambda handler, _body: handler.send(416, b"")]
    client.download(NAME, target)
    assert files.ranges == [None, "bytes=100000-", None]
    assert target.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_after_what_it_says(
    client: Client, files: FileServer, target: Path, pauses: list[float]
) -> None:
    files.script = [lambda handler, _body: handler.send(503, b"", Retry_After="4")]
    client.download(NAME, target)
    assert 4 < pauses[0] <= 4.5
    assert target.read_bytes() == CONTENT


def test_a_server_that_starts_over_for_ever_is_seen_through(client: Client, files: FileServer, target: Path) -> None:
    def start_over(handler: Handler, _body: bytes) -> None:
        files.etag = f'"{len(files.gets)}"'  # never the one that the client knows
        files.serve(handler, sent=100_000 + 100_000 * (len(files.gets) % 2))

    files.script = [start_over] * 99
    with pytest.raises((UntrustedAnswer, ServerUnreachable)):
        client.download(NAME, target)
    assert len(files.gets) < 12


def test_a_program_may_break_a_download_off_and_go_on_later(client: Client, files: FileServer, target: Path) -> None:
    def cancel(done: int, _total: int) -> None:
        raise KeyboardInterrupt(done)

    with pytest.raises(KeyboardInterrupt) as caught:
        client.download(NAME, target, on_progress=cancel)
    client.download(NAME, target)
    assert files.ranges == [None, f"bytes={caught.value.args[0]}-"]
    assert target.read_bytes() == CONTENT


def test_two_programs_do_not_write_into_one_part(client: Client, files: FileServer, target: Path) -> None:
    refusals: list[DownloadFailed] = []

    def meanwhile(*_now: int) -> None:
        if not refusals:
            with pytest.raises(DownloadFailed) as caught:
                client.download(NAME, target)
            refusals.append(caught.value)

    client.download(NAME, target, on_progress=meanwhile)
    assert [refusal.reason for refusal in refusals] == ["under_way"]
    assert target.read_bytes() == CONTENT


def test_programs_started_together_all_end_with_the_right_file(
    make_client: MakeClient, local: LocalServer, files: FileServer, target: Path
) -> None:
    def download(_number: int) -> str:
        try:
            make_client(transport=HttpTransport(local.url)).download(NAME, target)
        except DownloadFailed as failure:
            return failure.reason
        return "done"

    with ThreadPoolExecutor(6) as programs:
        for _round in range(5):
            target.unlink(missing_ok=True)
            outcomes = set(programs.map(download, range(6)))
            assert "done" in outcomes
            assert outcomes <= {"done", "under_way"}
            assert (target.read_bytes(), left_in(target.parent)) == (CONTENT, [NAME])


def test_a_disk_without_room_is_said_before_anything_is_fetched(
    client: Client, files: FileServer, target: Path
) -> None:
    target.write_bytes(b"old")
    files.changes = {"size": 2**60}
    with pytest.raises(DownloadFailed, match="磁盘空间不足") as caught:
        client.download(NAME, target)
    assert caught.value.reason == "disk_full"
    assert (target.read_bytes(), left_in(target.parent)) == (b"old", [NAME])


def part_of(target: Path, size: int) -> PartialFile:
    return PartialFile(target, Offer(NAME, size, sha256(CONTENT), "/", "REF45678"))


def test_a_part_given_up_for_want_of_room_is_not_discarded_again_when_it_is_another_programs(target: Path) -> None:
    Path(f"{target}.part").write_bytes(b"some")
    Path(f"{target}.part.json").write_text(json.dumps({"sha256": sha256(CONTENT), "etag": None}), encoding="ascii")
    with part_of(target, 2**60) as ours:
        with pytest.raises(DownloadFailed, match="磁盘空间不足"):
            ours.restart(None)
        assert left_in(target.parent) == []
        theirs = part_of(target, SIZE).__enter__()  # another program finds the lock free, and some room
        theirs.append(b"their bytes")
    assert left_in(target.parent) == [f"{NAME}.part", f"{NAME}.part.json"]
    theirs.__exit__()


def test_an_empty_file_put_in_place_leaves_what_another_program_began_since(target: Path) -> None:
    with PartialFile(target, Offer(NAME, 0, sha256(b""), "/", "REF45678")) as ours:
        assert ours.install()
        theirs = part_of(target, SIZE).__enter__()
        theirs.append(b"their bytes")
    assert left_in(target.parent) == [NAME, f"{NAME}.part", f"{NAME}.part.json"]
    theirs.__exit__()


def test_a_write_that_the_system_refuses_leaves_the_target_alone(
    local: LocalServer, files: FileServer, target: Path, signing_key: SigningKey
) -> None:
    """A program of its own, whose files the kernel lets grow to 64 KiB."""
    target.write_bytes(b"old")
    program = f"""
import kadun
client = kadun.Client({local.url!r}, {pinned(signing_key)!r}, {CARD!r}, hardware={HARDWARE!r}, language="en")
try:
    client.download({NAME!r}, {str(target)!r})
except kadun.DownloadFailed as error:
    print(error.reason, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "PYTHONPATH": str(ROOT / "client" / "src"),
            "PYTHONUTF8": "1",
            "NO_PROXY": "*",
            "HOME": str(target.parent),
        },
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536)),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert re.match(
        r"not_saved The file .* cannot be saved.*\(reference REF45678\) \[OSError: File too large\]", done.stdout
    )
    assert target.read_bytes() == b"old"


def test_a_folder_that_is_not_there_is_one_clear_error(client: Client, files: FileServer, target: Path) -> None:
    with pytest.raises(DownloadFailed) as caught:
        client.download(NAME, target / "missing" / "model.bin")
    assert (caught.value.reason, files.gets) == ("not_saved", [])
    assert "No such file" in caught.value.detail


def test_a_folder_is_no_target(client: Client, files: FileServer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder"):
        client.download(NAME, tmp_path)
    assert files.fake.requests == []


def test_a_failed_download_survives_the_way_to_another_process() -> None:
    error = DownloadFailed("disk_full", NAME, "REF45678", "why")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert vars(copy) == vars(error)
    assert str(copy) == f"磁盘空间不足，无法保存文件 {NAME}，请清理磁盘后重试（参考号 REF45678） [why]"
