"""The digest of the functions folder: equal on hosts with the same modules, whatever their files' times are."""

import os
from pathlib import Path

import pytest

from app.functions.folder import digest, signature


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "other"):
        (tmp_path / name / "tables").mkdir(parents=True)
        (tmp_path / name / "shop.py").write_text("PRICE = 1\n")
        (tmp_path / name / "tables/rates.csv").write_text("EUR,7.8\n")
    os.utime(tmp_path / "other/shop.py", (0, 0))
    return tmp_path / "one", tmp_path / "other"


def test_the_same_modules_have_the_same_digest(folders: tuple[Path, Path]) -> None:
    one, other = folders
    assert digest(one) == digest(other)
    (other / ".shop.py.swp").write_text("an editor's")
    (other / "__pycache__").mkdir()
    (other / "__pycache__/shop.pyc").write_bytes(b"compiled")
    assert digest(one) == digest(other)
    assert signature(one) != signature(other)  # of times and inodes


@pytest.mark.parametrize("change", ["content", "name", "more", "fewer", "in a folder"])
def test_other_modules_have_another_digest(folders: tuple[Path, Path], change: str) -> None:
    one, other = folders
    match change:
        case "content":
            (other / "shop.py").write_text("PRICE = 2\n")
        case "name":
            (other / "shop.py").rename(other / "store.py")
        case "more":
            (other / "empty.py").touch()
        case "fewer":
            (other / "shop.py").unlink()
        case _:
            (other / "tables/rates.csv").write_text("EUR,7.9\n")
    assert digest(one) != digest(other)


def test_names_and_content_do_not_run_into_each_other(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x0").write_text("")
    assert digest(tmp_path / "a") != digest(tmp_path / "b")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "nowhere.py").symlink_to(tmp_path / "missing")
    assert len(digest(tmp_path)) == 64


def test_a_folder_that_is_missing_has_the_digest_of_an_empty_one(tmp_path: Path) -> None:
    assert digest(tmp_path / "missing") == digest(tmp_path)
