"""Changes of licensed files: the effect of `cardctl file …`, and what a failure in the middle leaves."""
# Owns files-changes.

import io
import json
import secrets
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from app.domain.errors import DatabaseUnavailableError
from app.domain.files.files import Blob
from app.domain.operators.operators import Role
from app.domain.texts import RefusedError
from app.runtime.clock import utc_now
from app.services.cards.issuing import Issuing
from app.services.files.file_store import FileStore
from app.services.operators.operators import Operators
from app.storage.blobs import Blobs, Received
from app.storage.database import Database
from app.storage.models import Event, File, FileBatch
from tests.conftest import Clock
from tests.support.downloads import blobs, put, sha256
from tests.support.secrets import PASSWORD
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
    for word in ("a", "3 bytes", sha256(b"two"), "gold", "b", "every card"):
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


def test_a_batch_without_cards_is_reported_and_cards_of_sellers_and_shops_are_counted(
    offline: Service, database: Database, operators: Operators
) -> None:
    def added(*options: str) -> str:
        return offline.cardctl("file", "add", "-", "--name", "a", *options, text="x").stderr

    offline.cardctl("card", "issue", "--validity", "1d", "--batch", "gold", "--format", "txt")
    (line,) = added("--batch", "gold", "--batch", "TYPO").splitlines()
    assert "no card has the batch TYPO" in line
    assert listed(offline)[0]["batches"] == ["TYPO", "gold"]
    assert "TYPO" in added(), "the batches are kept"
    assert added("--batch", "gold") == ""
    operators.add("olga", Role.OWNER, PASSWORD)
    operators.add("sam", Role.SELLER, PASSWORD)
    for count, actor in enumerate(("console:olga", "console:sam", "console:removed", "shop:taobao"), 1):
        Issuing(database, actor, utc_now).issue(count, None, "gold")
    Issuing(database, "shop:taobao", utc_now).issue(1, None, "other")
    (line,) = added().splitlines()
    assert "cards of the batch gold that sellers or shops issued, which get the file too: 9" in line


def test_adding_again_keeps_the_batches_unless_an_option_changes_them(offline: Service) -> None:
    twice = put(offline, "a", b"1", "--batch", "gold", "--batch", "春季", "--batch", "gold")
    assert twice["batches"] == ["gold", "春季"]
    assert put(offline, "a", b"2")["batches"] == ["gold", "春季"]
    assert put(offline, "a", b"3", "--batch", "silver")["batches"] == ["silver"]
    assert put(offline, "a", b"3", "--all-cards")["batches"] == []
    assert put(offline, "a", b"4")["batches"] == []
    both = offline.cardctl("file", "add", "-", "--name", "a", "--all-cards", "--batch", "x", text="5", check=False)
    assert both.returncode == 2
    for wrong in ("", "x" * 201, "a\nb"):
        offline.refusal("file", "add", "-", "--name", "a", "--batch", wrong, text="5")
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


def test_a_failure_leaves_the_old_version_before_the_commit_and_the_new_one_after_it(
    store: FileStore, folder: FailingBlobs
) -> None:
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


def test_old_bytes_that_cannot_be_removed_are_a_warning(
    store: FileStore, folder: FailingBlobs, warnings: list[str]
) -> None:
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


def test_an_unsafe_name_is_refused_before_its_bytes_are_read_and_by_the_database(
    database: Database, store: FileStore
) -> None:
    source = io.BytesIO(b"x")
    for name in ("../a", "a/b", ".a", "", "a" * 101, "a\nb", "a\\b"):
        with pytest.raises(RefusedError):
            store.add(name, source)
        assert source.tell() == 0
        with pytest.raises(Exception, match="file_name_check"), database.atomic():
            File.insert(name=name, size=0, sha256="a" * 64, added_at=Clock().now).execute()


def listed(service: Service) -> list[dict[str, Any]]:
    return list(service.cardctl_json("file", "list"))


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(database: Database, folder: FailingBlobs, clock: Clock, warnings: list[str]) -> FileStore:
    return FileStore(database, folder, "tester", clock, warn=lambda text: warnings.append(text.en))
