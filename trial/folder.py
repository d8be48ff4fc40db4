"""The trial's folder, which one trial holds for itself, and its port. Standard library only."""

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator

from trial.environment import CHECKOUT, Trial
from trial.errors import TrialError
from trial.ports import why_not

SAMPLE_FUNCTION = CHECKOUT / "examples" / "functions" / "exchange_rates.py"
_LEFTOVER_SECONDS = 3
_POLL_SECONDS = 0.1


@contextlib.contextmanager
def hold(trial: Trial) -> Iterator[None]:
    """Hold the trial's folder for this process alone, creating it where it is missing.

    Raises:
        TrialError: The folder cannot be used, or a trial runs on it.
    """
    try:
        _make_folders(trial)
        descriptor = os.open(trial.data_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise TrialError(
            f"无法使用数据目录 {trial.data_dir}：请用 KADUN_DATA_DIR 指定一个可写的目录。",
            f"Cannot use the data folder {trial.data_dir} ({error.strerror}): "
            "set KADUN_DATA_DIR to one that you can write.",
        ) from error
    try:
        # Of the folder itself: there is no file to create, and the lock ends with this process.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise TrialError(
            f"试用服务已在 {trial.data_dir} 上运行：请先停止它，或用 KADUN_DATA_DIR 和 KADUN_PORT 另开一个。",
            f"A trial service already runs on {trial.data_dir}: stop it first, "
            "or start another with KADUN_DATA_DIR and KADUN_PORT.",
        ) from error
    finally:
        os.close(descriptor)


def is_held(trial: Trial) -> bool:
    """Tell whether a trial service holds its folder."""
    try:
        descriptor = os.open(trial.data_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _make_folders(trial: Trial) -> None:
    is_new = not trial.functions.exists()
    for folder in reversed([trial.data_dir, *trial.data_dir.parents]):
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            # PostgreSQL's account passes through, whatever root's umask says.
            folder.chmod(0o711 if folder == trial.data_dir else 0o755)
    for folder in (trial.logs, trial.files, trial.functions, trial.demo):
        folder.mkdir(mode=0o700, exist_ok=True)  # the machine may have other users
    if is_new:  # once: a vendor may remove it
        shutil.copyfile(SAMPLE_FUNCTION, trial.functions / SAMPLE_FUNCTION.name)


def require_port(port: int) -> None:
    """Make sure that the port is free, which a trial that was killed leaves in a moment.

    Raises:
        TrialError: The port cannot be used.
    """
    deadline = time.monotonic() + _LEFTOVER_SECONDS
    while (reason := why_not(port)) == errno.EADDRINUSE and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    if reason:
        raise TrialError(
            f"无法使用端口 {port}：请关闭占用它的程序，或用 KADUN_PORT 换一个。",
            f"Cannot listen on port {port} ({os.strerror(reason)}): "
            "stop what listens there, or set KADUN_PORT to another.",
        )
