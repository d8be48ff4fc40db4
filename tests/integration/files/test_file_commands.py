"""Changes of licensed files in the folder and the bucket: `cardctl file …`, moves, and failures in the middle."""
# Owns files-changes.

import io
import json
import secrets
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import obstore
import pytest

from app.domain.errors import DatabaseUnavailableError
from app.domain.files.files import Blob
from app.domain.operators.operators import Role, Scope
from app.runtime.clock import utc_now
from app.runtime.settings import Settings
from app.services.cards.issuing import Issuing
from app.services.files.file_moves import PLACES, FileMoves
from app.services.files.file_store import FileStore
from app.services.operators.operators import Operators
from app.services.shop.shop_tokens import ShopTokens
from app.storage.blobs import Blobs, Received
from app.storage.bucket import BucketObjects
from app.storage.cards import Owner
from app.storage.database import Database
from app.storage.models import ApiToken, Card, Event, File, FileBatch, Operator
from tests.conftest import Clock
from tests.integration.conftest import with_keys
from tests.support.downloads import CONTENT, blobs, fetch, links, put, sha256
from tests.support.secrets import PASSWORD
from tests.support.services.bucket import BUCKET, STRANGER, WRITER, key, keys, states
from tests.support.services.pki import Issued
from tests.support.services.relays import TlsFront
from tests.support.services.service import Service, wait_for


def test_an_added_file_is_listed_stored_and_journalled(offline: Service) -> None:
    content = secrets.token_bytes(3_000_000)
    source = offline.folder / "核心.bin"
    source.write_bytes(content)
    (stored,) = offline.cardctl_json("file", "add", str(source))
    assert datetime.fromisoformat(stored["added_at"]).utcoffset() is not None
    details = {"name": "核心.bin", "size": 3_000_000, "sha256": sha256(content), "batches": []}
    assert stored == {**details, "missing": False, "added_at": stored["added_at"]}
    assert (listed(offline), blobs(offline)) == ([stored], {sha256(content)})
    event = Event.get()
    assert (event.kind, event.actor[:8], event.details) == ("file_added", "cardctl:", {**details, "replaced": None})


def test_standard_input_needs_a_name_and_must_have_its_announced_size(offline: Service) -> None:
    assert offline.cardctl("file", "add", "-", check=False).returncode == 2
    for more in (("a",), ("b", "--size", "5")):
        assert offline.cardctl("file", "add", "-", "--name", *more, text="hello").returncode == 0
    (offline.folder / "source").write_bytes(b"hello")
    assert offline.cardctl("file", "add", str(offline.folder / "source"), "--size", "5", check=False).returncode == 2
    cut = offline.refusal("file", "add", "-", "--name", "c", "--size", "6", text="hello")
    assert "6 bytes were announced and 5 came" in cut
    offline.refusal("file", "add", "-", "--name", "../a", text="hello")
    assert [(file["name"], file["size"]) for file in listed(offline)] == [("a", 5), ("b", 5)]
    assert blobs(offline) == {sha256(b"hello")}


def test_a_new_version_replaces_the_old_one_and_bytes_stay_while_one_file_has_them(offline: Service) -> None:
    assert "没有文件" in offline.cardctl("file", "list").stderr
    put(offline, "a", b"one")
    put(offline, "a", b"two", "--batch", "gold")
    assert [(file["name"], file["sha256"]) for file in listed(offline)] == [("a", sha256(b"two"))]
    assert blobs(offline) == {sha256(b"two")}
    assert [event.details["replaced"] for event in Event.select().order_by(Event.id)] == [None, sha256(b"one")]
    put(offline, "b", b"two")
    shown = offline.cardctl("file", "list").stdout
    for word in ("a", "3 Bytes", sha256(b"two"), "gold", "b", "every card"):
        assert word in shown
    assert "missing" not in shown
    offline.cardctl("file", "remove", "a")
    assert blobs(offline) == {sha256(b"two")}
    put(offline, "b", b"other")
    assert blobs(offline) == {sha256(b"other")}
    (Path(offline.environment["KADUN_FILES_DIR"]) / sha256(b"other")).unlink()
    assert listed(offline)[0]["missing"] is True
    put(offline, "b", b"other")
    assert listed(offline)[0]["missing"] is False


def test_odd_batches_of_a_file_are_reported(offline: Service, database: Database, operators: Operators) -> None:
    def added(*options: str) -> str:
        return offline.cardctl("file", "add", "-", "--name", "a", *options, text="x").stderr

    offline.cardctl("card", "issue", "--validity", "1d", "--batch", "gold", "--format", "txt")
    (line,) = added("--batch", "gold", "--batch", "TYPO").splitlines()
    assert "no card has the batch TYPO" in line
    assert "TYPO" in added(), "the batches are kept"
    assert added("--batch", "gold") == ""
    operators.add("olga", Role.OWNER, PASSWORD)
    operators.add("sam", Role.SELLER, PASSWORD)
    ShopTokens(database, "tester", utc_now).add("taobao", [Scope.CARDS_ISSUE])
    by_name = {row.name: row.id for row in Operator.select()}
    taobao = ApiToken.get().id
    owners = (Owner(by_name["olga"]), Owner(by_name["sam"]), Owner(token_id=taobao))
    for count, owner in enumerate(owners, 1):
        for card in Issuing(database, "tester", utc_now).issue(count, None, "gold").cards:
            Card.update(**owner._asdict()).where(Card.id == card.id).execute()
    (line,) = added().splitlines()
    assert "cards of the batch gold that sellers or shops issued, which get the file too: 5" in line


def test_adding_again_keeps_the_batches_unless_an_option_changes_them(offline: Service) -> None:
    twice = put(offline, "a", b"1", "--batch", "gold", "--batch", "春季", "--batch", "gold")
    assert twice["batches"] == ["gold", "春季"]
    assert put(offline, "a", b"2")["batches"] == ["gold", "春季"]
    assert put(offline, "a", b"3", "--batch", "silver")["batches"] == ["silver"]
    assert put(offline, "a", b"3", "--all-cards")["batches"] == []
    assert put(offline, "a", b"4")["batches"] == []
    both = offline.cardctl("file", "add", "-", "--name", "a", "--all-cards", "--batch", "x", text="5", check=False)
    assert both.returncode == 2
    offline.refusal("file", "add", "-", "--name", "a", "--batch", "a\nb", text="5")
    assert listed(offline)[0]["sha256"] == sha256(b"4")


def test_removing_is_all_or_nothing(offline: Service) -> None:
    for name in ("a", "b", "c"):
        put(offline, name, name.encode(), "--batch", "gold")
    assert "there is no file x" in offline.refusal("file", "remove", "a", "x", "b")
    assert len(listed(offline)) == len(blobs(offline)) == 3
    assert "已移除 2 个" in offline.cardctl("file", "remove", "a", "b", "a").stderr
    assert ([file["name"] for file in listed(offline)], blobs(offline)) == (["c"], {sha256(b"c")})
    assert {row.file_name for row in FileBatch.select()} == {"c"}
    removed = Event.select().where(Event.kind == "file_removed").order_by(Event.id)
    assert [event.details for event in removed] == [
        {"name": name, "size": 1, "sha256": sha256(name.encode())} for name in ("a", "b")
    ]


def test_a_slow_addition_does_not_block_another_one(offline: Service) -> None:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    slow = offline.spawn_cardctl("file", "add", "-", "--name", "a", "--format", "json", **pipes)
    assert slow.stdin
    slow.stdin.write(bytes(2_000_000))
    slow.stdin.flush()
    folder = Path(offline.environment["KADUN_FILES_DIR"])
    wait_for(lambda: [path for path in folder.glob(".adding-*") if path.stat().st_size >= 1024 * 1024])
    put(offline, "a", b"quick")
    assert [file["sha256"] for file in listed(offline)] == [sha256(b"quick")]
    printed, said = slow.communicate(b"end")
    assert slow.returncode == 0, said
    digest = sha256(bytes(2_000_000) + b"end")
    assert json.loads(printed)[0]["sha256"] == digest
    assert ([file["sha256"] for file in listed(offline)], blobs(offline)) == ([digest], {digest})


def test_concurrent_changes_leave_rows_and_bytes_consistent(offline: Service) -> None:
    def change(number: int) -> int:
        name, content = f"file {number % 2}", "x" * (number % 3 + 1)
        if number % 4 == 3:
            return offline.run_cardctl("file", "remove", name, check=False).returncode
        return offline.run_cardctl("file", "add", "-", "--name", name, text=content).returncode

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(change, range(16))) <= {0, 1}
    assert blobs(offline) == {row.sha256 for row in File.select()}
    assert not any(file["missing"] for file in listed(offline))


class FailingBlobs(Blobs):
    """A folder that fails after bytes are installed, or before they are removed."""

    fails_at = ""
    failure: BaseException = RuntimeError("a power cut")

    def install(self, received: Received) -> None:
        super().install(received)
        self._cut("install")

    def remove(self, sha256: str) -> None:
        self._cut("remove")
        super().remove(sha256)

    def _cut(self, where: str) -> None:
        if where == self.fails_at:
            raise self.failure


@pytest.fixture
def folder(tmp_path: Path) -> FailingBlobs:
    return FailingBlobs(tmp_path / "files")


def add(store: FileStore, name: str, content: bytes) -> str:
    return store.add(name, io.BytesIO(content), size=len(content)).sha256


def read(folder: Blobs, store: FileStore, name: str) -> bytes:
    """The bytes of a file as a customer would get them."""
    (file,) = (one for one in store.listed() if one.name == name)
    assert not file.missing
    with folder.open(Blob(file.sha256, file.size)) as source:
        return source.read()


def test_a_failure_leaves_the_old_version_or_after_the_commit_the_new(store: FileStore, folder: FailingBlobs) -> None:
    add(store, "a", b"old")
    for folder.fails_at, left, changes in (("install", b"old", 1), ("remove", b"new", 2)):
        with pytest.raises(RuntimeError, match="power cut"):
            add(store, "a", b"new")
        assert read(folder, store, "a") == left, folder.fails_at
        assert folder.holds(Blob(sha256(b"new"), 3)) is (left == b"new"), folder.fails_at
        assert Event.select().count() == changes, folder.fails_at
    with pytest.raises(RuntimeError, match="power cut"):
        store.remove(["a"])
    assert store.listed() == []
    folder.fails_at = ""
    add(store, "a", b"new")
    assert read(folder, store, "a") == b"new"


def test_old_bytes_that_must_stay_are_a_warning(store: FileStore, folder: FailingBlobs, warnings: list[str]) -> None:
    for failure in (DatabaseUnavailableError("gone"), KeyboardInterrupt(), PermissionError("not ours")):
        old = add(store, "a", b"old")
        folder.fails_at, folder.failure = "remove", failure
        new = add(store, "a", b"new")
        assert read(folder, store, "a") == b"new", failure
        store.remove(["a"])
        assert store.listed() == [], failure
        for digest in (old, new):
            warning = warnings.pop(0)
            assert (warning.startswith("the change is made"), digest in warning) == (True, True), failure
        folder.fails_at = ""
        add(store, "b", b"another")
        assert folder.holds(Blob(old, 3)), "nothing sweeps what another database may want"
        store.remove(["b"])
    assert warnings == []


def listed(service: Service) -> list[dict[str, Any]]:
    return list(service.cardctl_json("file", "list"))


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(database: Database, folder: FailingBlobs, clock: Clock, warnings: list[str]) -> FileStore:
    return FileStore(database, folder, "tester", clock, warn=lambda text: warnings.append(text.en))


@pytest.fixture
def bucketed(offline: Service, bucket: Any, bucket_settings: dict[str, str]) -> Service:
    """The command line with the bucket."""
    offline.environment.update(bucket_settings)
    return offline


@contextmanager
def without_bucket(service: Service) -> Iterator[None]:
    """As before the vendor has a bucket."""
    settings = service.environment
    service.environment = {name: settings[name] for name in settings if not name.startswith("KADUN_FILES_BUCKET")}
    yield
    service.environment = settings


def put_into_folder(service: Service, contents: dict[str, bytes]) -> None:
    with without_bucket(service):
        for name, content in contents.items():
            put(service, name, content)


def test_files_are_added_replaced_listed_and_removed(bucketed: Service, bucket: Any) -> None:
    large = secrets.token_bytes(17_000_000)  # goes up in parts
    put(bucketed, "a", large)
    put(bucketed, "same", large)
    assert keys(bucket) == {key(large)}
    assert sha256(bytes(obstore.get(bucket, key(large)).bytes())) == sha256(large)
    assert blobs(bucketed) == set()
    put(bucketed, "a", b"2")
    assert keys(bucket) == {key(large), key(b"2")}
    assert states(bucketed) == {"a": False, "same": False}
    bucketed.cardctl("file", "remove", "same")
    assert keys(bucket) == {key(b"2")}
    obstore.delete(bucket, key(b"2"))
    assert states(bucketed) == {"a": True}
    bucketed.cardctl("file", "remove", "a")
    assert list(File.select()) == []


def test_a_bucket_that_cannot_be_used_is_named_with_what_it_says(
    bucketed: Service, bucket: Any, front: TlsFront, authority: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bucketed.folder / "x").write_bytes(b"x")
    stranger = {f"KADUN_FILES_BUCKET_{name}_FILE": "" for name in ("KEY_ID", "SECRET")}
    stranger |= {"KADUN_FILES_BUCKET_KEY_ID": STRANGER[0], "KADUN_FILES_BUCKET_SECRET": STRANGER[1]}

    def require_refused(why: str, **changes: str) -> None:
        with monkeypatch.context() as changed:
            changed.setattr(bucketed, "environment", bucketed.environment | changes)
            refused = bucketed.refusal("file", "add", str(bucketed.folder / "x"))
            assert (why in refused, "check the settings KADUN_FILES_BUCKET" in refused) == (True, True), refused
            assert (list(File.select()), blobs(bucketed), keys(bucket)) == ([], set(), set())
            found = bucketed.doctor()
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


def test_doctor_and_the_list_tell_a_lost_object_and_bucket(bucketed: Service, bucket: Any, front: TlsFront) -> None:
    put(bucketed, "a", CONTENT)
    found = bucketed.doctor()
    assert [found[name]["status"] for name in ("bucket", "files")] == ["OK", "OK"]
    obstore.delete(bucket, key(CONTENT))
    assert (bucketed.doctor()["files"]["status"], keys(bucket)) == ("FAIL", set())
    put(bucketed, "a", CONTENT)
    with front.away():
        assert states(bucketed) == {"a": None}
        assert "未知 unknown" in bucketed.cardctl("file", "list").stdout
        found = bucketed.doctor()
        left = bucketed.cardctl("file", "remove", "a").stderr
    assert (found["bucket"]["status"], found["files"]["status"]) == ("FAIL", "WARN")
    assert sha256(CONTENT) in left, "the file is removed, and its bytes were not"
    assert bucketed.cardctl_json("file", "list") == []


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


def test_files_move_into_the_bucket_and_back(bucketed: Service, bucket: Any, front: TlsFront) -> None:
    contents = {"a": CONTENT, "b": b"2", "b again": b"2", "empty": b""}
    in_folder, in_bucket = {sha256(each) for each in contents.values()}, {key(each) for each in contents.values()}
    with without_bucket(bucketed):
        assert "no bucket is set" in bucketed.refusal("file", "move-to", "bucket")
    put_into_folder(bucketed, contents)
    assert set(states(bucketed).values()) == {False}, "they are read from the folder until then"
    with front.away():
        assert "The bucket is unavailable" in bucketed.refusal("file", "move-to", "bucket")
    assert (blobs(bucketed), keys(bucket)) == (in_folder, set())
    for _ in range(2):
        moved = bucketed.cardctl_json("file", "move-to", "bucket")
        assert {name for one in moved for name in one["names"]} == set(contents)
        assert [one["left"] for one in moved] == [None] * 3
        assert (blobs(bucketed), keys(bucket)) == (set(), in_bucket)
    bucketed.cardctl("file", "move-to", "folder")
    assert (blobs(bucketed), keys(bucket)) == (in_folder, set())
    with without_bucket(bucketed):
        assert set(states(bucketed).values()) == {False}


def test_what_cannot_be_moved_is_left_and_named(bucketed: Service, bucket: Any) -> None:
    put_into_folder(bucketed, {name: name.encode() for name in ("good", "lost", "altered", "repaired")})
    folder = Path(bucketed.environment["KADUN_FILES_DIR"])
    (folder / sha256(b"lost")).unlink()
    (folder / sha256(b"altered")).write_bytes(b"ALTERED")
    (folder / sha256(b"repaired")).write_bytes(b"REPAIRED")
    obstore.put(bucket, key(b"repaired"), b"repaired")
    done = bucketed.cardctl("file", "move-to", "bucket", check=False)
    assert (done.returncode, "Not moved: 2 (altered, lost)" in done.stderr) == (1, True)
    assert (blobs(bucketed), keys(bucket)) == ({sha256(b"altered")}, {key(b"good"), key(b"repaired")})
    obstore.put(bucket, key(b"good"), b"GOOD")
    done = bucketed.cardctl("file", "move-to", "folder", check=False)
    assert "Not moved: 3 (altered, good, lost)" in done.stderr
    assert keys(bucket) == {key(b"good")}


def test_an_interrupted_move_loses_nothing_and_goes_on(bucketed: Service, bucket: Any) -> None:
    contents = {f"file {number}": secrets.token_bytes(6_000_000) for number in range(4)}
    for kill in (signal.SIGINT, signal.SIGKILL):
        put_into_folder(bucketed, contents)
        with bucketed.spawn_cardctl("file", "move-to", "bucket", stderr=subprocess.PIPE) as moving:
            wait_for(lambda: keys(bucket))
            moving.send_signal(kill)
            assert moving.stderr
            said = moving.stderr.read().decode()
        assert moving.returncode == (1 if kill is signal.SIGINT else -kill)
        assert ("run it again" in said) == (kill is signal.SIGINT)
        assert set(states(bucketed).values()) == {False}, kill
        bucketed.cardctl("file", "move-to", "bucket")
        assert (blobs(bucketed), keys(bucket)) == (set(), {key(content) for content in contents.values()}), kill
        bucketed.cardctl("file", "remove", *contents)


@pytest.mark.parametrize("to", PLACES)
def test_what_another_command_takes_away_meanwhile_is_not_the_last_copy(
    bucketed: Service, bucket: Any, database: Database, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    put(bucketed, "a", b"1")
    if to == "bucket":
        bucketed.cardctl("file", "move-to", "folder")
    remove = FileMoves._remove_original  # noqa: SLF001

    def after_another_command(moves: FileMoves, *arguments: Any) -> None:
        monkeypatch.undo()
        if to == "folder":
            put(bucketed, "b", b"1")  # which leaves the bytes in the bucket alone
        else:
            bucketed.cardctl("file", "move-to", "folder")
        remove(moves, *arguments)

    monkeypatch.setattr(FileMoves, "_remove_original", after_another_command)
    (move,) = FileMoves(database, Settings.from_env(bucketed.environment)).run(to)
    assert "run this again" in str(move.left)
    assert (blobs(bucketed), keys(bucket)) == ((set(), {key(b"1")}) if to == "folder" else ({sha256(b"1")}, set()))


def test_bytes_that_change_on_their_way_up_are_not_moved(
    bucketed: Service, bucket: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_into_folder(bucketed, {"a": b"right"})

    def put_other_bytes(_objects: BucketObjects, sha: str, _content: Path) -> None:
        obstore.put(bucket, f"files/{sha}", b"wrong")

    monkeypatch.setattr(BucketObjects, "put", put_other_bytes)
    (move,) = FileMoves(database, Settings.from_env(bucketed.environment)).run("bucket")
    assert "other bytes than were uploaded" in str(move.left)
    assert blobs(bucketed) == {sha256(b"right")}
