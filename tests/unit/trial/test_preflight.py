import fcntl
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http_exchange import quiet_port
from tests.support.processes import is_alive
from tests.support.service import wait_for
from trial.child import Child
from trial.environment import Trial
from trial.errors import TrialError
from trial.preflight import check, claim, is_running


@pytest.fixture
def trial() -> Iterator[Trial]:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    yield Trial(folder / "state", quiet_port())
    shutil.rmtree(folder)


def test_checking_makes_nothing(trial: Trial) -> None:
    check(trial)
    assert not trial.data_dir.exists()


def test_a_taken_port_is_refused_before_anything_is_made(trial: Trial) -> None:
    with (
        socket.create_server(("127.0.0.1", trial.port)),
        pytest.raises(TrialError, match=rf"Port {trial.port} is taken"),
        claim(trial),
    ):
        pass
    assert not trial.data_dir.exists()


def test_a_folder_belongs_to_one_service_at_a_time(trial: Trial) -> None:
    with claim(trial):
        assert is_running(trial)
        with pytest.raises(TrialError, match=r"already runs on"):
            check(Trial(trial.data_dir, quiet_port()))
    assert not is_running(trial)
    check(trial)


def test_a_file_in_the_folders_place_is_refused(trial: Trial) -> None:
    trial.data_dir.write_text("not mine")
    with pytest.raises(TrialError, match=r"Cannot use the data folder .* \(Not a directory\)"):
        check(trial)
    assert trial.data_dir.read_text() == "not mine"


def test_a_folder_behind_one_that_bars_the_way_is_refused(trial: Trial) -> None:
    trial.data_dir.mkdir(mode=0o600)
    with pytest.raises(TrialError, match=r"set KADUN_DATA_DIR") as refusal:
        check(Trial(trial.data_dir / "further" / "in", trial.port))
    assert str(trial.data_dir) in str(refusal.value)
    trial.data_dir.chmod(0o700)


def test_postgresqls_account_passes_through_the_folder_and_lists_nothing(trial: Trial) -> None:
    with claim(trial):
        assert trial.data_dir.stat().st_mode & 0o777 == 0o711


def test_a_new_trial_waits_until_the_children_of_a_killed_one_have_ended(trial: Trial, tmp_path: Path) -> None:
    with claim(trial):
        pass
    descriptor = os.open(trial.logs, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    child = Child(["cat", tmp_path / "pipe"], os.environ, tmp_path / "log", signal.SIGTERM, descriptor)
    os.mkfifo(tmp_path / "pipe")
    child.start()
    pid = child.pid or 0
    os.close(descriptor)
    ends = threading.Timer(0.2, child.stop)
    ends.start()
    with claim(trial):
        assert not Path(f"/proc/{pid}/fd/{descriptor}").exists(), "it holds the lock no longer"
        wait_for(lambda: not is_alive(pid))
    ends.join()


def test_a_failure_shows_what_was_logged_since_the_last_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("what an earlier start said\n")
    child = Child(["echo", "KADUN_WORKERS is 'x'"], os.environ, log, signal.SIGTERM)
    child.start()
    wait_for(lambda: child.pid is None)
    assert child.failure("失败", "failed").detail == "KADUN_WORKERS is 'x'"


def test_a_child_that_does_not_end_when_asked_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trial.child._STOP_SECONDS", 0.0)
    child = Child(["sleep", "600"], os.environ, tmp_path / "log", signal.SIGCONT)
    child.start()
    assert child.pid
    child.stop()
    assert child.pid is None
