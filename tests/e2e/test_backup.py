"""scripts/backup.sh against real containers: what it makes, and what it leaves alone when something is in the way."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import signed_by, strangers_ring
from tests.support.backups import FAULTS, Backups, damage, fill
from tests.support.http_exchange import quiet_port
from tests.support.processes import is_alive
from tests.support.site import Webhook
from tests.support.stack import Stack, run

pytestmark = [pytest.mark.containers, pytest.mark.long]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        stack.init_anew("localhost")
        with (stack.folder / ".env").open("a") as settings:
            settings.write("KADUN_BACKUP_RECIPIENT=none\n")  # so that tests can take backups apart
        stack.up("--scale", "nginx=0")
        fill(stack, 2000)
        yield stack


@pytest.fixture
def backups(stack: Stack) -> Backups:
    """With one good backup to lose."""
    backups = Backups(stack)
    if not (backups.folder / "last-good").exists():
        backups.take()
    return backups


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as webhook:
        yield webhook


def test_a_backup_is_whole_and_private_and_can_be_verified(backups: Backups) -> None:
    backups.stack.sql("app", "SELECT lo_create(0)")  # the backup's role may not read it, and need not
    done = backups.script("backup.sh")
    file = backups.newest()
    assert str(file) in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    names = {file.name, f"{file.name}.sha256"}
    assert names <= set(backups.contents())
    assert all((backups.folder / name).stat().st_mode & 0o777 == 0o600 for name in names)
    run("sha256sum", "--check", f"{file.name}.sha256", cwd=backups.folder)
    assert f"backup ok: {file.name}, " in backups.log()[-1]
    verified = backups.script("verify-backup.sh")
    assert f"{file} (card 2000, client 0)" in verified.stdout
    assert f"verify ok: {file.name}, " in backups.log()[-1]
    assert (backups.folder / "last-verified").read_text().split()[1:] == [file.name]
    assert backups.stack.sql("owner", "SELECT count(*) FROM pg_database WHERE datname LIKE 'kadun_%'") == "0"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_dump_spoilt_on_its_way_is_no_backup(backups: Backups, tmp_path: Path, fault: str) -> None:
    backups.refused("backup.sh", says="is not what pg_dump wrote", PATH=backups.spoiler(tmp_path, fault))
    assert "backup failed: " in backups.log()[-1]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bare_dump_is_read_whole_before_it_is_trusted(backups: Backups, tmp_path: Path, fault: str) -> None:
    file = tmp_path / "a.dump"
    with file.open("wb") as dump:
        subprocess.run(["tar", "-xOf", backups.newest(), "database.dump"], stdout=dump, check=True)
    backups.refused("verify-backup.sh", file, says="A bare dump is not signed, so nothing shows who made it")
    backups.script("verify-backup.sh", "--accept-unsigned", file)
    damage(file, fault)
    backups.refused("verify-backup.sh", "--accept-unsigned", file, says=str(file))


def test_where_the_keys_cannot_sign_a_backup_is_made_and_the_reason_said(backups: Backups, tmp_path: Path) -> None:
    ring = backups.stack.folder / "data/keys/keyring.json"
    aside = ring.rename(tmp_path / "keyring.json")
    try:
        done = backups.script("backup.sh")
    finally:
        aside.rename(ring)
    (unsigned,) = done.stderr.splitlines()
    assert "The backup is not signed, and restoring it will need --accept-unsigned: " in unsigned
    backups.refused("verify-backup.sh", says="It is not signed, so nothing shows who made it")
    backups.script("verify-backup.sh", "--accept-unsigned")
    backups.take()


@pytest.fixture
def parts(backups: Backups, tmp_path: Path) -> Path:
    """Return the parts of the newest backup, in a folder."""
    run("tar", "-xf", backups.newest(), cwd=tmp_path)
    return tmp_path


def incomplete(backups: Backups, parts: Path, lost: str) -> tuple[Path, str]:
    """Put a backup without a part into the backup folder; return it, and what is said of it."""
    file = backups.folder / "kadun-20260101T000000Z.tar"
    if lost == "the manifest beside a dump":
        file = file.with_suffix(".dump")
        shutil.copy(parts / "database.dump", file)
        manifest = file.with_suffix(".manifest").name
        sums = "".join(run("sha256sum", name, cwd=file.parent).stdout for name in (file.name, backups.newest().name))
        file.with_name(f"{file.name}.sha256").write_text(sums.replace(backups.newest().name, manifest))
        return file, f"names {manifest}, which is missing"
    kept = [name for name in ("manifest.json", "database.dump") if name != lost]
    run("tar", "-cf", file, *kept, cwd=parts)
    if lost != "the checksum":
        file.with_name(f"{file.name}.sha256").write_text(run("sha256sum", file.name, cwd=file.parent).stdout)
    complaints = {
        "manifest.json": "it has no manifest",
        "database.dump": "database.dump is missing",
        "the checksum": f"The checksum {file}.sha256 is missing",
    }
    return file, complaints[lost]


@pytest.mark.parametrize("lost", ["manifest.json", "database.dump", "the checksum", "the manifest beside a dump"])
def test_a_backup_that_lost_a_part_is_neither_recorded_as_proven_nor_restored(
    backups: Backups, parts: Path, lost: str
) -> None:
    file, complaint = incomplete(backups, parts, lost)
    try:
        backups.refused("verify-backup.sh", file, says=complaint)
        if lost != "the checksum":  # each byte is checked all the same
            backups.refused("restore.sh", file, says=complaint)
    finally:
        for part in backups.folder.glob("kadun-20260101T*"):
            part.unlink()


def test_a_bare_dump_in_the_backup_folder_is_not_recorded_as_proven(backups: Backups, parts: Path) -> None:
    file, before = backups.folder / "kadun-20260101T000000Z.dump", backups.contents()
    shutil.copy(parts / "database.dump", file)
    done = backups.script("verify-backup.sh", "--accept-unsigned", file)
    file.unlink()
    assert "no manifest: the rows were not compared" in done.stdout
    assert backups.contents() == before


def test_a_backup_that_is_not_what_its_checksum_says_is_refused(backups: Backups, tmp_path: Path) -> None:
    file = Path(shutil.copy(backups.newest(), tmp_path))
    (tmp_path / f"{file.name}.sha256").write_text(f"{'0' * 64}  {file.name}\n")
    for script in ("verify-backup.sh", "restore.sh"):
        backups.refused(script, file, says="Its SHA-256 differs: take another backup")


def test_a_backup_of_a_database_without_a_table_is_not_good(backups: Backups) -> None:
    backups.stack.sql("owner", "ALTER TABLE client RENAME TO customer")
    try:
        file = backups.take()
    finally:
        backups.stack.sql("owner", "ALTER TABLE customer RENAME TO client")
    refused = backups.script("verify-backup.sh", file, check=False)
    assert refused.returncode == 1
    assert refused.stderr.rstrip().endswith(
        "It lacks tables, since the database had been changed when it was made: see scripts/cardctl doctor: client"
    )
    backups.script("verify-backup.sh", backups.take())


def test_a_full_disk_leaves_the_old_backups_alone(backups: Backups, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", disk)
    try:
        with backups.settings(KADUN_BACKUP_DIR=str(disk), COMPOSE_PROJECT_NAME=backups.stack.project):
            small = Backups(backups.stack)
            small.folder = disk
            filler = disk / "filler"
            filler.write_bytes(bytes(1024 * 1024))
            (disk / "last-good").write_text("")
            small.refused("backup.sh", says="Not enough space: about ")
            filler.unlink()
            (disk / "last-good").unlink()
            # Room by all that is known beforehand: the last backup was small.
            newest = backups.newest()
            for file in (newest, newest.with_name(f"{newest.name}.sha256"), newest.with_name("last-good")):
                shutil.copy2(file, disk)
            kept = small.newest()
            fill(backups.stack, 150_000, "filler")
            try:
                small.refused("backup.sh", says="The backup could not be written (disk full?")
                assert "no space left on device" in small.log()[-1].lower()
            finally:
                backups.stack.sql("owner", "DELETE FROM card WHERE batch = 'filler'")
            assert "backup failed: " in small.log()[-1]
            small.script("verify-backup.sh", kept)
    finally:
        run("umount", disk)


def test_a_second_run_at_once_gives_way(backups: Backups) -> None:
    with backups.table_locked() as first:
        second = backups.script("backup.sh", check=False)
        assert second.returncode == 1
        assert "try again when it is done" in second.stderr
        assert second.stderr.count("\n") == 1
        assert first.poll() is None
    out, err = first.communicate(timeout=300)
    assert first.returncode == 0, err
    assert str(backups.newest()) in out
    backups.script("verify-backup.sh")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_killed_leaves_no_half_a_backup(backups: Backups, number: signal.Signals) -> None:
    before = backups.contents()
    with backups.table_locked() as backup:
        assert list(backups.stack.folder.glob("data/.backup.*")), "not where somebody else may write"
        backup.send_signal(number)
        assert backup.wait(timeout=60) != 0
        after = backups.contents()
    backup.communicate(timeout=60)
    assert before.items() <= after.items()
    if number == signal.SIGTERM:
        assert after == before
        assert "backup failed: " in backups.log()[-1]
    backups.take()
    assert not list(backups.stack.folder.glob("data/.backup.*"))


def test_a_stopped_database_is_said(backups: Backups) -> None:
    backups.stack.compose("stop", "database")
    try:
        backups.refused("backup.sh", says="Container database is down")
        backups.refused("verify-backup.sh", says="Container database is down")
    finally:
        backups.stack.compose("up", "--detach", "--wait", "database")


def test_old_backups_are_pruned_by_the_settings(backups: Backups) -> None:
    ours = [f"kadun-202001{day:02}T030000Z.tar" for day in range(1, 11)]
    for name in (*ours, *(f"{name}.sha256" for name in ours)):
        (backups.folder / name).write_text("x")
    numbers = {"DAILY": "4", "WEEKLY": "0", "MONTHLY": "0"}
    with backups.settings(**{f"KADUN_BACKUP_KEEP_{name}": value for name, value in numbers.items()}):
        newest = backups.take()
    assert {name for name in ours if name in backups.contents()} == set(ours[-3:])
    with backups.settings(KADUN_BACKUP_KEEP_DAILY="some"):
        backups.refused("backup.sh", says="KADUN_BACKUP_KEEP_DAILY")
    for name in backups.contents().keys() - {newest.name, f"{newest.name}.sha256", "last-good"}:
        (backups.folder / name).unlink()


def test_by_default_a_backup_is_encrypted_and_is_proven_with_the_identity_on_the_server(
    backups: Backups, tmp_path: Path
) -> None:
    identity = backups.stack.folder / "secrets/backup_identity"
    with backups.settings(KADUN_BACKUP_RECIPIENT=""):
        file = backups.take()
        assert file.name.endswith(".tar.age")
        assert b"PGDMP" not in file.read_bytes()
        assert "card 2000" in backups.script("verify-backup.sh").stdout
        assert (backups.folder / "last-verified").read_text().split()[1:] == [file.name], "not its checksum alone"
        content = subprocess.run(["age", "-d", "-i", identity, file], capture_output=True, check=True).stdout
        assert identity.read_bytes().strip() not in content
        forged = signed_by(content, strangers_ring(tmp_path))
        ours = run("age-keygen", "-y", identity).stdout.strip()  # which is no secret
        replaced = tmp_path / "replaced.tar.age"
        subprocess.run(("age", "-r", ours, "-o", replaced), input=forged, check=True)
        backups.refused("verify-backup.sh", replaced, says="not one of this server's")
        aside = identity.rename(tmp_path / "identity")
        backups.refused("backup.sh", says="secrets/backup_identity is missing")
        run("age-keygen", "-o", identity)
        backups.refused("verify-backup.sh", says="secrets/backup_identity does not decrypt it")
        assert "card 2000" in backups.script("verify-backup.sh", "--identity", aside, file).stdout
        aside.replace(identity)
    assert "card 2000" in backups.script("verify-backup.sh", file).stdout, "whatever the setting is now"
    backups.take()


def test_an_encrypted_backup_is_read_by_its_identity_only(backups: Backups, tmp_path: Path) -> None:
    identity, other = tmp_path / "identity", tmp_path / "other"
    for file in (identity, other):
        run("age-keygen", "-o", file)
    with backups.settings(KADUN_BACKUP_RECIPIENT=run("age-keygen", "-y", identity).stdout.strip()):
        file = backups.take()
    assert file.name.endswith(".tar.age")
    assert {name for name in backups.contents() if name.startswith(file.name[:22])} == {
        file.name,
        f"{file.name}.sha256",
    }
    assert b"PGDMP" not in file.read_bytes()
    assert "card 2000" in backups.script("verify-backup.sh", "--identity", identity, file).stdout
    assert "SHA-256 only" in backups.script("verify-backup.sh", file).stdout
    backups.refused("verify-backup.sh", "--identity", other, file, says=f"{other} does not decrypt it")
    with backups.settings(KADUN_BACKUP_RECIPIENT="age1nonsense"):
        backups.refused("backup.sh", says="KADUN_BACKUP_RECIPIENT")


def test_hooks_get_the_finished_file_and_one_that_fails_is_said(backups: Backups, tmp_path: Path) -> None:
    hooks, away = tmp_path / "hooks", tmp_path / "away"
    hooks.mkdir()
    away.mkdir()
    (hooks / "10-copy").write_text(f'#!/bin/sh\ncp "$1" {away}\n')
    (hooks / "README").write_text("not a program")
    (hooks / "10-copy").chmod(0o755)
    assert not (backups.folder / "last-away").exists()
    with backups.settings(KADUN_BACKUP_HOOKS=str(hooks)):
        file = backups.take()
        backups.script("verify-backup.sh", away / file.name)
        assert (backups.folder / "last-away").read_text().split()[1:] == [file.name]
        (hooks / "20-fails").write_text("#!/bin/sh\necho the other side is away >&2\nexit 3\n")
        (hooks / "20-fails").chmod(0o755)
        done = backups.script("backup.sh", check=False)
    assert done.returncode == 1
    assert "20-fails (the other side is away)" in done.stderr
    assert backups.newest() != file
    backups.script("verify-backup.sh", away / backups.newest().name)
    assert (backups.folder / "last-away").read_text().split()[1:] == [file.name], "not all of them were done"


def test_a_hook_that_hangs_is_ended_with_its_children_and_holds_nothing_up(backups: Backups, tmp_path: Path) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "10-hangs").write_text(f"#!/bin/sh\nsleep 601 &\necho $! >{tmp_path}/child\nwait\n")
    (hooks / "20-leaves").write_text(f"#!/bin/sh\nsetsid sleep 602 &\necho $! >{tmp_path}/left\n")
    for hook in hooks.iterdir():
        hook.chmod(0o755)
    try:
        with backups.settings(KADUN_BACKUP_HOOKS=str(hooks), KADUN_BACKUP_HOOK_SECONDS="2"):
            started = time.monotonic()
            done = backups.script("backup.sh", check=False)
            assert time.monotonic() - started < 60
        assert done.returncode == 1
        assert "10-hangs (2 秒内未结束 not done within 2 s)\n" in done.stderr
        assert not is_alive(int((tmp_path / "child").read_text()))
        assert is_alive(int((tmp_path / "left").read_text())), "what a program leaves running is its own affair"
        backups.take()
        with backups.settings(KADUN_BACKUP_HOOK_SECONDS="0"):
            backups.refused("backup.sh", says="KADUN_BACKUP_HOOK_SECONDS")
    finally:
        os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)


def test_the_webhook_is_told_and_one_that_is_away_harms_nothing(backups: Backups, webhook: Webhook) -> None:
    with backups.settings(KADUN_BACKUP_WEBHOOK=f"{webhook.url}a-secret-token"):
        file = backups.take()
        with backups.settings(KADUN_BACKUP_KEEP_DAILY='"\\'):
            backups.script("backup.sh", check=False)
    assert [(one["event"], one["status"], one["file"]) for one in webhook.told] == [
        ("backup", "ok", file.name), ("backup", "failed", ""),
    ]  # fmt: skip
    assert webhook.told[0]["project"] == backups.stack.project
    assert '"\\' in webhook.told[1]["message"]
    secret = backups.stack.folder / "secrets/backup_webhook"
    secret.write_text(f"http://127.0.0.1:{quiet_port()}/a-secret-token\n")
    try:
        done = backups.script("backup.sh")
    finally:
        secret.unlink()
    assert "The notice could not be sent" in done.stderr
    assert "a-secret-token" not in done.stderr + "".join(backups.log())
    assert backups.newest() != file
