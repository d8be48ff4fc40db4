"""scripts/restore.sh: a backup taken under load, damaged, forged, interrupted, and of an older program."""
# Owns run-restore.

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.hosts.archives import Members, repacked
from tests.support.hosts.restored import Restored, rows
from tests.support.hosts.stack import run
from tests.support.services.service import wait_for

pytestmark = pytest.mark.xdist_group("restores")

FAILS_AFTERWARDS = """#!/bin/bash
# Replaces docker: the start is carried out, and the script is told that it failed.
[[ "$*" == 'compose up --detach' && ! -e {folder}/done ]] || exec {docker} "$@"
{docker} "$@" >/dev/null || exit
touch {folder}/done
until [[ -e {folder}/go ]]; do read -rt 0.05 <> <(:) || :; done
exit 1
"""
HANGS = """#!/bin/bash
# Replaces docker: the start after the exchange of the databases is never carried out.
[[ "$*" == 'compose up --detach' ]] || exec {docker} "$@"
touch {folder}/here
read -rt 600 <> <(:)
"""
HEALTHCHECK = ("app", "python", "-m", "app", "healthcheck")


def state(restored: Restored) -> tuple[str, set[str]]:
    return restored.server.stack.inspect("app")["State"]["StartedAt"], restored.databases()


def test_a_backup_taken_under_load_is_restored_row_for_row_into_a_stack_that_never_ran(restored: Restored) -> None:
    stack = restored.server.stack
    assert restored.rows == restored.dumped
    activated = set(stack.sql("owner", "SELECT id FROM card WHERE is_activated").split())
    assert len(restored.acknowledged) >= 40
    assert activated >= set(restored.acknowledged)
    assert set(stack.sql("owner", "SELECT card_id FROM client").split()) == activated
    journalled = set(stack.sql("owner", "SELECT card_id FROM event WHERE kind = 'activated'").split())
    assert journalled == activated
    assert restored.activated_later > 0, "the backup was taken under load"
    assert restored.serves(restored.acknowledged[0])
    assert restored.server.take().exists()
    for statement in ("DROP TABLE card", "CREATE TABLE mine ()", "UPDATE event SET kind = 'x'"):
        refused = stack.as_role("app", "psql", "-X", "-c", statement, check=False)
        assert refused.returncode != 0, statement


def with_another_client(files: Members) -> None:
    """Say in the contents that there is one client more than in the dump."""
    (count,) = re.findall(rb"^table client (\d+) ", files["contents"], re.MULTILINE)
    files["contents"] = files["contents"].replace(b"table client " + count, b"table client %d" % (int(count) + 1))


def without_a_table(files: Members) -> None:
    files["contents"] = re.sub(rb"(?m)^table client .*\n", b"", files["contents"])


def with_a_command(files: Members) -> None:
    files["contents"] = re.sub(rb"(?m)^bytes .*", b"bytes a[$(touch /tmp/kadun-was-here)]", files["contents"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (with_another_client, "What was restored differs from what was dumped: table client"),
        (without_a_table, "It lacks tables, since the database had been changed when it was made: client"),
        (lambda files: files.pop("database.dump"), "it lacks the database"),
        (lambda files: files.update({"key-ids": b"another\n"}), "none of its signing keys is this server's"),
        (
            lambda files: files.update(contents=files["contents"].replace(b"schema 00", b"schema 99")),
            "is newer than this",
        ),
        (with_a_command, "not a number: "),
    ],
    ids=["altered", "a table less", "no dump", "another service's", "newer", "a command"],
)
def test_an_archive_with_other_content_is_refused_and_changes_nothing(
    restored: Restored, tmp_path: Path, change: Callable[[Members], object], says: str
) -> None:
    file, before = tmp_path / "changed.tar", state(restored)
    file.write_bytes(repacked(restored.plain(), change))
    restored.server.refused("restore.sh", "--no-safety-dump", file, says=says)
    assert state(restored) == before
    assert not Path("/tmp/kadun-was-here").exists()


def test_a_damaged_cut_foreign_or_empty_archive_is_refused_and_changes_nothing(
    restored: Restored, tmp_path: Path
) -> None:
    before, whole, encrypted = state(restored), restored.backup.read_bytes(), tmp_path / "kadun.tar.age"
    flipped = bytearray(whole)
    flipped[len(whole) * 3 // 4] ^= 1
    plain = restored.plain()
    in_clear = tmp_path / "kadun.tar"
    for file, content in (
        (encrypted, flipped), (encrypted, whole[: len(whole) // 2]), (encrypted, plain), (encrypted, b""),
        (in_clear, plain[: len(plain) // 2]), (in_clear, b"PK\3\4 no tar at all"),
    ):  # fmt: skip
        file.write_bytes(content)
        restored.server.refused("restore.sh", file, says=str(file))
        if content is flipped:  # they open an archive by the same function
            restored.server.refused("backup.sh", "--verify", file, says=str(file))
    assert state(restored) == before


def test_a_switch_interrupted_at_the_start_is_undone_and_keeps_acknowledged_activations(
    restored: Restored, tmp_path: Path
) -> None:
    stack, before = restored.server.stack, rows(restored.server)
    docker = run("sh", "-c", "command -v docker").stdout.strip()
    (tmp_path / "docker").write_text(FAILS_AFTERWARDS.format(docker=docker, folder=tmp_path))
    (tmp_path / "docker").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    restoring = subprocess.Popen(
        (stack.folder / "scripts/restore.sh", "--no-safety-dump", restored.backup),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=restored.server.environment | path,
    )  # fmt: skip
    wait_for(lambda: (tmp_path / "done").exists() or restoring.poll() is not None, 300)
    wait_for(lambda: stack.execute(*HEALTHCHECK, check=False).returncode == 0, 300)
    acknowledged = stack.sql("owner", "SELECT id FROM card WHERE NOT is_activated LIMIT 2").split()
    assert [restored.serves(card) for card in acknowledged] == [True, True]
    (tmp_path / "go").touch()
    _, said = restoring.communicate(timeout=300)
    assert restoring.returncode == 1
    assert "Nothing was restored: the old database is in its place" in said
    (kept,) = restored.databases() - {"kadun"}
    (more,) = re.findall(rf"is kept as {kept}, with (\d+) journal entries more", said)
    assert int(more) >= len(acknowledged)
    assert set(acknowledged) <= set(stack.sql("owner", "SELECT id FROM card WHERE is_activated", kept).split())
    assert rows(restored.server) == before
    assert restored.serves(restored.acknowledged[1])  # the engine's own report may be half a minute old
    restored.server.script("restore.sh", "--drop-old")


def test_a_restore_killed_after_the_exchange_is_finished_by_the_next_run(restored: Restored, tmp_path: Path) -> None:
    server, backup = restored.server, restored.server.take()
    before = rows(server)
    docker = run("sh", "-c", "command -v docker").stdout.strip()
    (tmp_path / "docker").write_text(HANGS.format(docker=docker, folder=tmp_path))
    (tmp_path / "docker").chmod(0o755)
    restoring = subprocess.Popen(
        (server.stack.folder / "scripts/restore.sh", "--no-safety-dump", backup),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=server.environment | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    wait_for(lambda: (tmp_path / "here").exists() or restoring.poll() is not None, 300)
    os.killpg(restoring.pid, signal.SIGKILL)
    restoring.communicate()
    said = server.script("restore.sh", "--drop-old").stdout
    assert "An earlier restore was interrupted after the databases changed places: finishing it" in said
    assert rows(server) == before
    assert restored.serves(restored.acknowledged[1])
    (kept,) = restored.databases() - {"kadun"}
    assert f"The old database is kept as {kept}" in said
    assert kept in server.script("restore.sh", "--drop-old").stdout


def test_far_fewer_activated_cards_are_asked_about_and_the_safety_backup_brings_the_rows_back(
    restored: Restored,
) -> None:
    server, there = restored.server, set(restored.server.folder.glob("kadun-before-restore-*"))
    server.stack.sql("owner", "CREATE TABLE aside AS SELECT id FROM card WHERE is_activated")
    halve = "UPDATE card SET is_activated = {}, activated_at = {}, expires_at = {} WHERE id IN (SELECT id FROM aside)"
    clients = server.stack.sql("owner", "SELECT count(*) FROM client")
    server.stack.sql("owner", "CREATE TABLE clients AS SELECT * FROM client; DELETE FROM client")
    server.stack.sql("owner", halve.format("false", "NULL", "NULL"))
    few = server.take()
    server.stack.sql("owner", halve.format("true", "now()", "now() + validity"))
    server.stack.sql("owner", "INSERT INTO client SELECT * FROM clients")
    before = rows(server)
    server.refused("restore.sh", "--no-safety-dump", few, says="The backup has only 0 activated cards")
    server.script("restore.sh", "--yes", few)
    assert server.stack.sql("owner", "SELECT count(*) FROM client") == "0" != clients
    (safety,) = set(server.folder.glob("kadun-before-restore-*")) - there
    server.script("restore.sh", "--no-safety-dump", safety)
    assert rows(server) == before
    server.stack.sql("owner", "DROP TABLE aside, clients")
    server.script("restore.sh", "--drop-old")
    assert restored.databases() == {"kadun"}
