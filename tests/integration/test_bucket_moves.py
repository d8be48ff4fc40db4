"""`cardctl file move-to`: files move between the folder and the bucket, and none is lost on the way."""

import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import obstore
import pytest

from app.services.file_moves import FileMoves, Place
from app.settings import Settings
from app.storage.blobs import Blob
from app.storage.bucket_blobs import BucketBlobs
from app.storage.database import Database
from tests.support.bucket_files import key, keys, states, without_bucket
from tests.support.bucket_host import TlsFront
from tests.support.downloads import CONTENT, blobs, put, sha256
from tests.support.service import ROOT, Service, wait_for


@pytest.fixture
def offline(offline: Service, bucket: Any, bucket_settings: dict[str, str]) -> Service:
    """The command line with the bucket."""
    offline.environment.update(bucket_settings)
    return offline


def test_files_move_into_the_bucket_and_back(offline: Service, bucket: Any, bucket_settings: dict[str, str]) -> None:
    contents = {"a": CONTENT, "b": b"2", "b again": b"2", "empty": b""}
    without_bucket(offline)
    assert "no bucket is set" in offline.refusal("file", "move-to", "bucket")
    for name, content in contents.items():
        put(offline, name, content)
    offline.environment.update(bucket_settings)
    assert set(states(offline).values()) == {False}  # they are read from the folder until then
    moved = offline.cardctl_json("file", "move-to", "bucket")
    assert {name for one in moved for name in one["names"]} == set(contents)
    assert [(one["was_there"], one["left"]) for one in moved] == [(False, None)] * 3
    assert (blobs(offline), keys(bucket)) == (set(), {key(content) for content in contents.values()})
    again = offline.cardctl("file", "move-to", "bucket")
    assert again.stderr.count("is there already") == 3
    offline.cardctl("file", "move-to", "folder")
    assert (blobs(offline), keys(bucket)) == ({sha256(content) for content in contents.values()}, set())
    assert set(states(without_bucket(offline)).values()) == {False}


def test_what_cannot_be_moved_is_left_and_named(offline: Service, bucket: Any, bucket_settings: dict[str, str]) -> None:
    without_bucket(offline)
    for name in ("good", "lost", "altered", "repaired"):
        put(offline, name, name.encode())
    folder = Path(offline.environment["KADUN_FILES_DIR"])
    (folder / sha256(b"lost")).unlink()
    (folder / sha256(b"altered")).write_bytes(b"ALTERED")
    (folder / sha256(b"repaired")).write_bytes(b"REPAIRED")
    obstore.put(bucket, key(b"repaired"), b"repaired")
    offline.environment.update(bucket_settings)
    done = offline.cardctl("file", "move-to", "bucket", check=False)
    assert done.returncode == 1
    assert "Not moved: 2 (altered, lost)" in done.stderr
    assert keys(bucket) == {key(b"good"), key(b"repaired")}
    assert blobs(offline) == {sha256(b"altered")}
    obstore.put(bucket, key(b"good"), b"GOOD")
    done = offline.cardctl("file", "move-to", "folder", check=False)
    assert "Not moved: 3 (altered, good, lost)" in done.stderr
    assert keys(bucket) == {key(b"good")}


def test_a_bucket_that_fails_half_way_leaves_the_rest_where_it_is(
    offline: Service, bucket: Any, front: TlsFront, bucket_settings: dict[str, str]
) -> None:
    without_bucket(offline)
    for name in ("a", "b", "c"):
        put(offline, name, name.encode())
    offline.environment.update(bucket_settings)
    with front.away():
        done = offline.cardctl("file", "move-to", "bucket", check=False)
    assert "Not moved: 3 (a, b, c)" in done.stderr
    assert (len(blobs(offline)), keys(bucket)) == (3, set())
    assert offline.cardctl("file", "move-to", "bucket").stderr.count("moved") == 3


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_move_loses_nothing_and_goes_on(
    offline: Service, bucket: Any, bucket_settings: dict[str, str], kill: signal.Signals
) -> None:
    without_bucket(offline)
    contents = {f"file {number}": secrets.token_bytes(6_000_000) for number in range(4)}
    for name, content in contents.items():
        put(offline, name, content)
    offline.environment.update(bucket_settings)
    command = [sys.executable, "-m", "app", "file", "move-to", "bucket"]
    with subprocess.Popen(command, cwd=ROOT, env=offline.environment, stderr=subprocess.PIPE) as moving:
        wait_for(lambda: keys(bucket))
        moving.send_signal(kill)
        assert moving.stderr
        said = moving.stderr.read().decode()
    assert moving.returncode == (1 if kill is signal.SIGINT else -kill)
    assert ("run it again" in said) == (kill is signal.SIGINT)
    assert set(states(offline).values()) == {False}
    offline.cardctl("file", "move-to", "bucket")
    assert (blobs(offline), keys(bucket)) == (set(), {key(content) for content in contents.values()})


@pytest.mark.parametrize("to", Place)
def test_what_another_command_takes_away_meanwhile_is_not_the_last_copy(
    offline: Service, bucket: Any, database: Database, monkeypatch: pytest.MonkeyPatch, to: Place
) -> None:
    put(offline, "a", b"1")
    step = {Place.FOLDER: "download", Place.BUCKET: "upload"}[to]
    if to is Place.BUCKET:
        offline.cardctl("file", "move-to", "folder")
    copy = getattr(BucketBlobs, step)

    def copy_late(blobs: BucketBlobs, blob: Blob) -> object:
        done = copy(blobs, blob)
        if to is Place.FOLDER:
            put(offline, "b", b"1")  # which leaves the bytes in the bucket alone
        else:
            # What the move finds when it has read the copy back.
            original = BucketBlobs.is_intact_in_bucket
            monkeypatch.setattr(BucketBlobs, "is_intact_in_bucket", lambda *given: (original(*given), back())[0])
        return done

    def back() -> None:
        monkeypatch.undo()
        offline.cardctl("file", "move-to", "folder")

    monkeypatch.setattr(BucketBlobs, step, copy_late)
    (move,) = FileMoves.of_installation(database, Settings.from_env(offline.environment)).run(to)
    assert move.left is not None
    assert "run this again" in move.left.en
    assert (blobs(offline), keys(bucket)) == ((set(), {key(b"1")}) if to is Place.FOLDER else ({sha256(b"1")}, set()))
    assert set(states(offline).values()) == {False}
