"""Downloads and the file system: other programs, full disks, missing folders."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kadun import Client, DownloadFailed
from kadun.partial_file import Offer, PartialFile
from kadun.transport import HttpTransport

from tests.support.client.file_server import CONTENT, NAME, SIZE, FileServer, left_in, sha256
from tests.support.client.machine import full_disk

if TYPE_CHECKING:
    from tests.support.client.local_http import LocalServer
    from tests.support.client.offline import MakeClient


def test_two_programs_do_not_write_into_one_part(downloader: Client, target: Path) -> None:
    refusals: list[DownloadFailed] = []

    def meanwhile(*_now: int) -> None:
        if not refusals:
            with pytest.raises(DownloadFailed) as caught:
                downloader.download(NAME, target)
            refusals.append(caught.value)

    downloader.download(NAME, target, on_progress=meanwhile)
    assert [refusal.reason for refusal in refusals] == ["under_way"]
    assert target.read_bytes() == CONTENT


def test_programs_started_together_all_end_with_the_right_file(
    make_client: MakeClient, local: LocalServer, target: Path
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


def test_a_full_disk_is_reported_before_anything_is_downloaded(
    downloader: Client, files: FileServer, target: Path
) -> None:
    target.write_bytes(b"old")
    files.changes = {"size": 2**60}
    with pytest.raises(DownloadFailed, match="磁盘空间不足") as caught:
        downloader.download(NAME, target)
    assert caught.value.reason == "disk_full"
    assert (files.gets, target.read_bytes(), left_in(target.parent)) == ([], b"old", [NAME])


def part_of(target: Path, content: bytes = CONTENT, size: int | None = None) -> PartialFile:
    return PartialFile(target, Offer(NAME, len(content) if size is None else size, sha256(content), "/", "REF45678"))


def test_a_part_discarded_for_a_full_disk_may_then_belong_to_another_program(target: Path) -> None:
    Path(f"{target}.part").write_bytes(b"some")
    Path(f"{target}.part.json").write_text(json.dumps({"sha256": sha256(CONTENT), "etag": None}), encoding="ascii")
    with part_of(target, size=2**60) as ours:
        with pytest.raises(DownloadFailed, match="磁盘空间不足"):
            ours.restart(None)
        assert left_in(target.parent) == []
        theirs = part_of(target).__enter__()  # another program finds the lock free, and some room
        theirs.append(b"their bytes")
    assert left_in(target.parent) == [f"{NAME}.part", f"{NAME}.part.json"]
    theirs.__exit__()


def test_installing_an_empty_file_keeps_the_part_of_another_program(target: Path) -> None:
    with part_of(target, b"") as ours:
        assert ours.install()
        theirs = part_of(target).__enter__()
        theirs.append(b"their bytes")
    assert left_in(target.parent) == [NAME, f"{NAME}.part", f"{NAME}.part.json"]
    theirs.__exit__()


def test_a_failed_write_leaves_the_target_unchanged(downloader: Client, files: FileServer, target: Path) -> None:
    target.write_bytes(b"old")
    with full_disk(SIZE // 4), pytest.raises(DownloadFailed) as caught:
        downloader.download(NAME, target)
    assert (caught.value.reason, caught.value.detail) == ("not_saved", "OSError: File too large")
    assert (len(files.gets), target.read_bytes()) == (1, b"old")


def test_a_missing_folder_or_a_folder_as_the_target_is_a_clear_error(
    downloader: Client, files: FileServer, target: Path
) -> None:
    with pytest.raises(ValueError, match="folder"):
        downloader.download(NAME, target.parent)
    assert files.fake.requests == []
    with pytest.raises(DownloadFailed, match="No such file") as caught:
        downloader.download(NAME, target / "missing" / "model.bin")
    assert (caught.value.reason, files.gets) == ("not_saved", [])


def test_a_download_error_can_be_pickled() -> None:
    error = DownloadFailed("disk_full", NAME, "REF45678", "why")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert vars(copy) == vars(error)
    assert str(copy) == f"磁盘空间不足，无法保存文件 {NAME}，请清理磁盘后重试（参考号 REF45678） [why]"
