"""Putting a copy of the key ring back: it replaces every present ring but one that continues it."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.tokens import keyring
from app.tokens.keyring import KeyRingError
from app.tokens.keys import KeyRing

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
KEPT = "keyring.replaced-20260301T120000Z.json"


@pytest.fixture
def rings() -> list[KeyRing]:
    """A ring, and what each of three rotations made of it."""
    rings = [KeyRing.new(NOW, "kadun")]
    for rotation in range(1, 4):
        rings.append(rings[-1].rotated(NOW + timedelta(days=rotation), "kadun"))
    return rings


def put(folder: Path, ring: KeyRing) -> bytes:
    """Write a ring as the first start does; return the content of the file."""
    folder.mkdir(exist_ok=True)
    keyring.restore(folder, keyring.encoded(ring), NOW)
    return (folder / keyring.FILE).read_bytes()


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


@pytest.mark.parametrize("present", range(4))
@pytest.mark.parametrize("copy", range(4))
def test_a_ring_is_newer_when_it_retired_the_current_key_of_the_other(
    present: int, copy: int, rings: list[KeyRing]
) -> None:
    assert rings[present].is_newer_than(rings[copy]) is (present > copy)


def test_an_unrelated_ring_is_never_newer(rings: list[KeyRing]) -> None:
    other = KeyRing.new(NOW, "kadun").rotated(NOW, "kadun").rotated(NOW, "kadun")
    assert not other.is_newer_than(rings[0])
    assert not rings[3].is_newer_than(other)


@pytest.mark.parametrize("rotations", [1, 2, 3])
def test_a_newer_ring_stays(rotations: int, rings: list[KeyRing], tmp_path: Path) -> None:
    before = put(tmp_path, rings[rotations])
    assert not keyring.restore(tmp_path, keyring.encoded(rings[0]), NOW)
    assert (tmp_path / keyring.FILE).read_bytes() == before
    assert files(tmp_path) == {keyring.FILE}


def test_an_older_ring_is_replaced_and_kept(rings: list[KeyRing], tmp_path: Path) -> None:
    before = put(tmp_path, rings[0])
    assert keyring.restore(tmp_path, keyring.encoded(rings[2]), NOW)
    assert keyring.load(tmp_path) == rings[2]
    assert (tmp_path / KEPT).read_bytes() == before
    assert stat.S_IMODE((tmp_path / KEPT).stat().st_mode) == 0o600


def test_the_ring_of_a_first_start_is_replaced(rings: list[KeyRing], tmp_path: Path) -> None:
    keyring.create(tmp_path, NOW, "kadun")
    keyring.rotate(tmp_path, NOW, "kadun")
    assert keyring.restore(tmp_path, keyring.encoded(rings[1]), NOW)
    assert keyring.load(tmp_path) == rings[1]
    assert files(tmp_path) == {keyring.FILE, KEPT}


def test_a_damaged_ring_is_replaced_and_kept(rings: list[KeyRing], tmp_path: Path) -> None:
    (tmp_path / keyring.FILE).write_text("{")
    assert keyring.restore(tmp_path, keyring.encoded(rings[0]), NOW)
    assert keyring.load(tmp_path) == rings[0]
    assert (tmp_path / KEPT).read_text() == "{"


def test_without_a_ring_the_copy_is_put_in_place(rings: list[KeyRing], tmp_path: Path) -> None:
    assert keyring.restore(tmp_path / "keys", keyring.encoded(rings[0]), NOW)
    assert keyring.load(tmp_path / "keys") == rings[0]
    assert files(tmp_path / "keys") == {keyring.FILE}


def test_the_same_ring_again_changes_nothing(rings: list[KeyRing], tmp_path: Path) -> None:
    put(tmp_path, rings[1])
    written = (tmp_path / keyring.FILE).stat().st_mtime_ns
    assert keyring.restore(tmp_path, keyring.encoded(rings[1]), NOW)
    assert (tmp_path / keyring.FILE).stat().st_mtime_ns == written
    assert files(tmp_path) == {keyring.FILE}


@pytest.mark.parametrize("damaged", [b"", b"{", b"\xff", b'{"keys": [], "endorsements": []}'])
def test_a_damaged_copy_is_refused_and_changes_nothing(damaged: bytes, rings: list[KeyRing], tmp_path: Path) -> None:
    before = put(tmp_path, rings[0])
    with pytest.raises(KeyRingError, match=r"not an intact keyring\.json: nothing was changed"):
        keyring.restore(tmp_path, damaged, NOW)
    assert (tmp_path / keyring.FILE).read_bytes() == before
    assert files(tmp_path) == {keyring.FILE}


def test_an_unreadable_ring_is_not_replaced(rings: list[KeyRing], tmp_path: Path) -> None:
    (tmp_path / keyring.FILE).mkdir()  # root reads any file, but nobody reads a folder
    with pytest.raises(KeyRingError, match=r"cannot read the signing keys .*: Is a directory"):
        keyring.restore(tmp_path, keyring.encoded(rings[0]), NOW)
