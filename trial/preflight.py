"""What must be right before anything is made: the port, the folder, and no second service on that folder.

Run by itself (python -m trial.preflight) it checks and makes nothing. Standard library only.
"""

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Iterator

from trial.child import leftover
from trial.environment import Trial
from trial.errors import TrialError
from trial.ports import why_not
from trial.processes import exists, postgresql_account, require_reachable
from trial.service import SERVICE, end_leftovers


@contextlib.contextmanager
def claim(trial: Trial) -> Iterator[None]:
    """Holds the trial's folder for this process alone, making it where it is missing.

    A service that a killed trial left running on it is ended first.

    Raises:
        TrialError: The port or the folder cannot be used; nothing was made.
    """
    check(trial)
    try:
        _make_folder(trial)
    except OSError as error:
        raise _unusable(trial, error) from error
    with _locked(trial):
        end_leftovers(trial)
        _check_port(trial.port)
        yield


@contextlib.contextmanager
def hold(trial: Trial) -> Iterator[None]:
    """Holds an existing trial's folder for this process alone; nothing is to serve from it.

    Raises:
        TrialError: A trial runs on it.
    """
    with _locked(trial):
        end_leftovers(trial)
        yield


def check(trial: Trial) -> None:
    """Makes sure that a trial service could start, as far as this shows without making anything.

    Raises:
        TrialError: It could not; the message says why and what to do.
    """
    _check_folder(trial)
    if not exists(trial.data_dir):
        _check_port(trial.port)
        return
    with _locked(trial):
        if leftover(trial, SERVICE) is None:  # else the port is its own, and it will be ended
            _check_port(trial.port)


@contextlib.contextmanager
def _locked(trial: Trial) -> Iterator[None]:
    """Holds a lock on the folder itself: there is no file to make, and the lock ends with this process."""
    try:
        folder = os.open(trial.data_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unusable(trial, error) from error
    try:
        _lock(folder, trial)
        yield
    finally:
        os.close(folder)


def _lock(folder: int, trial: Trial) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise TrialError(
            f"试用服务已在 {trial.data_dir} 上运行：请先停止它，或用 KADUN_DATA_DIR 和 KADUN_PORT 另开一个。",
            f"A trial service already runs on {trial.data_dir}: stop it first, "
            "or start another with KADUN_DATA_DIR and KADUN_PORT.",
        ) from error


def _check_folder(trial: Trial) -> None:
    nearest = next(folder for folder in (trial.data_dir, *trial.data_dir.parents) if exists(folder))
    if not nearest.is_dir():
        raise _unusable(trial, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unusable(trial, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    require_reachable(trial.cluster, postgresql_account())


def _make_folder(trial: Trial) -> None:
    for folder in reversed([trial.data_dir, *trial.data_dir.parents]):
        if not exists(folder):
            folder.mkdir(exist_ok=True)
            # PostgreSQL's account passes through, whatever root's umask says.
            folder.chmod(0o711 if folder == trial.data_dir else 0o755)


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
    """Checks what the environment names; one line on stderr and status 1 when it will not do."""
    try:
        check(Trial.from_environ(os.environ, uid=os.geteuid()))
    except TrialError as error:
        print(f"kadun: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
