import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.functions import scratch

ZYGOTE = os.getpid()
"""Stands for one; nobody else's folders bear this number."""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = scratch.create(ZYGOTE)
    yield made
    scratch.remove_all(ZYGOTE)


def test_a_folder_is_this_users_alone(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700


def test_all_that_is_in_a_folder_goes_and_nothing_that_links_lead_to(folder: Path, tmp_path: Path) -> None:
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


def test_what_is_gone_already_is_no_error(folder: Path) -> None:
    folder.rmdir()
    scratch.remove(folder)


def test_what_a_zygotes_calls_have_left_goes_and_nobody_elses(folder: Path) -> None:
    another = scratch.create(ZYGOTE)
    others = scratch.create(0)
    scratch.remove_all(ZYGOTE)
    assert not folder.exists()
    assert not another.exists()
    assert others.exists()
    scratch.remove(others)
