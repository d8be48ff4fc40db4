"""The backup scripts, by hand and by cron: what they make, and what they leave alone when something is in the way."""
# Owns run-backup.

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.hosts.backups import Backups, decrypted, members, standing_in
from tests.support.hosts.stack import Stack, run
from tests.support.services.service import wait_for

pytestmark = pytest.mark.xdist_group("serving")

# A byte of what the dump command writes is another one, without an error.
SPOILT = r"""really "$@" | { head -c 20000; head -c 1 | tr '\000-\377' '\001-\377\000'; cat; }"""


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
    inside = members(decrypted(file, backups.stack.folder / "secrets/backup_identity"))
    for name in ("secrets/kernal_data_key", "data/keys/keyring.json", "https_certificates/privkey.pem"):
        assert inside[name] == (backups.stack.folder / name).read_bytes()
    assert inside["env"].startswith((backups.stack.folder / ".env").read_bytes())
    verified = backups.script("backup.sh", "--verify")
    assert f"{file} {counts(backups.stack)}" in verified.stdout
    assert f"verify ok: {file.name}, " in backups.log()[-1]
    assert (backups.folder / "last-verified").read_text().split()[1:] == [file.name]
    assert backups.stack.sql("owner", "SELECT count(*) FROM pg_database WHERE datname LIKE 'kadun_%'") == "0"


def test_a_dump_spoilt_on_its_way_is_no_backup(backups: Backups, tmp_path: Path) -> None:
    path = standing_in(tmp_path, "docker", "*/dump-snapshot*", SPOILT)
    backups.refused("backup.sh", says="is not what pg_dump wrote", PATH=path)
    assert "backup failed: " in backups.log()[-1]


def test_a_full_disk_leaves_the_old_backups_alone(backups: Backups, tmp_path: Path) -> None:
    run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", tmp_path)
    try:
        with backups.settings(KADUN_BACKUP_DIR=str(tmp_path), COMPOSE_PROJECT_NAME=backups.stack.project):
            small = Backups(backups.stack)
            small.folder = tmp_path
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
        run("umount", tmp_path)


@contextmanager
def table_locked(backups: Backups) -> Iterator[subprocess.Popen[str]]:
    """Start a backup that waits for a lock on a table, which is released at the end."""

    def there_are(condition: str) -> bool:
        question = f"SELECT count(*) FROM pg_locks WHERE relation = 'card'::regclass AND {condition}"  # noqa: S608
        return backups.stack.sql("owner", question) != "0"

    words = ("docker", "compose", "exec", "-T", "database", "as-role", "owner", "psql", "-X", "-q")
    holder = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        cwd=backups.stack.folder, env=backups.stack.environment,
    )  # fmt: skip
    assert holder.stdin
    try:
        holder.stdin.write("BEGIN; LOCK TABLE card;\n")
        holder.stdin.flush()
        wait_for(lambda: there_are("mode = 'AccessExclusiveLock' AND granted"))
        backup = backups.start("backup.sh")
        waiting = "SELECT pid FROM pg_stat_activity WHERE usename = 'kadun_backup'"  # the service waits, too
        wait_for(lambda: there_are(f"NOT granted AND pid IN ({waiting})") or backup.poll() is not None, seconds=120)
        yield backup
    finally:
        holder.communicate("COMMIT;\n", timeout=120)


def test_a_second_run_gives_way_and_one_that_is_killed_leaves_no_half_a_backup(backups: Backups) -> None:
    before = backups.contents()
    with table_locked(backups) as backup:
        assert list(backups.stack.folder.glob("data/.backup.*")), "not where somebody else may write"
        second = backups.script("backup.sh", check=False)
        assert (second.returncode, second.stderr.count("\n"), backup.poll()) == (1, 1, None)
        assert "try again when it is done" in second.stderr
        backup.kill()
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
    with backups.settings(KADUN_BACKUP_RECIPIENT="age1nonsense"):
        backups.refused("backup.sh", says="is KADUN_BACKUP_RECIPIENT right?")
    aside = identity.rename(tmp_path / "identity")
    try:
        backups.refused("backup.sh", says="secrets/backup_identity is missing")
        assert counts(backups.stack) in backups.script("backup.sh", "--verify", "--identity", another, file).stdout
    finally:
        aside.rename(identity)


def test_hooks_get_the_finished_file_and_one_that_fails_or_hangs_is_said(backups: Backups, tmp_path: Path) -> None:
    hooks, away, carried = tmp_path / "hooks", tmp_path / "away", backups.folder / "last-away"
    hooks.mkdir()
    away.mkdir()

    def hook(name: str, code: str) -> None:
        (hooks / name).write_text(f"#!/bin/sh\n{code}\n")
        (hooks / name).chmod(0o755)

    hook("10-copy", f'cp "$1" {away}')
    (hooks / "README").write_text("not a program")
    assert not carried.exists()
    try:
        with backups.settings(KADUN_BACKUP_HOOKS=str(hooks), KADUN_BACKUP_HOOK_SECONDS="2"):
            file = backups.take()
            assert (away / file.name).read_bytes() == file.read_bytes()
            assert carried.read_text().split()[1:] == [file.name]
            hook("05-hangs", "sleep 601")
            hook("20-fails", "echo the other side is away >&2; exit 3")
            done = backups.script("backup.sh", check=False)
        assert done.returncode == 1
        assert "05-hangs (2 秒内未结束 not done within 2 s)" in done.stderr
        assert "20-fails (the other side is away)" in done.stderr
        assert backups.newest() != file
        assert (away / backups.newest().name).exists()
        assert carried.read_text().split()[1:] == [file.name], "not all of them were done"
    finally:
        carried.unlink(missing_ok=True)


def run_job(line: str, variables: dict[str, str]) -> tuple[int, str]:
    """Run a line of cron's table in cron's environment, which is next to none; return its status and the mail."""
    command = line.split(" ", maxsplit=6)[6]
    assert "%" not in command.replace(r"\%", ""), "cron makes a line break of it"
    shell = ("env", "-i", f"PATH={variables['PATH']}", variables["SHELL"], "-c")
    done = run(*shell, "{ " + command.replace(r"\%", "%") + "; } 2>&1", check=False, cwd="/", input="")
    return done.returncode, done.stdout


def test_crons_jobs_run_in_its_empty_environment_and_have_nothing_to_mail_unless_they_fail(
    backups: Backups, tmp_path: Path
) -> None:
    file = Path("/etc/cron.d") / f"kadun-{backups.stack.project}"
    backups.script("install-cron.sh", "--backup-at", "23:05", "--mail", "me@kadun.test")
    try:
        assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (0, 0o644), "or cron would not read it"
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        variables = dict(line.split("=", 1) for line in lines if "=" in line.split(" ", maxsplit=1)[0])
        daily, weekly = lines[len(variables) :]
        assert daily.startswith("5 23 * * * root ")
        assert weekly.startswith("47 4 * * sun root ")
        assert variables["MAILTO"] == "me@kadun.test"
        for job, done in ((daily, "backup"), (weekly, "verify")):
            assert run_job(job, variables) == (0, "")
            assert f"{done} ok: {backups.newest().name}" in backups.log()[-1]
        before = backups.contents()
        backups.stack.compose("stop", "database")
        try:
            for job in (daily, weekly):
                status, mail = run_job(job, variables)
                assert (status, mail.count("\n"), "Container database is down" in mail) == (1, 1, True)
        finally:
            backups.stack.up()
        assert backups.contents() == before
        own, theirs = file.read_text(), tmp_path / "scripts/backup.sh"
        theirs.parent.mkdir()
        theirs.touch()
        file.write_text(own.replace(f"# {backups.stack.folder}\n", f"# {tmp_path}\n"))
        refused = backups.script("install-cron.sh", "--remove", check=False)
        assert (refused.returncode, "two stacks need two names" in refused.stderr) == (1, True)
        file.write_text(own)
        backups.script("install-cron.sh", "--remove")
        assert not file.exists()
    finally:
        file.unlink(missing_ok=True)
