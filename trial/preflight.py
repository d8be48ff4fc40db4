"""What is checked before anything is created: the port, the folder, and that no other trial runs on that folder.

`python -m trial.preflight` checks and creates nothing. Standard library only.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from trial.accounts import exists, postgresql_account, require_reachable
from trial.environment import CHECKOUT, Trial
from trial.errors import TrialError
from trial.ports import why_not

SAMPLE_FUNCTION = CHECKOUT / "examples" / "functions" / "exchange_rates.py"
_LEFTOVER_SECONDS = 60
_POLL_SECONDS = 0.05


@contextlib.contextmanager
def claim(trial: Trial) -> Iterator[int]:
    """Hold the trial's folder for this process alone, creating it where it is missing.

    Yields the descriptor of a lock for its children, which tells the next trial when they have ended.

    Raises:
        TrialError: The port or the folder cannot be used; nothing was created.
    """
    check(trial)
    try:
        _make_folders(trial)
    except OSError as error:
        raise _unusable(trial, error) from error
    with hold(trial) as children:
        _check_port(trial.port)
        yield children


@contextlib.contextmanager
def hold(trial: Trial) -> Iterator[int]:
    """Hold an existing trial's folder for this process alone, once the children of a killed trial have ended.

    Raises:
        TrialError: A trial runs on it.
    """
    with _locked(trial, trial.data_dir), _locked(trial, trial.logs, _LEFTOVER_SECONDS) as children:
        yield children


def check(trial: Trial) -> None:
    """Make sure that a trial service could start, as far as this shows without creating anything.

    Raises:
        TrialError: It could not; the message says why and what to do.
    """
    _check_folder(trial)
    with contextlib.ExitStack() as stack:
        if exists(trial.logs):
            stack.enter_context(hold(trial))
        elif exists(trial.data_dir):
            stack.enter_context(_locked(trial, trial.data_dir))
        _check_port(trial.port)


def is_running(trial: Trial) -> bool:
    """Tell whether a trial service holds its folder."""
    if not exists(trial.logs):
        return False
    try:
        with _locked(trial, trial.data_dir):
            return False
    except TrialError:
        return True


@contextlib.contextmanager
def _locked(trial: Trial, folder: Path, seconds: float = 0) -> Iterator[int]:
    """Hold a lock on a folder itself: there is no file to create, and the lock ends with the processes that hold it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unusable(trial, error) from error
    try:
        _lock(descriptor, trial, time.monotonic() + seconds)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, trial: Trial, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise TrialError(
                    f"试用服务已在 {trial.data_dir} 上运行：请先停止它，或用 KADUN_DATA_DIR 和 KADUN_PORT 另开一个。",
                    f"A trial service already runs on {trial.data_dir}: stop it first, "
                    "or start another with KADUN_DATA_DIR and KADUN_PORT.",
                ) from error
            time.sleep(_POLL_SECONDS)
        else:
            return


def _check_folder(trial: Trial) -> None:
    nearest = next(folder for folder in (trial.data_dir, *trial.data_dir.parents) if exists(folder))
    if not nearest.is_dir():
        raise _unusable(trial, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unusable(trial, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    require_reachable(trial.cluster, postgresql_account())


def _make_folders(trial: Trial) -> None:
    for folder in reversed([trial.data_dir, *trial.data_dir.parents]):
        if not exists(folder):
            folder.mkdir(exist_ok=True)
            # PostgreSQL's account passes through, whatever root's umask says.
            folder.chmod(0o711 if folder == trial.data_dir else 0o755)
    is_new = not exists(trial.functions)
    for folder in (trial.logs, trial.files, trial.functions):
        folder.mkdir(mode=0o700, exist_ok=True)  # the machine may have other users
    if is_new:  # once: a vendor may remove it
        shutil.copyfile(SAMPLE_FUNCTION, trial.functions / SAMPLE_FUNCTION.name)


def _check_port(port: int) -> None:
    reason = why_not(port)
    if reason == errno.EADDRINUSE:
        raise TrialError(
            f"端口 {port} 已被占用：请关闭占用它的程序，或用 KADUN_PORT 换一个。",
            f"Port {port} is taken: stop what listens there, or set KADUN_PORT to another.",
        )
    if reason:
        raise TrialError(
            f"无法使用端口 {port}：请用 KADUN_PORT 换一个。",
            f"Cannot listen on port {port} ({os.strerror(reason)}): set KADUN_PORT to another.",
        )


def _unusable(trial: Trial, error: OSError) -> TrialError:
    return TrialError(
        f"无法使用数据目录 {trial.data_dir}：请用 KADUN_DATA_DIR 指定一个可写的目录。",
        f"Cannot use the data folder {trial.data_dir} ({error.strerror}): "
        "set KADUN_DATA_DIR to one that you can write.",
    )


def main() -> int:
    """Check what the environment names; print one line on stderr and return 1 where a trial could not start."""
    try:
        check(Trial.from_environ(os.environ, uid=os.geteuid()))
    except TrialError as error:
        print(f"kadun: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
