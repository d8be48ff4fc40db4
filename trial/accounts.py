"""The account that PostgreSQL runs as, and whether an account can reach a folder."""

import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trial.errors import TrialError

_NOBODY = 65_534  # the number of `nobody` on every Linux, should the account have no entry
_PRINT_FIRST_BARRED = 'for folder; do [ -x "$folder" ] || { printf %s "$folder"; exit 1; }; done'


@dataclass(frozen=True)
class Account:
    """A user and group to run a program as."""

    uid: int
    gid: int

    def options(self) -> dict[str, Any]:
        """Return the arguments of Popen that run a program as this account, in `/`, since it may not enter ours."""
        other = {} if self.uid == os.geteuid() else {"user": self.uid, "group": self.gid, "extra_groups": []}
        return {"cwd": "/", "umask": 0o077, **other}

    def run(self, command: list[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a program as this account, out of reach of Ctrl-C.

        Raises:
            OSError: The program cannot be started.
        """
        return subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environ,
            start_new_session=True,
            **self.options(),
        )


def postgresql_account() -> Account:
    """Return the caller's account, or `nobody` for root, as whom PostgreSQL refuses to run."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(_NOBODY, _NOBODY)
    return Account(entry.pw_uid, entry.pw_gid)


def exists(path: Path) -> bool:
    """Tell whether this process can see `path`; Path.exists fails where a folder on the way bars it."""
    return os.access(path, os.F_OK)


def require_reachable(path: Path, account: Account) -> None:
    """Make sure that `account` can enter the existing folders on the way to `path`, and `path` itself.

    Raises:
        TrialError: A folder bars it.
    """
    barred = first_barred(path, account)
    if barred is not None:
        raise TrialError(
            f"PostgreSQL 的运行账户无法进入 {barred}：请用 KADUN_DATA_DIR 指定别处，或执行 chmod o+x {barred}。",
            f"The account that runs PostgreSQL cannot enter {barred}: "
            f"set KADUN_DATA_DIR to a folder elsewhere, or chmod o+x {barred}.",
        )


def first_barred(path: Path, account: Account) -> str | None:
    """Return the topmost folder that `account` cannot enter on the way to `path`, or `path` itself; None without one.

    A shell asks the system as that account, since mode bits know nothing of access lists.
    """
    folders = [str(folder) for folder in reversed([path, *path.parents]) if exists(folder)]
    asked = account.run(["/bin/sh", "-c", _PRINT_FIRST_BARRED, "sh", *folders], {"PATH": os.defpath})
    return asked.stdout if asked.returncode else None
