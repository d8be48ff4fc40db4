"""A service that has moved to another server does not start."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from app.cli.migrate import migrate
from app.clock import utc_now
from app.services.startup import MOVED, MovedAwayError, check_home, prepare
from app.storage.database import Database


def test_a_service_that_has_moved_names_the_new_server(tmp_path: Path) -> None:
    check_home(tmp_path)
    check_home(tmp_path / "no such folder")
    (tmp_path / MOVED).write_text("2026-11-25T12:00:00Z root@new:/srv/kadun\n")
    with pytest.raises(MovedAwayError) as caught:
        check_home(tmp_path)
    assert "scripts/migrate-to.sh --resume-here" in str(caught.value)
    assert "The service moved to root@new:/srv/kadun at 2026-11-25T12:00:00Z" in str(caught.value)


def test_a_mark_that_is_no_file_is_neither_waited_for_nor_called_a_move(tmp_path: Path) -> None:
    mark = tmp_path / MOVED
    mark.mkdir()
    with pytest.raises(MovedAwayError) as caught:
        check_home(tmp_path)
    assert f"Cannot read {mark} (Is a directory)" in str(caught.value)
    assert "--resume-here" not in str(caught.value)
    mark.rmdir()
    for place in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        place(mark)
        with pytest.raises(MovedAwayError):
            check_home(tmp_path)
        mark.unlink()


def test_the_database_of_a_moved_service_is_not_migrated(tmp_path: Path) -> None:
    (tmp_path / MOVED).write_text("2026-11-25T12:00:00Z root@new:/srv/kadun\n")
    done = CliRunner().invoke(migrate, env={"KADUN_KEYS_DIR": str(tmp_path), "DATABASE_URL": "postgresql://nowhere/x"})
    assert isinstance(done.exception, MovedAwayError)


def test_a_moved_service_stops_before_it_looks_at_database_and_keys(tmp_path: Path) -> None:
    (tmp_path / MOVED).write_text("2026-11-25T12:00:00Z root@new:/srv/kadun\n")
    keys: Any = SimpleNamespace(folder=tmp_path)
    with pytest.raises(MovedAwayError):
        prepare(Database("postgresql://nowhere/x"), keys, utc_now)
