"""What the entry point of the database says when it does not get the lock of its data folder."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.service import ROOT


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
    command = ["bash", ROOT / "postgres/entrypoint.sh"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr, len(done.stderr.splitlines())) == (1, True, 1)
