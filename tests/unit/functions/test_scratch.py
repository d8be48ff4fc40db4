import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.functions import scratch

ZYGOTE = os.getpid()
"""A process ID that no process has."""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = scratch.create(ZYGOTE)
    yield made
    scratch.remove_all(ZYGOTE)


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


def test_removing_a_missing_folder_is_no_error(folder: Path) -> None:
    folder.rmdir()
    scratch.remove(folder)


def test_only_the_folders_of_the_given_zygote_are_removed(folder: Path) -> None:
    another = scratch.create(ZYGOTE)
    others = scratch.create(0)
    scratch.remove_all(ZYGOTE)
    assert not folder.exists()
    assert not another.exists()
    assert others.exists()
    scratch.remove(others)
