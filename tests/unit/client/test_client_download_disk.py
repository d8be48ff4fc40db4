"""Downloads and the file system: full disks, locks of other programs, missing folders."""

from __future__ import annotations

import json
import pickle
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kadun import Client, DownloadFailed
from kadun.partial_file import Offer, PartialFile
from kadun.transport import HttpTransport

from tests.support.client.fake_server import CARD, HARDWARE, SigningKey, pinned
from tests.support.client.file_server import CONTENT, NAME, SIZE, FileServer, left_in, sha256

if TYPE_CHECKING:
    from tests.support.client.local_http import LocalServer


MakeClient = Callable[..., Client]
ROOT = Path(__file__).resolve().parents[3]


def test_two_programs_do_not_write_into_one_part(downloader: Client, files: FileServer, target: Path) -> None:
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


def test_a_full_disk_is_reported_before_anything_is_downloaded(
    downloader: Client, files: FileServer, target: Path
) -> None:
    target.write_bytes(b"old")
    files.changes = {"size": 2**60}
    with pytest.raises(DownloadFailed, match="磁盘空间不足") as caught:
        downloader.download(NAME, target)
    assert caught.value.reason == "disk_full"
    assert (target.read_bytes(), left_in(target.parent)) == (b"old", [NAME])


def part_of(target: Path, size: int) -> PartialFile:
    return PartialFile(target, Offer(NAME, size, sha256(CONTENT), "/", "REF45678"))


def test_a_part_discarded_for_a_full_disk_may_then_belong_to_another_program(target: Path) -> None:
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


def test_installing_an_empty_file_keeps_the_part_of_another_program(target: Path) -> None:
    with PartialFile(target, Offer(NAME, 0, sha256(b""), "/", "REF45678")) as ours:
        assert ours.install()
        theirs = part_of(target, SIZE).__enter__()
        theirs.append(b"their bytes")
    assert left_in(target.parent) == [NAME, f"{NAME}.part", f"{NAME}.part.json"]
    theirs.__exit__()


def test_a_failed_write_leaves_the_target_unchanged(
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


def test_a_missing_folder_is_a_clear_error(downloader: Client, files: FileServer, target: Path) -> None:
    with pytest.raises(DownloadFailed) as caught:
        downloader.download(NAME, target / "missing" / "model.bin")
    assert (caught.value.reason, files.gets) == ("not_saved", [])
    assert "No such file" in caught.value.detail


def test_a_folder_cannot_be_the_target(downloader: Client, files: FileServer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder"):
        downloader.download(NAME, tmp_path)
    assert files.fake.requests == []


def test_a_download_error_can_be_pickled() -> None:
    error = DownloadFailed("disk_full", NAME, "REF45678", "why")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert vars(copy) == vars(error)
    assert str(copy) == f"磁盘空间不足，无法保存文件 {NAME}，请清理磁盘后重试（参考号 REF45678） [why]"
