"""The backup scripts of a stack, called as cron or a vendor calls them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.hosts.stack import Stack, run
from tests.support.services.service import wait_for

SPOILER = r"""#!/bin/bash
# Replaces docker: a byte of what the dump command writes is another one, without an error.
[[ " $* " == *"/dump-snapshot "* ]] || exec {docker} "$@"
{docker} "$@" | {{ head -c 20000; head -c 1 | tr '\000-\377' '\001-\377\000'; cat; }}
"""


class Backups:
    """The scripts of one stack and its backup folder."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.folder = stack.folder / "data/backups"
        self.environment = stack.environment

    def script(self, name: str, *arguments: str | Path, check: bool = True, **environment: str) -> Any:
        """Run a script of the stack from another folder."""
        return self.stack.script(name, *arguments, check=check, env=self.environment | environment)

    def start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a script and leave it running."""
        return subprocess.Popen(
            [self.stack.folder / "scripts" / name, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/", env=self.environment,
        )  # fmt: skip

    def take(self) -> Path:
        assert not self.script("backup.sh", "--quiet").stderr
        return self.newest()

    def newest(self) -> Path:
        return self.folder / (self.folder / "last-good").read_text().split()[1]

    def contents(self) -> dict[str, bytes]:
        """Return all files with their content."""
        own = ("backup.log", ".project")
        files = (file for file in self.folder.iterdir() if file.name not in own)
        return {file.name: file.read_bytes() if file.is_file() else b"" for file in files}

    def log(self) -> list[str]:
        return (self.folder / "backup.log").read_text().splitlines()

    def refused(self, name: str, *arguments: str | Path, says: str, **environment: str) -> None:
        """Assert that a script fails with one line that contains `says` and changes no file."""
        before = self.contents()
        done = self.script(name, *arguments, check=False, **environment)
        assert done.returncode == 1, done.stdout + done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert says in done.stderr, done.stderr
        assert self.contents() == before

    @contextmanager
    def settings(self, **values: str) -> Iterator[None]:
        file = self.stack.folder / ".env"
        before = file.read_text()
        file.write_text(before + "".join(f"{name}={value}\n" for name, value in values.items()))
        try:
            yield
        finally:
            file.write_text(before)

    @contextmanager
    def table_locked(self) -> Iterator[subprocess.Popen[str]]:
        """Start a backup that waits for a lock on a table, which is released at the end."""
        words = ("docker", "compose", "exec", "-T", "database", "as-role", "owner", "psql", "-X", "-q")
        holder = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            cwd=self.stack.folder, env=self.environment,
        )  # fmt: skip
        assert holder.stdin
        try:
            holder.stdin.write("BEGIN; LOCK TABLE card;\n")
            holder.stdin.flush()
            wait_for(lambda: self._sessions("mode = 'AccessExclusiveLock' AND granted"))
            backup = self.start("backup.sh")
            waiting = "SELECT pid FROM pg_stat_activity WHERE usename = 'kadun_backup'"  # the service waits, too
            is_waiting = f"NOT granted AND pid IN ({waiting})"
            wait_for(lambda: self._sessions(is_waiting) or backup.poll() is not None, seconds=120)
            yield backup
        finally:
            holder.communicate("COMMIT;\n", timeout=120)

    def _sessions(self, condition: str) -> bool:
        question = "SELECT count(*) FROM pg_locks WHERE relation = 'card'::regclass AND "
        return self.stack.sql("owner", question + condition) != "0"

    def spoiler(self, folder: Path) -> str:
        """Return a PATH with a `docker` that damages dumps."""
        docker = run("sh", "-c", "command -v docker").stdout.strip()
        file = folder / "docker"
        file.write_text(SPOILER.format(docker=docker))
        file.chmod(0o755)
        return f"{folder}:{os.environ['PATH']}"


def fill(stack: Stack, cards: int, batch: str = "first") -> None:
    columns = "id, validity, batch, created_at"
    values = f"upper(md5(random()::text)), interval '30 days', '{batch}', now()"
    stack.sql("owner", f"INSERT INTO card ({columns}) SELECT {values} FROM generate_series(1, {cards})")  # noqa: S608
