"""Starts of a service that has moved away, of workers told to end, and of a database over another's folder."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from app.cli.migrate import migrate
from app.clock import utc_now
from app.services.startup import MOVED, MovedAwayError, check_home, prepare
from app.storage.database import Database
from tests.support.service import ROOT
from tests.support.tables import for_each


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


# A parent with handlers like gunicorn's, and a child that is told to end before its first line.
SCRIPT = """
import os, signal, sys, time
from app import forks

seen = []
ending = getattr(signal, sys.argv[1])
signal.signal(ending, lambda *_: seen.append("handled"))
forks.end_on_signals()
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), ending))
pid = os.fork()
if not pid:
    print(*seen, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -ending)
os.kill(os.getpid(), ending)
print("parent", *seen)
"""


@for_each("ending", ["SIGTERM", "SIGINT", "SIGQUIT"])
def test_a_signal_before_the_first_line_ends_a_process(ending: str) -> None:
    command = [sys.executable, "-c", SCRIPT, ending]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True", "parent handled"]


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
