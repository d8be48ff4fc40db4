"""Files in a bucket: `cardctl file …`, moves between folder and bucket, `doctor`, and a service without nginx."""

import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import obstore
import pytest

from app.runtime.settings import Settings
from app.services.files.file_moves import PLACES, FileMoves
from app.storage.bucket import BucketObjects
from app.storage.database import Database
from app.storage.models import File
from tests.integration.conftest import with_keys
from tests.support.doctor import results
from tests.support.downloads import CONTENT, blobs, fetch, links, put, sha256
from tests.support.services.bucket import BUCKET, STRANGER, WRITER, key, keys, states
from tests.support.services.bucket_host import TlsFront
from tests.support.services.pki import Issued
from tests.support.services.service import Service, wait_for


@pytest.fixture
def offline(offline: Service, bucket: Any, bucket_settings: dict[str, str]) -> Service:
    """The command line with the bucket."""
    offline.environment.update(bucket_settings)
    return offline


@contextmanager
def without_bucket(service: Service) -> Iterator[None]:
    """As before the vendor has a bucket."""
    settings = {name: value for name, value in service.environment.items() if name.startswith("KADUN_FILES_BUCKET")}
    for name in settings:
        del service.environment[name]
    yield
    service.environment.update(settings)


def put_into_folder(service: Service, contents: dict[str, bytes]) -> None:
    with without_bucket(service):
        for name, content in contents.items():
            put(service, name, content)


def test_files_are_added_replaced_listed_and_removed(offline: Service, bucket: Any) -> None:
    large = secrets.token_bytes(17_000_000)  # goes up in parts
    put(offline, "a", large)
    put(offline, "same", large)
    assert keys(bucket) == {key(large)}
    assert sha256(bytes(obstore.get(bucket, key(large)).bytes())) == sha256(large)
    assert blobs(offline) == set()
    put(offline, "a", b"2")
    assert keys(bucket) == {key(large), key(b"2")}
    assert states(offline) == {"a": False, "same": False}
    offline.cardctl("file", "remove", "same")
    assert keys(bucket) == {key(b"2")}
    obstore.delete(bucket, key(b"2"))
    assert states(offline) == {"a": True}
    offline.cardctl("file", "remove", "a")
    assert list(File.select()) == []


def test_a_bucket_that_cannot_be_used_is_named_with_what_it_says(
    offline: Service, bucket: Any, front: TlsFront, authority: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    (offline.folder / "x").write_bytes(b"x")
    stranger = {f"KADUN_FILES_BUCKET_{name}_FILE": "" for name in ("KEY_ID", "SECRET")}
    stranger |= {"KADUN_FILES_BUCKET_KEY_ID": STRANGER[0], "KADUN_FILES_BUCKET_SECRET": STRANGER[1]}

    def require_refused(why: str, **changes: str) -> None:
        with monkeypatch.context() as changed:
            changed.setattr(offline, "environment", offline.environment | changes)
            refused = offline.refusal("file", "add", str(offline.folder / "x"))
            assert (why in refused, "check the settings KADUN_FILES_BUCKET" in refused) == (True, True), refused
            assert (list(File.select()), blobs(offline), keys(bucket)) == ([], set(), set())
            found = results(offline)
        assert (found["bucket"]["status"], why in found["bucket"]["message_en"]) == ("FAIL", True)
        assert WRITER[1] not in str(found)

    require_refused("SignatureDoesNotMatch", KADUN_FILES_BUCKET_SECRET_FILE="", KADUN_FILES_BUCKET_SECRET="wrong")
    require_refused("NoSuchBucket", KADUN_FILES_BUCKET="no-such-bucket")
    require_refused("AccessDenied", **stranger)
    require_refused("connect error", KADUN_FILES_BUCKET_ENDPOINT="https://localhost:1")
    require_refused("dns error", KADUN_FILES_BUCKET_ENDPOINT="https://nowhere.invalid")
    require_refused("InvalidCertificate", KADUN_FILES_BUCKET_CA="")
    front.show(Issued.make("elsewhere.example", issuer=authority))
    try:
        require_refused("InvalidCertificate")
    finally:
        front.show(Issued.make("localhost", f"{BUCKET}.localhost", issuer=authority))


def test_doctor_and_the_list_say_so_while_an_object_is_lost_or_the_bucket_is_away(
    offline: Service, bucket: Any, front: TlsFront
) -> None:
    put(offline, "a", CONTENT)
    found = results(offline)
    assert [found[name]["status"] for name in ("bucket", "files")] == ["OK", "OK"]
    obstore.delete(bucket, key(CONTENT))
    assert (results(offline)["files"]["status"], keys(bucket)) == ("FAIL", set())
    put(offline, "a", CONTENT)
    with front.away():
        assert states(offline) == {"a": None}
        assert "未知 unknown" in offline.cardctl("file", "list").stdout
        found = results(offline)
        left = offline.cardctl("file", "remove", "a").stderr
    assert (found["bucket"]["status"], found["files"]["status"]) == ("FAIL", "WARN")
    assert sha256(CONTENT) in left, "the file is removed, and its bytes were not"
    assert offline.cardctl_json("file", "list") == []


def test_a_service_without_nginx_sends_the_bytes_itself(
    tmp_path: Path, apart_url: str, bucket: Any, bucket_settings: dict[str, str], front: TlsFront
) -> None:
    with Service(with_keys(tmp_path), apart_url, **bucket_settings) as service:
        (card,) = service.issue()
        put(service, "a", CONTENT)
        url = links(service, card)["a"]
        assert fetch(service, url).body == CONTENT
        part = fetch(service, url, Range="bytes=100000-")
        assert (part.status, part.body) == (206, CONTENT[100_000:])
        assert fetch(service, url, method="HEAD").headers["content-length"] == str(len(CONTENT))
        with front.away():
            away = fetch(service, url)
        assert (away.status, away.json()["code"], away.headers["retry-after"]) == (503, "UNAVAILABLE", "2")
        obstore.delete(bucket, key(CONTENT))
        assert fetch(service, url).status == 404


def test_files_move_into_the_bucket_and_back(offline: Service, bucket: Any, front: TlsFront) -> None:
    contents = {"a": CONTENT, "b": b"2", "b again": b"2", "empty": b""}
    in_folder, in_bucket = {sha256(each) for each in contents.values()}, {key(each) for each in contents.values()}
    with without_bucket(offline):
        assert "no bucket is set" in offline.refusal("file", "move-to", "bucket")
    put_into_folder(offline, contents)
    assert set(states(offline).values()) == {False}, "they are read from the folder until then"
    with front.away():
        assert "The bucket is unavailable" in offline.refusal("file", "move-to", "bucket")
    assert (blobs(offline), keys(bucket)) == (in_folder, set())
    for _ in range(2):
        moved = offline.cardctl_json("file", "move-to", "bucket")
        assert {name for one in moved for name in one["names"]} == set(contents)
        assert [one["left"] for one in moved] == [None] * 3
        assert (blobs(offline), keys(bucket)) == (set(), in_bucket)
    offline.cardctl("file", "move-to", "folder")
    assert (blobs(offline), keys(bucket)) == (in_folder, set())
    with without_bucket(offline):
        assert set(states(offline).values()) == {False}


def test_what_cannot_be_moved_is_left_and_named(offline: Service, bucket: Any) -> None:
    put_into_folder(offline, {name: name.encode() for name in ("good", "lost", "altered", "repaired")})
    folder = Path(offline.environment["KADUN_FILES_DIR"])
    (folder / sha256(b"lost")).unlink()
    (folder / sha256(b"altered")).write_bytes(b"ALTERED")
    (folder / sha256(b"repaired")).write_bytes(b"REPAIRED")
    obstore.put(bucket, key(b"repaired"), b"repaired")
    done = offline.cardctl("file", "move-to", "bucket", check=False)
    assert (done.returncode, "Not moved: 2 (altered, lost)" in done.stderr) == (1, True)
    assert (blobs(offline), keys(bucket)) == ({sha256(b"altered")}, {key(b"good"), key(b"repaired")})
    obstore.put(bucket, key(b"good"), b"GOOD")
    done = offline.cardctl("file", "move-to", "folder", check=False)
    assert "Not moved: 3 (altered, good, lost)" in done.stderr
    assert keys(bucket) == {key(b"good")}


def test_an_interrupted_move_loses_nothing_and_goes_on(offline: Service, bucket: Any) -> None:
    contents = {f"file {number}": secrets.token_bytes(6_000_000) for number in range(4)}
    for kill in (signal.SIGINT, signal.SIGKILL):
        put_into_folder(offline, contents)
        with offline.spawn_cardctl("file", "move-to", "bucket", stderr=subprocess.PIPE) as moving:
            wait_for(lambda: keys(bucket))
            moving.send_signal(kill)
            assert moving.stderr
            said = moving.stderr.read().decode()
        assert moving.returncode == (1 if kill is signal.SIGINT else -kill)
        assert ("run it again" in said) == (kill is signal.SIGINT)
        assert set(states(offline).values()) == {False}, kill
        offline.cardctl("file", "move-to", "bucket")
        assert (blobs(offline), keys(bucket)) == (set(), {key(content) for content in contents.values()}), kill
        offline.cardctl("file", "remove", *contents)


@pytest.mark.parametrize("to", PLACES)
def test_what_another_command_takes_away_meanwhile_is_not_the_last_copy(
    offline: Service, bucket: Any, database: Database, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    put(offline, "a", b"1")
    if to == "bucket":
        offline.cardctl("file", "move-to", "folder")
    remove = FileMoves._remove_original  # noqa: SLF001

    def after_another_command(moves: FileMoves, *arguments: Any) -> None:
        monkeypatch.undo()
        if to == "folder":
            put(offline, "b", b"1")  # which leaves the bytes in the bucket alone
        else:
            offline.cardctl("file", "move-to", "folder")
        remove(moves, *arguments)

    monkeypatch.setattr(FileMoves, "_remove_original", after_another_command)
    (move,) = FileMoves(database, Settings.from_env(offline.environment)).run(to)
    assert "run this again" in str(move.left)
    assert (blobs(offline), keys(bucket)) == ((set(), {key(b"1")}) if to == "folder" else ({sha256(b"1")}, set()))


def test_bytes_that_change_on_their_way_up_are_not_moved(
    offline: Service, bucket: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_into_folder(offline, {"a": b"right"})

    def put_other_bytes(_objects: BucketObjects, sha: str, _content: Path) -> None:
        obstore.put(bucket, f"files/{sha}", b"wrong")

    monkeypatch.setattr(BucketObjects, "put", put_other_bytes)
    (move,) = FileMoves(database, Settings.from_env(offline.environment)).run("bucket")
    assert "other bytes than were uploaded" in str(move.left)
    assert blobs(offline) == {sha256(b"right")}
