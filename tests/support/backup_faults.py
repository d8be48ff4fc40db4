"""Faults of a running stack's backups, which are healed afterwards."""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.stack import Stack, run
from tests.support.stack_changes import rewritten


def old_backup(stack: Stack) -> AbstractContextManager[None]:
    file = stack.folder / "data/backups/last-good"
    name = file.read_text().split()[1]
    return rewritten(file, f"{datetime.now(UTC) - timedelta(hours=27):%Y-%m-%dT%H:%M:%SZ} {name}\n")


@contextmanager
def backup_gone(stack: Stack) -> Iterator[None]:
    name = (stack.folder / "data/backups/last-good").read_text().split()[1]
    file = stack.folder / "data/backups" / name
    file.rename(file.with_name("aside"))
    try:
        yield
    finally:
        file.with_name("aside").rename(file)


@contextmanager
def cut_backup(stack: Stack) -> Iterator[None]:
    """Cut the last backup off."""
    name = (stack.folder / "data/backups/last-good").read_text().split()[1]
    file = stack.folder / "data/backups" / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-512])
    try:
        yield
    finally:
        file.write_bytes(whole)


def old_proof(stack: Stack) -> AbstractContextManager[None]:
    file = stack.folder / "data/backups/last-verified"
    name = file.read_text().split()[1]
    return rewritten(file, f"{datetime.now(UTC) - timedelta(days=9):%Y-%m-%dT%H:%M:%SZ} {name}\n")


@contextmanager
def failing_hook(stack: Stack) -> Iterator[None]:
    """Add a hook that has never run."""
    hook = stack.folder / "data/backup-hooks.d/50-away"
    hook.parent.mkdir()
    hook.touch(0o755)
    try:
        yield
    finally:
        shutil.rmtree(hook.parent)


@contextmanager
def altered_jobs(stack: Stack) -> Iterator[None]:
    """Remove the daily backup from the cron file."""
    stack.script("install-cron.sh")
    file = Path("/etc/cron.d") / f"kadun-{stack.project}"
    try:
        kept = [line for line in file.read_text().splitlines() if "/backup.sh" not in line]
        file.write_text("\n".join(kept) + "\n")
        yield
    finally:
        stack.script("install-cron.sh", "--remove")


@contextmanager
def nearly_full_backup_disk(stack: Stack) -> Iterator[None]:
    folder = stack.folder / "data/backups"
    aside = folder.rename(folder.with_name("aside"))
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder)
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield
    finally:
        run("umount", folder)
        folder.rmdir()
        aside.rename(folder)
