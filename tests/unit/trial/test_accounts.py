import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trial.accounts import postgresql_account, require_reachable
from trial.errors import TrialError
from trial.ports import free_port, why_not


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account reaches; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_postgresql_never_runs_as_root() -> None:
    assert postgresql_account().uid == (os.getuid() or 65_534)


def test_a_folder_that_the_account_can_enter_is_reachable(open_folder: Path) -> None:
    require_reachable(open_folder / "not" / "yet", postgresql_account())


def test_the_topmost_folder_that_bars_the_way_is_named(open_folder: Path) -> None:
    barred = open_folder / "barred"
    (barred / "inner").mkdir(parents=True)
    barred.chmod(0o600)
    with pytest.raises(TrialError, match=f"cannot enter {barred}: set KADUN_DATA_DIR") as refusal:
        require_reachable(barred / "inner" / "cluster", postgresql_account())
    barred.chmod(0o700)
    assert "\n" not in str(refusal.value)


def test_a_port_that_something_listens_on_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert why_not(listener.getsockname()[1]) == errno.EADDRINUSE


def test_a_free_port_is_free() -> None:
    assert why_not(free_port()) == 0
