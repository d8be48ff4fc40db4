"""Processes and accounts, as Linux shows them: what PostgreSQL runs as, what bars it, who still runs."""

import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from trial.errors import TrialError

_NOBODY = 65_534  # the number of `nobody` on every Linux, should the account have no entry
_REPORT_FIRST_BARRED = 'for folder; do [ -x "$folder" ] || { printf %s "$folder"; exit 1; }; done'
_ZOMBIE = "Z"
_STAT_START_TIME = 19  # in /proc/PID/stat: field 22, counted from the state, which is field 3


@dataclass(frozen=True)
class Account:
    """A user and group to run a program as."""

    uid: int
    gid: int

    def run(
        self, command: list[str], *, stdout: int | IO[str] = subprocess.PIPE, environ: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program as this account, in `/` (another folder may bar it), out of reach of Ctrl-C.

        Raises:
            OSError: The program cannot be started.
        """
        other = self.uid != os.geteuid()
        return subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            env=environ,
            start_new_session=True,
            umask=0o077,
            user=self.uid if other else None,
            group=self.gid if other else None,
            extra_groups=[] if other else None,
        )


def postgresql_account() -> Account:
    """Returns the account that PostgreSQL runs as: the caller's, or `nobody` for root, whom it refuses."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(_NOBODY, _NOBODY)
    return Account(entry.pw_uid, entry.pw_gid)


def exists(path: Path) -> bool:
    """Tells whether this process can see `path`; Path.exists fails where a folder on the way bars it."""
    return os.access(path, os.F_OK)


def first_barred_folder(path: Path, account: Account) -> Path | None:
    """Returns the topmost existing folder on the way to `path`, itself included, that bars `account`.

    The system is asked, as that account: mode bits alone know nothing of access lists.
    """
    folders = [str(folder) for folder in reversed([path, *path.parents]) if exists(folder)]
    asked = account.run(["/bin/sh", "-c", _REPORT_FIRST_BARRED, "sh", *folders], environ={"PATH": os.defpath})
    return Path(asked.stdout) if asked.returncode else None


def require_reachable(path: Path, account: Account) -> None:
    """Makes sure that PostgreSQL's account can reach `path`, as far as it exists.

    Raises:
        TrialError: A folder on the way bars it.
    """
    barred = first_barred_folder(path, account)
    if barred:
        raise TrialError(
            f"PostgreSQL 的运行账户无法进入 {barred}：请用 KADUN_DATA_DIR 指定别处，或执行 chmod o+x {barred}。",
            f"The account that runs PostgreSQL cannot enter {barred}: "
            f"set KADUN_DATA_DIR to a folder elsewhere, or chmod o+x {barred}.",
        )


def command_line(pid: int) -> list[str]:
    """Returns a process's arguments; none for one that has ended, also where nobody has collected it yet."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def start_time(pid: int) -> str | None:
    """Returns when a living process started, in ticks since boot; with its number this names it."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = status.rpartition(") ")[2].split()
    return None if fields[0] == _ZOMBIE else fields[_STAT_START_TIME]


def shared_memory_users(table: str, segment: str) -> int:
    """Returns how many processes use a shared memory segment, from the text of /proc/sysvipc/shm."""
    for line in table.splitlines():
        columns = line.split()
        if columns[1] == segment:
            return int(columns[6])
    return 0
