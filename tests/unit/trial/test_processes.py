import errno
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service import wait_for
from trial.errors import TrialError
from trial.ports import free_port, why_not
from trial.postmaster import data_folder, has_orphans, pid_file, running_postmaster
from trial.processes import (
    command_line,
    first_barred_folder,
    postgresql_account,
    require_reachable,
    shared_memory_users,
    start_time,
)

SHARED_MEMORY = """\
       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime
   5432001          7   600                    56   100   101      6 65534 65534 65534 65534 1700000000
   5432002          8   600                    56   200   201      0 65534 65534 65534 65534 1700000000
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account reaches; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def zombie() -> Iterator[int]:
    """The number of a process that has ended and that nobody has collected."""
    with subprocess.Popen(["true"]) as process:
        wait_for(lambda: ") Z " in Path(f"/proc/{process.pid}/stat").read_text())
        yield process.pid


def test_postgresql_never_runs_as_root() -> None:
    assert postgresql_account().uid == (os.getuid() or 65_534)


def test_a_folder_that_lets_its_account_pass_bars_nothing(open_folder: Path) -> None:
    assert first_barred_folder(open_folder / "not" / "yet", postgresql_account()) is None


def test_the_topmost_folder_that_bars_the_way_is_named(open_folder: Path) -> None:
    barred = open_folder / "barred"
    (barred / "inner").mkdir(parents=True)
    barred.chmod(0o600)
    with pytest.raises(TrialError, match=f"cannot enter {barred}: set KADUN_DATA_DIR") as refusal:
        require_reachable(barred / "inner" / "cluster", postgresql_account())
    barred.chmod(0o700)
    assert "\n" not in str(refusal.value)


def test_a_living_process_has_arguments_and_a_start_time() -> None:
    assert any("python" in argument for argument in command_line(os.getpid()))
    assert start_time(os.getpid()) == start_time(os.getpid()) is not None


def test_a_zombie_is_dead(zombie: int) -> None:
    assert start_time(zombie) is None
    assert not any(command_line(zombie))


def test_nothing_is_known_of_a_number_without_a_process() -> None:
    assert (start_time(2**22 + 1), command_line(2**22 + 1)) == (None, [])


@pytest.mark.parametrize(("segment", "users"), [("7", 6), ("8", 0), ("9", 0)])
def test_the_users_of_shared_memory_are_counted(segment: str, users: int) -> None:
    assert shared_memory_users(SHARED_MEMORY, segment) == users


def test_a_cluster_that_never_started_has_no_postmaster(tmp_path: Path) -> None:
    assert running_postmaster(tmp_path) is None
    assert not has_orphans(tmp_path)


def test_a_number_that_another_program_has_by_now_is_no_postmaster(tmp_path: Path) -> None:
    data_folder(tmp_path).mkdir()
    pid_file(tmp_path).write_text(f"{os.getpid()}\n{data_folder(tmp_path)}\n0\n5432\n\n127.0.0.1\n  1 2\nready\n")
    assert running_postmaster(tmp_path) is None
    assert not has_orphans(tmp_path)


def test_a_postmaster_is_known_by_its_folder(tmp_path: Path) -> None:
    data = data_folder(tmp_path)
    data.mkdir()
    with subprocess.Popen(["sh", "-c", "read _; :", "postgres", "-D", str(data)], stdin=subprocess.PIPE) as fake:
        pid_file(tmp_path).write_text(f"{fake.pid}\n")
        early = wait_for(lambda: running_postmaster(tmp_path))
        pid_file(tmp_path).write_text(f"{fake.pid}\n{data}\n0\n5432\n\n127.0.0.1\n  1 2\nready   \n")
        ready = running_postmaster(tmp_path)
    assert (early.pid, early.status) == (fake.pid, "starting")
    assert ready is not None
    assert (ready.port, ready.status) == (5432, "ready")


def test_a_port_that_something_listens_on_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert why_not(listener.getsockname()[1]) == errno.EADDRINUSE


def test_a_free_port_is_free() -> None:
    assert why_not(free_port()) == 0
