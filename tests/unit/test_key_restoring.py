"""Putting a copy of the key ring back: it replaces every present ring but one that continues it."""

import os
import stat
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path

import pytest

from app.tokens import key_folder
from app.tokens.key_folder import KeyFolder
from app.tokens.keyring import KeyRingError, decoded_copy
from app.tokens.keys import KeyRing
from tests.support.tables import for_each

NOW = datetime(2026, 3, 1, 20, 0, 0, tzinfo=timezone(timedelta(hours=8)))
KEPT = "keyring.replaced-20260301T120000Z.json"  # in UTC


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
    KeyFolder(folder).restore(ring, NOW)
    return (folder / key_folder.FILE).read_bytes()


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


@for_each("present, copy, only_newer", product(range(4), range(4), [False, True]))
def test_a_ring_is_newer_when_it_retired_the_current_key_of_the_other_and_stays(
    rings: list[KeyRing], tmp_path_factory: pytest.TempPathFactory, present: int, copy: int, *, only_newer: bool
) -> None:
    assert rings[present].is_newer_than(rings[copy]) is (present > copy)
    folder = tmp_path_factory.mktemp("keys")
    before = put(folder, rings[present])
    assert KeyFolder(folder).restore(rings[copy], NOW, only_newer=only_newer) is (copy >= present)
    assert KeyFolder(folder).load() == rings[max(copy, present)]
    if copy <= present:
        assert ((folder / key_folder.FILE).read_bytes(), files(folder)) == (before, {key_folder.FILE})


def test_an_older_or_damaged_ring_is_replaced_and_kept(rings: list[KeyRing], tmp_path: Path) -> None:
    for before in (put(tmp_path, rings[0]), b"{"):
        (tmp_path / key_folder.FILE).write_bytes(before)
        assert KeyFolder(tmp_path).restore(rings[2], NOW)
        assert KeyFolder(tmp_path).load() == rings[2]
        assert (tmp_path / KEPT).read_bytes() == before
        assert stat.S_IMODE((tmp_path / KEPT).stat().st_mode) == 0o600
        (tmp_path / KEPT).unlink()


def test_a_copy_is_put_in_place_once(rings: list[KeyRing], tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    for _ in range(2):
        assert KeyFolder(folder).restore(rings[1], NOW)
        assert KeyFolder(folder).load() == rings[1]
        assert files(folder) == {key_folder.FILE}
        os.utime(folder / key_folder.FILE, (1, 1))
    KeyFolder(folder).restore(rings[1], NOW)
    assert (folder / key_folder.FILE).stat().st_mtime == 1, "the same ring again changes nothing"


@for_each("damaged", [b"", b"{", b"\xff", b'{"keys": [], "endorsements": []}'])
def test_a_damaged_copy_is_refused(damaged: bytes) -> None:
    with pytest.raises(KeyRingError, match=r"not an intact keyring\.json: nothing was changed"):
        decoded_copy(damaged)


def test_an_unreadable_ring_is_not_replaced(rings: list[KeyRing], tmp_path: Path) -> None:
    (tmp_path / key_folder.FILE).write_text("{")
    with pytest.raises(KeyRingError, match="are damaged"):
        KeyFolder(tmp_path).restore(rings[0], NOW, only_newer=True)
    assert (tmp_path / key_folder.FILE).read_text() == "{"
    (tmp_path / key_folder.FILE).unlink()
    (tmp_path / key_folder.FILE).mkdir()  # root reads any file, but nobody reads a folder
    with pytest.raises(KeyRingError, match=r"cannot read the signing keys .*: Is a directory"):
        KeyFolder(tmp_path).restore(rings[0], NOW)


def test_with_only_newer_an_unrelated_ring_stays_and_a_missing_one_is_put_back(
    rings: list[KeyRing], tmp_path: Path
) -> None:
    assert KeyFolder(tmp_path).restore(rings[0], NOW, only_newer=True)
    unrelated = KeyRing.new(NOW, "kadun").rotated(NOW, "kadun")
    assert not unrelated.is_newer_than(rings[0])
    assert not KeyFolder(tmp_path).restore(unrelated, NOW, only_newer=True)
    assert KeyFolder(tmp_path).load() == rings[0]
    assert files(tmp_path) == {key_folder.FILE}
