"""Downloads: rejected cards, refused links, forged lists, and responses that are not the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kadun import CardRejected, Client, DownloadFailed, ServerUnreachable, UntrustedAnswer
from kadun.transport import HttpTransport

from tests.support.client.fake_server import reject, setting
from tests.support.client.file_server import CONTENT, NAME, SIZE, FileServer, left_in, refuse, sha256
from tests.support.client.local_http import Handler, LocalServer, serving
from tests.support.tables import for_each

if TYPE_CHECKING:
    from tests.support.client.local_http import Respond

MakeClient = Callable[..., Client]
ROOT = Path(__file__).resolve().parents[3]


def test_a_file_with_wrong_content_is_not_installed(downloader: Client, files: FileServer, target: Path) -> None:
    target.write_bytes(b"old")
    files.changes = {"sha256": sha256(b"something else")}
    with pytest.raises(DownloadFailed) as caught:
        downloader.download(NAME, target)
    assert (caught.value.reason, caught.value.reference) == ("damaged", "REF45678")
    assert caught.value.message == f"文件 {NAME} 下载后校验不符，已丢弃，请重试（参考号 REF45678）"
    assert (target.read_bytes(), left_in(target.parent)) == (b"old", [NAME])
    assert len(files.gets) == 1


@pytest.mark.parametrize("etag", ['"文"', '"v1\r\nX-Injected: 1"', 'W/"v1"', "v1", '"\x00"', 7, ["v1"], {}, True])
def test_a_malformed_stored_etag_is_not_sent(etag: object, downloader: Client, files: FileServer, target: Path) -> None:
    Path(f"{target}.part").write_bytes(CONTENT[:100_000])
    Path(f"{target}.part.json").write_text(json.dumps({"sha256": sha256(CONTENT), "etag": etag}), encoding="ascii")
    downloader.download(NAME, target)
    assert [headers.get("If-Range") for _path, headers in files.gets] == [None]
    assert target.read_bytes() == CONTENT


def test_an_expired_link_is_asked_for_anew(downloader: Client, files: FileServer, target: Path) -> None:
    files.script = [files.cut_after(100_000), refuse]
    downloader.download(NAME, target)
    assert target.read_bytes() == CONTENT
    assert files.links_issued == 2
    assert files.ranges == [None, "bytes=100000-", "bytes=100000-"]
    assert files.gets[2][0].endswith("token=link2")


def test_a_server_that_refuses_a_new_link_is_given_up(downloader: Client, files: FileServer, target: Path) -> None:
    files.script = [refuse] * 9
    with pytest.raises(DownloadFailed) as caught:
        downloader.download(NAME, target)
    assert (caught.value.reason, len(files.gets)) == ("refused", 2)
    assert left_in(target.parent) == []


def test_a_card_frozen_during_a_download_ends_it_at_the_next_link(
    downloader: Client, files: FileServer, target: Path
) -> None:
    def freeze(handler: Handler, body: bytes) -> None:
        files.fake.tweak = reject("CARD_FROZEN")
        refuse(handler, body)

    files.script = [files.cut_after(100_000), freeze]
    with pytest.raises(CardRejected, match="冻结"):
        downloader.download(NAME, target)


def test_a_rejected_card_gets_no_file(downloader: Client, files: FileServer, target: Path) -> None:
    files.fake.tweak = reject("CARD_EXPIRED")
    with pytest.raises(CardRejected):
        downloader.download(NAME, target)
    assert (files.gets, left_in(target.parent)) == ([], [])


@for_each(
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
def test_an_address_on_another_server_is_not_followed(
    url: Any, downloader: Client, files: FileServer, target: Path
) -> None:
    with serving(lambda handler, _body: handler.send(200, CONTENT)) as other:
        host = other.url.partition("//")[2]
        files.changes = {"url": url.format(other=other.url, host=host) if isinstance(url, str) else url}
        with pytest.raises(UntrustedAnswer, match="not a path on the same server"):
            downloader.download(NAME, target)
    assert (other.seen, files.gets, left_in(target.parent)) == ([], [], [])


def test_a_redirect_is_not_followed(downloader: Client, files: FileServer, target: Path) -> None:
    with serving(lambda handler, _body: handler.send(200, CONTENT)) as other:
        files.script = [lambda handler, _body: handler.send(302, b"", Location=f"{other.url}/x")]
        with pytest.raises(UntrustedAnswer, match="302"):
            downloader.download(NAME, target)
    assert (other.seen, left_in(target.parent)) == ([], [])


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_file_that_is_not_offered_is_missing(
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
def test_a_malformed_list_is_untrusted(
    changes: dict[str, Any], downloader: Client, files: FileServer, target: Path
) -> None:
    files.changes = changes
    name = "other.txt" if "name" in changes else NAME  # named twice then
    with pytest.raises(UntrustedAnswer, match="claim files"):
        downloader.download(name, target)
    assert files.gets == []


@pytest.mark.parametrize("listed", ["none", None, {}, "[]"])
def test_a_verdict_without_a_list_is_untrusted(
    listed: Any, downloader: Client, files: FileServer, target: Path
) -> None:
    files.fake.tweak = (lambda claims: claims.pop("files")) if listed == "none" else setting(files=listed)
    with pytest.raises(UntrustedAnswer, match="claim files"):
        downloader.download(NAME, target)


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
def test_wrong_bytes_do_not_discard_the_received_ones(
    respond: Respond, downloader: Client, files: FileServer, target: Path
) -> None:
    files.script = [files.cut_after(100_000), respond]
    with pytest.raises(UntrustedAnswer):
        downloader.download(NAME, target)
    downloader.download(NAME, target)
    assert files.ranges == [None, "bytes=100000-", "bytes=100000-"]
    assert target.read_bytes() == CONTENT


def test_a_server_that_always_starts_over_is_given_up(downloader: Client, files: FileServer, target: Path) -> None:
    def start_over(handler: Handler, _body: bytes) -> None:
        files.etag = f'"{len(files.gets)}"'  # never the one that the client knows
        files.serve(handler, sent=100_000 + 100_000 * (len(files.gets) % 2))

    files.script = [start_over] * 99
    with pytest.raises((UntrustedAnswer, ServerUnreachable)):
        downloader.download(NAME, target)
    assert len(files.gets) < 12
