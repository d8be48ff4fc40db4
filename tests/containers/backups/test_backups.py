"""The backup scripts: what they make, and what they leave alone when something is in the way."""
# Owns run-backup.

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.hosts.archives import decrypted, members
from tests.support.hosts.backups import Backups
from tests.support.hosts.moving import Program
from tests.support.hosts.stack import Stack, run
from tests.support.services.http_exchange import exchange
from tests.support.services.service import wait_for

pytestmark = pytest.mark.xdist_group("serving")


def counts(stack: Stack) -> str:
    """How many cards and clients there are, as a verification says it."""
    cards, clients = (stack.sql("owner", f"SELECT count(*) FROM {table}") for table in ("card", "client"))  # noqa: S608
    return f"(card {cards}, client {clients})"


def test_a_backup_is_whole_and_private_and_can_be_verified_and_old_ones_are_pruned(backups: Backups) -> None:
    ours = [f"kadun-202001{day:02}T030000Z.tar" for day in range(1, 11)]
    for name in (*ours, *(f"{name}.sha256" for name in ours)):  # of version 1.0
        (backups.folder / name).write_text("x")
    large_object = backups.stack.sql("app", "SELECT lo_create(0)")  # the backup's role may not read it, and need not
    try:
        with backups.settings(KADUN_BACKUP_KEEP_DAILY="4", KADUN_BACKUP_KEEP_WEEKLY="0", KADUN_BACKUP_KEEP_MONTHLY="0"):
            done = backups.script("backup.sh")
        assert {name for name in backups.contents() if "202001" in name} == {
            name for kept in ours[-3:] for name in (kept, f"{kept}.sha256")
        }
    finally:
        backups.stack.sql("app", f"SELECT lo_unlink({large_object})")
        for old in backups.folder.glob("kadun-202001*"):
            old.unlink()
    file = backups.newest()
    assert str(file) in done.stdout
    assert "Copy secrets/backup_identity to another machine, then set KADUN_IDENTITY_COPIED=yes" in done.stdout
    assert done.stderr == ""
    assert (file.stat().st_mode & 0o777, backups.folder.stat().st_mode & 0o777) == (0o600, 0o700)
    assert f"backup ok: {file.name}, " in backups.log()[-1]
    identity = backups.stack.folder / "secrets/backup_identity"
    inside = members(decrypted(file, identity))
    for name in ("secrets/kernal_data_key", "data/keys/keyring.json", "https_certificates/privkey.pem"):
        assert inside[name] == (backups.stack.folder / name).read_bytes()
    assert inside["env"].startswith((backups.stack.folder / ".env").read_bytes())
    verified = backups.script("backup.sh", "--verify")
    assert f"{file} {counts(backups.stack)}" in verified.stdout
    assert f"verify ok: {file.name}, " in backups.log()[-1]
    assert (backups.folder / "last-verified").read_text().split()[1:] == [file.name]
    assert backups.stack.sql("owner", "SELECT count(*) FROM pg_database WHERE datname LIKE 'kadun_%'") == "0"


def test_a_dump_spoilt_on_its_way_is_no_backup(backups: Backups, tmp_path: Path) -> None:
    backups.refused("backup.sh", says="is not what pg_dump wrote", PATH=backups.spoiler(tmp_path))
    assert "backup failed: " in backups.log()[-1]


def test_a_full_disk_leaves_the_old_backups_alone(backups: Backups, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk)
    try:
        with backups.settings(KADUN_BACKUP_DIR=str(disk), COMPOSE_PROJECT_NAME=backups.stack.project):
            small = Backups(backups.stack)
            small.folder = disk
            for folder, says in (("files", "Not enough space: about "), ("functions", "not be written (disk full?")):
                filler = backups.stack.folder / "data" / folder / ("f" * 64)  # the estimate does not know functions
                filler.write_bytes(os.urandom(16 * 1024 * 1024))
                try:
                    small.refused("backup.sh", "--with-files", says=says)
                finally:
                    filler.unlink()
            assert "backup failed: " in small.log()[-1]
            assert "no space left on device" in small.log()[-1].lower()
    finally:
        run("umount", disk)


def test_a_second_run_gives_way_and_one_that_is_killed_leaves_no_half_a_backup(backups: Backups) -> None:
    before = backups.contents()
    with backups.table_locked() as backup:
        assert list(backups.stack.folder.glob("data/.backup.*")), "not where somebody else may write"
        second = backups.script("backup.sh", check=False)
        assert second.returncode == 1
        assert "try again when it is done" in second.stderr
        assert second.stderr.count("\n") == 1
        assert backup.poll() is None
        backup.send_signal(signal.SIGKILL)
        assert backup.wait(timeout=60) != 0
        after = backups.contents()
    backup.communicate(timeout=60)
    assert before.items() <= after.items()
    backups.take()
    assert not list(backups.stack.folder.glob("data/.backup.*"))


def test_a_backup_opens_with_the_identity_here_and_with_a_recipient_beside_it(backups: Backups, tmp_path: Path) -> None:
    identity, another = backups.stack.folder / "secrets/backup_identity", tmp_path / "another"
    run("age-keygen", "-o", another)
    licensed = backups.stack.folder / "data/files" / ("a" * 64)
    licensed.write_bytes(b"licensed")
    with backups.settings(KADUN_BACKUP_RECIPIENT=run("age-keygen", "-y", another).stdout.strip()):
        backups.script("backup.sh", "--with-files", "--quiet")
    file = backups.newest()
    licensed.unlink()
    assert members(decrypted(file, another))[f"data/files/{licensed.name}"] == b"licensed"
    assert decrypted(file, another) == decrypted(file, identity)
    assert counts(backups.stack) in backups.script("backup.sh", "--verify", file).stdout
    with backups.settings(KADUN_BACKUP_RECIPIENT="age1nonsense"):
        backups.refused("backup.sh", says="is KADUN_BACKUP_RECIPIENT right?")
    aside = identity.rename(tmp_path / "identity")
    try:
        backups.refused("backup.sh", says="secrets/backup_identity is missing")
        assert counts(backups.stack) in backups.script("backup.sh", "--verify", "--identity", another, file).stdout
    finally:
        aside.rename(identity)


def test_hooks_get_the_finished_file_and_one_that_fails_is_said(backups: Backups, tmp_path: Path) -> None:
    hooks, away, carried = tmp_path / "hooks", tmp_path / "away", backups.folder / "last-away"
    hooks.mkdir()
    away.mkdir()
    (hooks / "10-copy").write_text(f'#!/bin/sh\ncp "$1" {away}\n')
    (hooks / "README").write_text("not a program")
    (hooks / "10-copy").chmod(0o755)
    assert not carried.exists()
    try:
        with backups.settings(KADUN_BACKUP_HOOKS=str(hooks)):
            file = backups.take()
            assert (away / file.name).read_bytes() == file.read_bytes()
            assert carried.read_text().split()[1:] == [file.name]
            (hooks / "20-fails").write_text("#!/bin/sh\necho the other side is away >&2\nexit 3\n")
            (hooks / "20-fails").chmod(0o755)
            done = backups.script("backup.sh", check=False)
        assert done.returncode == 1
        assert "20-fails (the other side is away)" in done.stderr
        assert backups.newest() != file
        assert (away / backups.newest().name).exists()
        assert carried.read_text().split()[1:] == [file.name], "not all of them were done"
    finally:
        carried.unlink(missing_ok=True)


def key_set(stack: Stack) -> dict[str, Any]:
    answer: dict[str, Any] = exchange(stack.connection(), "GET", "/.well-known/jwks.json", None, {}).json()
    return answer


@pytest.mark.nightly
def test_a_restore_keeps_keys_in_the_database_that_are_newer(
    backups: Backups, program: Program, tmp_path: Path
) -> None:
    stack, ring = backups.stack, backups.stack.folder / "data/keys/keyring.json"
    identity = stack.folder / "secrets/backup_identity"
    stack.script("cardctl", "key", "store", "database")
    aside = Path(shutil.move(ring, tmp_path))
    try:
        with backups.settings(KADUN_KEYS="database"):
            stack.up()
            before = key_set(stack)
            backup = backups.take()
            assert before["keys"][0]["kid"] in members(decrypted(backup, identity))["key-ids"].decode()
            stack.script("backup.sh", "--verify", backup)
            stack.script("cardctl", "key", "rotate")
            rotated = wait_for(lambda: None if (keys := key_set(stack)) == before else keys)
            restored = stack.script("restore.sh", backup)
            assert f"The signing keys are in place: {rotated['keys'][-2]['kid']}" in restored.stdout
            assert key_set(stack) == rotated
            assert program.open_on(stack)["core"]
            stack.script("restore.sh", "--drop-old")
            stack.script("cardctl", "key", "store", "folder")
    finally:
        if not ring.exists():
            shutil.move(aside, ring)
        stack.up()
    assert key_set(stack) == rotated
