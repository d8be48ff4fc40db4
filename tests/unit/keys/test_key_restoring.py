"""Beside the signing keys: a copy of the ring is put back, and marks by which KERNAL_DATA_KEY is recognised."""
# Owns keys-restoring.

import json
import stat
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path

import pyrage
import pytest

from app.tokens import data_key_marks, key_folder
from app.tokens.key_folder import KeyFolder
from app.tokens.keyring import KeyRingError, decoded_copy
from app.tokens.keys import KeyRing
from tests.support.tables import for_each

NOW = datetime(2026, 3, 1, 20, 0, 0, tzinfo=timezone(timedelta(hours=8)))
KEPT = "keyring.replaced-20260301T120000Z.json"  # in UTC


@pytest.fixture
def rings() -> list[KeyRing]:
    """A ring, and what each of three rotations made of it."""
    rings = [KeyRing.new(NOW)]
    for rotation in range(1, 4):
        rings.append(rings[-1].rotated(NOW + timedelta(days=rotation)))
    return rings


def put(folder: Path, ring: KeyRing) -> bytes:
    """Write a ring as the first start does; return the content of the file."""
    folder.mkdir(exist_ok=True)
    KeyFolder(folder).restore(ring, NOW)
    return (folder / key_folder.FILE).read_bytes()


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def test_a_ring_is_newer_when_it_retired_the_others_current_key_and_stays_and_one_replaced_is_kept(
    rings: list[KeyRing], tmp_path: Path
) -> None:
    for present, copy, only_newer in product(range(4), range(4), [False, True]):
        assert rings[present].is_newer_than(rings[copy]) is (present > copy)
        folder = tmp_path / f"{present}-{copy}-{only_newer}"
        before = put(folder, rings[present])
        assert KeyFolder(folder).restore(rings[copy], NOW, only_newer=only_newer) is (copy >= present), folder
        assert KeyFolder(folder).load() == rings[max(copy, present)]
        if copy <= present:
            assert ((folder / key_folder.FILE).read_bytes(), files(folder)) == (before, {key_folder.FILE})
    for before in (put(tmp_path, rings[0]), b"{"):
        (tmp_path / key_folder.FILE).write_bytes(before)
        assert KeyFolder(tmp_path).restore(rings[2], NOW)
        assert KeyFolder(tmp_path).load() == rings[2]
        assert (tmp_path / KEPT).read_bytes() == before
        assert stat.S_IMODE((tmp_path / KEPT).stat().st_mode) == 0o600
        (tmp_path / KEPT).unlink()


def test_an_unreadable_ring_and_with_only_newer_an_unrelated_one_are_not_replaced(
    rings: list[KeyRing], tmp_path: Path
) -> None:
    for damaged in (b"", b"{", b"\xff", b'{"keys": [], "endorsements": []}'):
        with pytest.raises(KeyRingError, match=r"not an intact keyring\.json: nothing was changed"):
            decoded_copy(damaged)
    assert KeyFolder(tmp_path).restore(rings[0], NOW, only_newer=True), "a missing one is put back"
    unrelated = KeyRing.new(NOW).rotated(NOW)
    assert not unrelated.is_newer_than(rings[0])
    assert not KeyFolder(tmp_path).restore(unrelated, NOW, only_newer=True)
    assert (KeyFolder(tmp_path).load(), files(tmp_path)) == (rings[0], {key_folder.FILE})
    (tmp_path / key_folder.FILE).write_text("{")
    with pytest.raises(KeyRingError, match="are damaged"):
        KeyFolder(tmp_path).restore(rings[0], NOW, only_newer=True)
    assert (tmp_path / key_folder.FILE).read_text() == "{"
    (tmp_path / key_folder.FILE).unlink()
    (tmp_path / key_folder.FILE).mkdir()  # root reads any file, but nobody reads a folder
    with pytest.raises(KeyRingError, match=r"cannot read the signing keys .*: Is a directory"):
        KeyFolder(tmp_path).restore(rings[0], NOW)


ONE, TWO, THREE = (str(pyrage.x25519.Identity.generate()) for _ in range(3))
OWN = "a scheme of my own"
PEM = "-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n"


def marks(folder: Path) -> list[str]:
    read: list[str] = json.loads((folder / data_key_marks.FILE).read_text())
    return read


@for_each(("key", "other"), [(ONE, TWO), (OWN, f"{OWN}s"), (PEM % "one\nof two lines", PEM % "another")])
def test_the_first_key_is_marked_and_another_one_recognised(tmp_path: Path, key: str, other: str) -> None:
    (tmp_path / data_key_marks.FILE).unlink(missing_ok=True)
    assert data_key_marks.is_in_use(tmp_path, key) is None
    assert data_key_marks.keep(tmp_path, key)
    assert len(marks(tmp_path)) == 1, "a key of another scheme is marked whole"
    assert data_key_marks.is_in_use(tmp_path, f"  {key}\n".replace("\n", "\r\n")) is True
    assert data_key_marks.is_in_use(tmp_path, other) is False
    before = marks(tmp_path)
    assert not data_key_marks.keep(tmp_path, other)
    assert marks(tmp_path) == before
    data_key_marks.accept(tmp_path, other)
    assert (data_key_marks.is_in_use(tmp_path, other), data_key_marks.is_in_use(tmp_path, key)) == (True, False)
    digest = (
        "bc53380682cb7cbc1351e231415c507dad4c465b7534669803161e2843a18b9d"
        "dc65349f45eecec7e3f6200188966089404ffdd8ebbeee187a853fa8123ee1ad"
    )
    (tmp_path / data_key_marks.FILE).write_text(json.dumps([f"scrypt:{'5a' * 16}:{digest}"]))
    assert data_key_marks.is_in_use(tmp_path, "first\nsecond") is True, "a mark of an earlier release"
    assert data_key_marks.is_in_use(tmp_path, "first\nsecond.") is False


def test_exactly_the_lines_of_a_key_in_use_are_marked_any_of_which_is_enough_and_none_can_be_read(
    tmp_path: Path,
) -> None:
    assert data_key_marks.keep(tmp_path, ONE)
    assert data_key_marks.keep(tmp_path, f"{TWO}\n{ONE}")
    before = marks(tmp_path)
    assert data_key_marks.is_in_use(tmp_path, TWO) is True
    assert data_key_marks.keep(tmp_path, f"{ONE}\n{TWO}\n{TWO}")
    assert marks(tmp_path) == before, "the same lines"
    assert data_key_marks.keep(tmp_path, TWO)
    assert len(marks(tmp_path)) == 1
    assert data_key_marks.is_in_use(tmp_path, ONE) is False, "the older line is gone for good"
    data_key_marks.accept(tmp_path, f"{ONE}\n\n{OWN}")
    for key, is_in_use in ((ONE, True), (OWN, True), (f"{OWN}\n{TWO}", True), (f"{TWO}\n{THREE}", False)):
        assert data_key_marks.is_in_use(tmp_path, key) is is_in_use, key
    before = marks(tmp_path)
    for mark, line in zip(before, (ONE, OWN), strict=True):
        scheme, salt, _ = mark.split(":")
        assert (scheme, len(bytes.fromhex(salt)), line in mark) == ("scrypt", 16, False)
    assert stat.S_IMODE((tmp_path / data_key_marks.FILE).stat().st_mode) == 0o600
    data_key_marks.accept(tmp_path, f"{ONE}\n{OWN}")
    assert not set(before) & set(marks(tmp_path)), "each has a salt of its own"


def test_damaged_marks_and_folders_that_cannot_be_written_are_reported(tmp_path: Path) -> None:
    file = tmp_path / data_key_marks.FILE
    for content in ("", "{}", "[1]"):
        file.write_text(content)
        for read in (data_key_marks.is_in_use, data_key_marks.keep):
            with pytest.raises(KeyRingError, match=r"data-key\.json cannot be read.*cardctl key accept"):
                read(tmp_path, ONE)
        assert file.read_text() == content, "not overwritten"
    (tmp_path / "no folder").touch()
    with pytest.raises(KeyRingError, match=r"cannot write data-key\.json"):
        data_key_marks.accept(tmp_path / "no folder", ONE)
