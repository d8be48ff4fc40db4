"""The backup scripts of a stack, called as cron or a vendor calls them, and the archives that they make."""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyrage

from tests.support.hosts.stack import Stack

STAND_IN = """#!/bin/bash
really() {{ {program} "$@"; }}
[[ "$*" == {words} ]] || exec {program} "$@"
{code}
"""

Members = dict[str, bytes]
"""The content of an archive's files by their names."""


class Backups:
    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.folder = stack.folder / "data/backups"

    def script(self, name: str, *arguments: str | Path, check: bool = True, **environment: str) -> Any:
        """Run a script of the stack from another folder."""
        return self.stack.script(name, *arguments, check=check, env=self.stack.environment | environment)

    def start(self, name: str, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        """Start a script in a session of its own and leave it running."""
        return subprocess.Popen(
            [self.stack.folder / "scripts" / name, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd="/", env=self.stack.environment | environment, start_new_session=True,
        )  # fmt: skip

    def take(self) -> Path:
        assert not self.script("backup.sh", "--quiet").stderr
        return self.newest()

    def newest(self) -> Path:
        return self.folder / (self.folder / "last-good").read_text().split()[1]

    def contents(self) -> dict[str, bytes]:
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


def standing_in(folder: Path, program: str, words: str, code: str) -> str:
    """Return a PATH with a program of this name that runs code in place of commands whose words match a pattern.

    The code calls the program itself by `really`.
    """
    file = folder / program
    file.write_text(STAND_IN.format(program=shutil.which(program), words=words, code=code))
    file.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def decrypted(backup: Path, identity: Path) -> bytes:
    key = pyrage.x25519.Identity.from_str(identity.read_text().split()[-1])
    plain: bytes = pyrage.decrypt(backup.read_bytes(), [key])
    return plain


def members(plain: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(plain)) as source:
        files = [info for info in source if info.isfile()]
        return {info.name: (source.extractfile(info) or io.BytesIO()).read() for info in files}


def repacked(plain: bytes, change: Callable[[Members], object]) -> bytes:
    """Return a tar with other files, as a fault or an attacker would change it."""
    files, output = members(plain), io.BytesIO()
    change(files)
    with tarfile.open(fileobj=output, mode="w") as target:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            target.addfile(info, io.BytesIO(content))
    return output.getvalue()
