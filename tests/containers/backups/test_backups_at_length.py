"""What else can happen to a backup."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts.backups import Backups
from tests.support.hosts.site import Webhook
from tests.support.services.http_exchange import quiet_port
from tests.support.services.processes import is_alive

pytestmark = [pytest.mark.nightly, pytest.mark.xdist_group("serving")]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as webhook:
        yield webhook


def test_a_run_that_is_ended_leaves_nothing_and_says_so(backups: Backups) -> None:
    before = backups.contents()
    with backups.table_locked() as backup:
        backup.send_signal(signal.SIGTERM)
        assert backup.wait(timeout=60) != 0
        assert backups.contents() == before
    backup.communicate(timeout=60)
    assert "backup failed: " in backups.log()[-1]


def test_a_backup_of_a_database_without_a_table_is_not_good(backups: Backups) -> None:
    backups.stack.sql("owner", "ALTER TABLE client RENAME TO customer")
    try:
        file = backups.take()
    finally:
        backups.stack.sql("owner", "ALTER TABLE customer RENAME TO client")
    refused = backups.script("backup.sh", "--verify", file, check=False)
    assert refused.returncode == 1
    assert refused.stderr.rstrip().endswith(
        "It lacks tables, since the database had been changed when it was made: client"
    )
    backups.script("backup.sh", "--verify", backups.take())


def test_a_hook_that_hangs_is_ended_with_its_children_and_holds_nothing_up(backups: Backups, tmp_path: Path) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "10-hangs").write_text(f"#!/bin/sh\nsleep 601 &\necho $! >{tmp_path}/child\nwait\n")
    (hooks / "20-leaves").write_text(f"#!/bin/sh\nsetsid sleep 602 &\necho $! >{tmp_path}/left\n")
    for hook in hooks.iterdir():
        hook.chmod(0o755)
    try:
        with backups.settings(KADUN_BACKUP_HOOKS=str(hooks), KADUN_BACKUP_HOOK_SECONDS="2"):
            done = backups.script("backup.sh", check=False)
        assert done.returncode == 1
        assert "10-hangs (2 秒内未结束 not done within 2 s)\n" in done.stderr
        assert not is_alive(int((tmp_path / "child").read_text()))
        assert is_alive(int((tmp_path / "left").read_text())), "what a program leaves running is its own affair"
    finally:
        os.kill(int((tmp_path / "left").read_text()), signal.SIGKILL)
        (backups.folder / "last-away").unlink(missing_ok=True)


def test_the_webhook_is_told_and_one_that_is_away_harms_nothing(backups: Backups, webhook: Webhook) -> None:
    with backups.settings(KADUN_BACKUP_WEBHOOK=f"{webhook.url}a-secret-token"):
        file = backups.take()
        with backups.settings(KADUN_BACKUP_KEEP_DAILY='7"\\'):
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
