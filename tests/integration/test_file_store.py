"""Changes of licensed files that fail in the middle, without the command line."""

import io
from pathlib import Path

import pytest

from app.domain.errors import DatabaseUnavailableError
from app.domain.texts import RefusedError
from app.services.file_store import FileStore
from app.storage.blobs import Blob, Blobs, Received
from app.storage.database import Database
from app.storage.models import Event, File
from tests.conftest import Clock
from tests.support.tables import for_each


class PowerCutError(Exception):
    """The machine stops here."""


class FailingBlobs(Blobs):
    """A folder that fails after bytes are installed, or before they are removed."""

    fails_at = ""
    failure: BaseException = PowerCutError()

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
def blobs(tmp_path: Path) -> FailingBlobs:
    return FailingBlobs(tmp_path / "files")


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(database: Database, blobs: FailingBlobs, clock: Clock, warnings: list[str]) -> FileStore:
    return FileStore(database, blobs, "tester", clock, warn=lambda text: warnings.append(text.en))


def add(store: FileStore, name: str, content: bytes) -> str:
    return store.add(name, io.BytesIO(content), size=len(content)).sha256


def read(blobs: Blobs, store: FileStore, name: str) -> bytes:
    """The bytes of a file as a customer would get them."""
    (file,) = (one for one in store.listed() if one.name == name)
    assert not file.missing
    with blobs.open(Blob(file.sha256, file.size)) as source:
        return source.read()


def test_a_failure_before_the_commit_leaves_the_old_version(store: FileStore, blobs: FailingBlobs) -> None:
    add(store, "a", b"old")
    blobs.fails_at = "install"
    with pytest.raises(PowerCutError):
        add(store, "a", b"new")
    assert read(blobs, store, "a") == b"old"
    assert Event.select().count() == 1
    blobs.fails_at = ""
    add(store, "a", b"new")
    assert read(blobs, store, "a") == b"new"


def test_a_failure_after_the_commit_leaves_the_new_version(store: FileStore, blobs: FailingBlobs) -> None:
    add(store, "a", b"old")
    blobs.fails_at = "remove"
    with pytest.raises(PowerCutError):
        add(store, "a", b"new")
    assert read(blobs, store, "a") == b"new"
    assert Event.select().count() == 2
    with pytest.raises(PowerCutError):
        store.remove(["a"])
    assert store.listed() == []


@for_each("failure", [DatabaseUnavailableError("gone"), KeyboardInterrupt(), PermissionError("not ours")])
def test_old_bytes_that_cannot_be_removed_are_a_warning(
    store: FileStore, blobs: FailingBlobs, warnings: list[str], failure: BaseException
) -> None:
    warnings.clear()
    old = add(store, "a", b"old")
    blobs.fails_at, blobs.failure = "remove", failure
    new = add(store, "a", b"new")
    assert read(blobs, store, "a") == b"new"
    store.remove(["a"])
    assert store.listed() == []
    for warning, digest in zip(warnings, (old, new), strict=True):
        assert warning.startswith("the change is made")
        assert digest in warning
    blobs.fails_at = ""
    add(store, "b", b"another")
    assert blobs.holds(Blob(old, 3))  # nothing sweeps what another database may want
    store.remove(["b"])


def test_a_name_is_refused_before_its_bytes_are_read(store: FileStore) -> None:
    source = io.BytesIO(b"x")
    with pytest.raises(RefusedError):
        store.add("../a", source)
    assert source.tell() == 0


def test_the_database_refuses_unsafe_names(database: Database, store: FileStore) -> None:
    for name in ("../a", "a/b", ".a", "", "a" * 101, "a\nb", "a\\b"):
        with pytest.raises(Exception, match="file_name_check"), database.atomic():
            File.insert(name=name, size=0, sha256="a" * 64, added_at=Clock().now).execute()
