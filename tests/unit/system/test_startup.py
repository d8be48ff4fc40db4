"""Starts of a service that has moved away, and of a database over another's folder."""
# Owns run-moved-away.

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from app.cli.commands.migrate import migrate
from app.runtime.clock import utc_now
from app.services.system.startup import MOVED, MovedAwayError, check_home, prepare
from app.storage.database import Database
from tests.support.services.service import ROOT


def test_a_service_that_has_moved_names_the_new_server_before_it_looks_at_database_and_keys(tmp_path: Path) -> None:
    check_home(tmp_path)
    check_home(tmp_path / "no such folder")
    (tmp_path / MOVED).write_text("2026-11-25T12:00:00Z root@new:/srv/kadun\n")
    with pytest.raises(MovedAwayError) as caught:
        check_home(tmp_path)
    assert "scripts/migrate-to.sh --resume-here" in str(caught.value)
    assert "The service moved to root@new:/srv/kadun at 2026-11-25T12:00:00Z" in str(caught.value)
    (tmp_path / MOVED).write_text("2026-11-25T12:00:00Z from old:/srv/kadun\n")
    with pytest.raises(MovedAwayError, match="This is an unfinished copy from old:/srv/kadun and does not start"):
        check_home(tmp_path)
    done = CliRunner().invoke(migrate, env={"KADUN_KEYS_DIR": str(tmp_path), "DATABASE_URL": "postgresql://nowhere/x"})
    assert isinstance(done.exception, MovedAwayError)
    keys: Any = SimpleNamespace(folder=tmp_path)
    with pytest.raises(MovedAwayError):
        prepare(Database("postgresql://nowhere/x"), keys, utc_now)


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


@pytest.mark.parametrize(
    ("status", "said"),
    [(1, "The database of project first runs over this folder"), (65, "cannot lock (flock's status 65)")],
)
def test_only_a_held_lock_is_taken_for_another_database(tmp_path: Path, status: int, said: str) -> None:
    (tmp_path / "postmaster.opts").write_text('postgres "-c" "cluster_name=first"\n')
    flock = tmp_path / "flock"
    flock.write_text(f"#!/bin/sh\nexit {status}\n")
    flock.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PGDATA": str(tmp_path)}
    command = ["bash", ROOT / "deploy/postgres/entrypoint.sh"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr, len(done.stderr.splitlines())) == (1, True, 1)
