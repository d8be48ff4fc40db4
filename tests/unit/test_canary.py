"""KERNAL_DATA_KEY is recognised by marks beside the signing keys."""

import json
import stat
from pathlib import Path

import pyrage
import pytest

from app.tokens import canary
from app.tokens.keyring import KeyRingError
from tests.support.tables import for_each

ONE, TWO, THREE = (str(pyrage.x25519.Identity.generate()) for _ in range(3))
OWN = "a scheme of my own"


def marks(folder: Path) -> list[str]:
    read: list[str] = json.loads((folder / canary.FILE).read_text())
    return read


@for_each(("key", "other"), [(ONE, TWO), (OWN, f"{OWN}s")])
def test_the_first_key_is_marked_and_another_one_recognised(tmp_path: Path, key: str, other: str) -> None:
    (tmp_path / canary.FILE).unlink(missing_ok=True)
    assert canary.is_in_use(tmp_path, key) is None
    assert canary.keep(tmp_path, key)
    assert canary.is_in_use(tmp_path, f"  {key}\n") is True
    assert canary.is_in_use(tmp_path, other) is False
    before = marks(tmp_path)
    assert not canary.keep(tmp_path, other)
    assert marks(tmp_path) == before
    canary.accept(tmp_path, other)
    assert (canary.is_in_use(tmp_path, other), canary.is_in_use(tmp_path, key)) == (True, False)


def test_a_mark_of_an_earlier_release_fits(tmp_path: Path) -> None:
    digest = (
        "bc53380682cb7cbc1351e231415c507dad4c465b7534669803161e2843a18b9d"
        "dc65349f45eecec7e3f6200188966089404ffdd8ebbeee187a853fa8123ee1ad"
    )
    (tmp_path / canary.FILE).write_text(json.dumps([f"scrypt:{'5a' * 16}:{digest}"]))
    assert canary.is_in_use(tmp_path, "first\nsecond") is True
    assert canary.is_in_use(tmp_path, "first\nsecond.") is False


def test_any_listed_line_is_enough(tmp_path: Path) -> None:
    canary.accept(tmp_path, f"{ONE}\n\n{OWN}")
    assert len(marks(tmp_path)) == 2
    for key in (ONE, OWN, f"{TWO}\n{ONE}", f"{OWN}\n{TWO}"):
        assert canary.is_in_use(tmp_path, key) is True
    assert canary.is_in_use(tmp_path, f"{TWO}\n{THREE}") is False


def pem(secret: str) -> str:
    return f"-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n"


def test_a_key_of_another_scheme_is_marked_whole(tmp_path: Path) -> None:
    assert canary.keep(tmp_path, pem("one\nof two lines"))
    assert len(marks(tmp_path)) == 1
    assert canary.is_in_use(tmp_path, pem("one\nof two lines").replace("\n", "\r\n")) is True
    assert canary.is_in_use(tmp_path, pem("another")) is False, "only the frame is the same"
    assert not canary.keep(tmp_path, pem("another"))


def test_exactly_the_lines_of_a_key_in_use_are_marked(tmp_path: Path) -> None:
    assert canary.keep(tmp_path, ONE)
    assert canary.keep(tmp_path, f"{TWO}\n{ONE}")
    before = marks(tmp_path)
    assert canary.is_in_use(tmp_path, TWO) is True
    assert canary.keep(tmp_path, f"{ONE}\n{TWO}\n{TWO}")
    assert marks(tmp_path) == before, "the same lines"
    assert canary.keep(tmp_path, TWO)
    assert len(marks(tmp_path)) == 1
    assert canary.is_in_use(tmp_path, ONE) is False, "the older line is gone for good"


def test_the_marks_do_not_hold_the_key_and_nobody_else_reads_them(tmp_path: Path) -> None:
    canary.accept(tmp_path, f"{ONE}\n{OWN}")
    before = marks(tmp_path)
    for mark, line in zip(before, (ONE, OWN), strict=True):
        scheme, salt, _ = mark.split(":")
        assert (scheme, len(bytes.fromhex(salt)), line in mark) == ("scrypt", 16, False)
    assert stat.S_IMODE((tmp_path / canary.FILE).stat().st_mode) == 0o600
    canary.accept(tmp_path, f"{ONE}\n{OWN}")
    assert not set(before) & set(marks(tmp_path)), "each has a salt of its own"


def test_damaged_marks_and_folders_that_cannot_be_written_are_reported(tmp_path: Path) -> None:
    file = tmp_path / canary.FILE
    for content in ("", "{}", "[1]"):
        file.write_text(content)
        for read in (canary.is_in_use, canary.keep):
            with pytest.raises(KeyRingError, match=r"data-key\.json cannot be read.*cardctl key accept"):
                read(tmp_path, ONE)
        assert file.read_text() == content, "not overwritten"
    (tmp_path / "no folder").touch()
    with pytest.raises(KeyRingError, match=r"cannot write data-key\.json"):
        canary.accept(tmp_path / "no folder", ONE)
