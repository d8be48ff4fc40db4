import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trial.child import leftover
from trial.environment import Trial, write_secret
from trial.errors import TrialError
from trial.ports import free_port
from trial.preflight import check, claim
from trial.processes import start_time
from trial.service import FUNCTIONS, SERVICE, end_leftovers


@pytest.fixture
def trial() -> Iterator[Trial]:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    yield Trial(folder / "state", free_port())
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
    with claim(trial), pytest.raises(TrialError, match=r"already runs on"):
        check(Trial(trial.data_dir, free_port()))
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


@pytest.mark.parametrize("name", [SERVICE, FUNCTIONS])
def test_what_a_killed_trial_left_running_is_ended(trial: Trial, name: str) -> None:
    trial.data_dir.mkdir()
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as left:
        write_secret(trial.data_dir / f"{name}.pid", f"{left.pid} {start_time(left.pid)}")
        assert leftover(trial, name) == left.pid
        end_leftovers(trial)
    assert left.returncode == -15
    assert leftover(trial, name) is None


def test_a_process_that_merely_has_the_number_by_now_is_left_alone(trial: Trial) -> None:
    trial.data_dir.mkdir()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as other:
        write_secret(trial.data_dir / "service.pid", f"{other.pid} 1")
        end_leftovers(trial)
        assert other.poll() is None
        other.communicate()
    assert other.returncode == 0
