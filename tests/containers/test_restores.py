"""scripts/restore.sh: a backup taken under load, damaged, forged, interrupted, and of an older program."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import signature

from tests.support.archives import rewritten, signed_by, strangers_ring, unsigned
from tests.support.backups import flip_a_bit
from tests.support.restored import Restored, rows
from tests.support.service import wait_for
from tests.support.stack import Stack, run

pytestmark = pytest.mark.xdist_group("restores")

FAILS_AFTERWARDS = """#!/bin/bash
# Replaces docker: the start is carried out, and the script is told that it failed.
[[ "$*" == 'compose up --detach' && ! -e {folder}/done ]] || exec {docker} "$@"
{docker} "$@" >/dev/null || exit
touch {folder}/done
until [[ -e {folder}/go ]]; do read -rt 0.05 <> <(:) || :; done
exit 1
"""
HEALTHCHECK = ("exec", "-T", "app", "python", "-m", "app", "healthcheck")


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


def with_another_client(backup: bytes) -> bytes:
    """Return a backup whose manifest lists one client more, as its signature does not."""

    def add(manifest: dict[str, Any]) -> None:
        manifest["tables"]["client"][0] += 1

    return rewritten(backup, add)


def test_a_damaged_or_forged_backup_is_refused_and_changes_nothing(restored: Restored, tmp_path: Path) -> None:
    plain, ring, before = restored.plain(), strangers_ring(tmp_path), state(restored)
    file = tmp_path / restored.backup.name
    file.write_bytes(restored.backup.read_bytes())
    flip_a_bit(file)
    restored.server.refused("restore.sh", file, says=str(file))
    restored.server.refused("verify-backup.sh", file, says=str(file))
    forged = tmp_path / "forged.tar"
    for content, says in (
        (with_another_client(plain), "somebody changed it after it was signed, or forged the signature"),
        (unsigned(plain), "It is not signed, so nothing shows who made it"),
        (signed_by(plain, ring), f"signed by key {signature.fingerprint(ring)}, which is not one of this server's"),
    ):
        forged.write_bytes(content)
        restored.server.refused("restore.sh", forged, says=says)
    assert state(restored) == before


def test_rows_that_are_not_those_of_the_manifest_are_refused(restored: Restored, tmp_path: Path) -> None:
    altered, file, before = with_another_client(restored.plain()), tmp_path / "altered.tar", state(restored)
    ring = strangers_ring(tmp_path)
    for script, content, options in (
        ("verify-backup.sh", unsigned(altered), ("--accept-unsigned",)),
        ("restore.sh", signed_by(altered, ring), ("--fingerprint", signature.fingerprint(ring))),
    ):
        file.write_bytes(content)
        refused = restored.server.script(script, *options, file, check=False)
        assert refused.returncode == 1, script
        assert "What was restored differs from what was dumped: table client" in refused.stderr
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
    wait_for(lambda: stack.compose(*HEALTHCHECK, check=False).returncode == 0, 300)
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


def test_an_older_programs_dump_is_migrated_and_the_safety_backup_brings_the_rows_back(
    restored: Restored, tmp_path: Path
) -> None:
    server, stack, before = restored.server, restored.server.stack, rows(restored.server)
    file, there = older_dump(stack, tmp_path), set(server.folder.glob("kadun-before-restore-*"))
    server.refused("restore.sh", file, says="A bare dump is not signed, so nothing shows who made it")
    done = server.script("restore.sh", "--accept-unsigned", file)
    assert "0000_" in done.stdout
    assert "the rows are not compared" in done.stderr
    assert stack.sql("owner", "SELECT count(*) FROM card") == "0"
    assert stack.new_card()
    (kept,) = restored.databases() - {"kadun"}
    assert stack.sql("owner", "SELECT count(*) FROM card", kept) == str(len(before["card"]))
    made = set(server.folder.glob("kadun-before-restore-*")) - there
    assert {"".join(one.suffixes) for one in made} == {".tar.age", ".tar.age.sha256"}, "none in clear"
    (safety,) = (one for one in made if one.suffix == ".age")
    server.script("restore.sh", "--no-safety-dump", safety)
    assert rows(server) == before
    assert kept in server.script("restore.sh", "--drop-old").stdout
    assert restored.databases() == {"kadun"}


def older_dump(stack: Stack, folder: Path) -> Path:
    """Return a dump of a program that knew no migration yet."""
    stack.sql("owner", "CREATE DATABASE older", "postgres")
    history = stack.as_role("owner", "pg_dump", "--table=schema_migration", "--no-privileges").stdout
    stack.sql("owner", f"{history}\nUPDATE public.schema_migration SET name = '0000_' || name", "older")
    command = ("docker", "compose", "exec", "-T", "database", "as-role", "owner", "--database", "older")
    with (folder / "old.dump").open("wb") as dump:
        subprocess.run([*command, "pg_dump", "-Fc"], stdout=dump, cwd=stack.folder, check=True)
    stack.sql("owner", "DROP DATABASE older", "postgres")
    return folder / "old.dump"
