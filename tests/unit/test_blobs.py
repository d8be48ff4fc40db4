"""The folder of licensed files' bytes: complete files, durable changes, and nothing else touched."""

import hashlib
import io
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.domain.texts import RefusedError
from app.storage.blobs import BLOCK_BYTES, SPARE_BYTES, Blob, Blobs

CONTENT = bytes(range(256)) * 9000  # more than two blocks
BLOB = Blob(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def blobs(folder: Path) -> Blobs:
    return Blobs(folder)


def add(blobs: Blobs, content: bytes = CONTENT, size: int | None = None) -> Blob:
    with blobs.receiving(io.BytesIO(content), size) as received:
        blobs.install(received)
        return received.blob


def test_bytes_are_readable_for_everybody_under_their_digest(blobs: Blobs, folder: Path) -> None:
    umask = os.umask(0o077)
    try:
        assert add(blobs, size=len(CONTENT)) == BLOB
    finally:
        os.umask(umask)
    assert blobs.holds(BLOB)
    with blobs.open(BLOB) as file:
        assert file.read() == CONTENT
    assert [path.name for path in folder.iterdir()] == [BLOB.sha256]
    assert ((folder / BLOB.sha256).stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o644, 0o755)


def test_an_empty_file_is_a_file_and_progress_adds_up(blobs: Blobs) -> None:
    assert blobs.holds(add(blobs, b"", 0))
    done: list[int] = []
    with blobs.receiving(io.BytesIO(CONTENT), None, done.append):
        pass
    assert (len(done), sum(done)) == (3, len(CONTENT))


class Broken(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise OSError(5, "Input/output error")
        return super().read(size)


def test_what_was_not_installed_or_ends_too_early_or_late_leaves_nothing(blobs: Blobs, folder: Path) -> None:
    with blobs.receiving(io.BytesIO(CONTENT), None) as received:
        assert received.partial.stat().st_size == len(CONTENT)
    assert list(folder.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), blobs.receiving(io.BytesIO(CONTENT), None):
        raise KeyboardInterrupt
    for announced in (len(CONTENT) + 1, len(CONTENT) - 1, 0):
        with pytest.raises(RefusedError, match="nothing was added"):
            add(blobs, size=announced)
    with pytest.raises(OSError, match="Input/output"), blobs.receiving(Broken(CONTENT), None):
        pass
    assert list(folder.iterdir()) == []


def test_a_file_without_room_is_refused_before_it_is_read(blobs: Blobs, folder: Path) -> None:
    source = io.BytesIO(CONTENT)
    with pytest.raises(RefusedError, match="has no room"), blobs.receiving(source, 10**18):
        pass
    assert source.tell() == 0
    assert list(folder.iterdir()) == []


def test_a_stream_that_fills_the_disk_is_refused_while_there_is_still_room_for_others(
    blobs: Blobs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(_folder: Path) -> object:
        written = sum(path.stat().st_size for path in folder.iterdir())
        return SimpleNamespace(free=SPARE_BYTES + 2 * BLOCK_BYTES - written)

    monkeypatch.setattr("app.storage.blobs.shutil.disk_usage", usage)
    with pytest.raises(RefusedError, match="has no room"), blobs.receiving(io.BytesIO(bytes(5 * BLOCK_BYTES)), None):
        pass
    assert list(folder.iterdir()) == []


def test_leftovers_of_killed_additions_are_removed_after_a_day_and_nothing_else(blobs: Blobs, folder: Path) -> None:
    add(blobs)
    yesterday = time.time() - 25 * 3600
    for name in ("vendor's own.txt", ".adding-left", ".adding-busy"):
        (folder / name).write_bytes(b"half")
        if name != ".adding-busy":
            os.utime(folder / name, (yesterday, yesterday))
    add(blobs, b"other")
    left = {path.name for path in folder.iterdir()}
    assert left == {BLOB.sha256, hashlib.sha256(b"other").hexdigest(), "vendor's own.txt", ".adding-busy"}


def test_an_open_file_outlives_its_removal_and_one_of_another_length_is_not_opened(blobs: Blobs, folder: Path) -> None:
    add(blobs)
    (folder / BLOB.sha256).write_bytes(CONTENT[:-1])
    assert not blobs.holds(BLOB)
    add(blobs)
    with blobs.open(BLOB) as file:
        assert file.read(10) == CONTENT[:10]
        blobs.remove(BLOB.sha256)
        assert not blobs.holds(BLOB)
        assert file.read() == CONTENT[10:]
    blobs.remove(BLOB.sha256)
    with pytest.raises(FileNotFoundError):
        blobs.open(BLOB)


def test_the_folders_parent_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        add(Blobs(tmp_path / "no" / "files"))
    assert not Blobs(tmp_path / "no").holds(BLOB)
