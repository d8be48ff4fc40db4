"""What does not start, such as a service that has moved away; what a trial tells its programs; requests at once."""
# Owns run-moved-away.

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import falcon
import pytest
from click.testing import CliRunner
from falcon.testing import create_environ

from app.cli.commands.migrate import migrate
from app.http import middleware as bounds
from app.http.middleware import Bounds
from app.http.problems import Problem
from app.runtime.clock import utc_now
from app.services.system.startup import MOVED, MovedAwayError, check_home, prepare
from app.storage.database import Database
from tests.support.services.service import ROOT
from trial.environment import CHECKOUT, Trial, write_secret


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


def test_only_a_held_lock_is_taken_for_another_database(tmp_path: Path) -> None:
    (tmp_path / "postmaster.opts").write_text('postgres "-c" "cluster_name=first"\n')
    flock = tmp_path / "flock"
    flock.touch(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PGDATA": str(tmp_path)}
    command = ["bash", ROOT / "deploy/postgres/entrypoint.sh"]
    for status, said in ((1, "The database of project first runs over this"), (65, "cannot lock (flock's status 65)")):
        flock.write_text(f"#!/bin/sh\nexit {status}\n")
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, said in done.stderr, len(done.stderr.splitlines())) == (1, True, 1), status


TRIAL = Trial(Path("/srv/trial"), 8123)
VENDORS = {
    "PATH": "/usr/bin", "HOME": "/home/a", "AWS_SECRET_ACCESS_KEY": "somebody's", "KADUN_BEHIND_PROXY": "true",
    "DATABASE_URL": "postgresql://elsewhere", "DATABASE_URL_FILE": "/elsewhere", "KADUN_PORT": "8123",
    "KERNAL_DATA_KEY": "another", "KERNAL_DATA_KEY_FILE": "/elsewhere", "KADUN_SEALING_KEY": "another",
    "KADUN_KEYS_DIR": "/elsewhere", "KADUN_FUNCTIONS_DIR": "/elsewhere",
    "KADUN_OFFLINE_GRACE": "7d", "KADUN_FUNCTION_SECONDS": "5",
}  # fmt: skip


def test_the_service_is_told_this_trials_database_and_key_and_no_other() -> None:
    told = TRIAL.service_environment(VENDORS)
    for name in ("DATABASE_URL", "KERNAL_DATA_KEY", "KADUN_SEALING_KEY"):
        assert told[f"{name}_FILE"] == f"/srv/trial/{name.lower().removeprefix('kadun_')}"
    assert (told["KADUN_BIND"], told["KADUN_BEHIND_PROXY"]) == ("127.0.0.1:8123", "false")
    assert not {"DATABASE_URL", "KERNAL_DATA_KEY", "KADUN_SEALING_KEY", "KADUN_PORT"} & set(told)
    assert (told["KADUN_OFFLINE_GRACE"], told["HOME"]) == ("7d", "/home/a")


def test_the_functions_service_is_told_nothing_that_it_could_give_away() -> None:
    at = {f"KADUN_FUNCTIONS_{name}": f"/srv/trial/functions{end}" for name, end in (("DIR", ""), ("SOCKET", ".sock"))}
    expected = {"PATH": "/usr/bin", "PYTHONPATH": str(CHECKOUT), "KADUN_FUNCTION_SECONDS": "5"} | at
    assert TRIAL.functions_environment(VENDORS) == expected


def test_a_secret_is_its_owners_only_and_replaced_whole(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write_secret(secret, "first and longer")
    write_secret(secret, "second")
    assert secret.read_text() == "second"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [secret]


def test_customers_operators_and_verifications_have_places_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_PATIENCE_SECONDS", 0)
    middleware, response = Bounds(8), falcon.Response()

    def begin(path: str) -> falcon.Request:
        request = falcon.Request(create_environ(path))
        middleware.process_request(request, response)
        return request

    for taken, other, number in (("/card", "/v1/self/status", 2), ("/admin/cards", "/v1/shop/cards", 4)):
        first, *_others = [begin(taken) for _ in range(number)]
        with pytest.raises(Problem):
            begin(other)
        middleware.process_response(first, response, None, True)  # noqa: FBT003  # Falcon's signature
        begin(other)
        with pytest.raises(Problem):
            begin(taken)
    for path in ("/v1/verify", "/admin/login", "/admin/static/console.js"):
        begin(path)
