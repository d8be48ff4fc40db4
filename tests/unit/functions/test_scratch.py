import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.functions import scratch

SOMEBODY = 1_000_000_007
"""A user ID that nobody has."""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = scratch.create()
    yield made
    scratch.remove(made)
    assert not made.exists()


def test_a_folder_is_private_to_its_user(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_is_removed_with_its_contents_but_not_what_links_point_to(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    tmp_path.chmod(0o750)
    (folder / "link").symlink_to(tmp_path)
    (folder / "locked").mkdir()
    (folder / "locked" / "file").touch()
    (folder / "locked").chmod(0)
    folder.chmod(0o500)
    scratch.remove(folder)
    assert not folder.exists()
    assert (tmp_path / "kept").exists()
    assert tmp_path.stat().st_mode & 0o777 == 0o750


def test_folders_nested_deeper_than_python_calls_functions_are_removed(folder: Path) -> None:
    at = os.open(folder, os.O_RDONLY)
    for _ in range(2_000):
        os.mkdir("x", dir_fd=at)
        deeper = os.open("x", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = deeper
    os.close(at)
    scratch.remove(folder)
    assert not folder.exists()


def test_removing_a_missing_folder_is_no_error(folder: Path) -> None:
    folder.rmdir()
    scratch.remove(folder)


def test_a_sweep_leaves_what_belongs_to_others(folder: Path) -> None:
    (folder / "file").touch()
    scratch.sweep(SOMEBODY)
    assert (folder / "file").exists()
