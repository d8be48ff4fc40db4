"""scripts/restore.sh: a backup taken under load is restored into a stack that never ran."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import signature

from tests.support.archives import rewritten, signed_by, strangers_ring, unsigned
from tests.support.backups import FAULTS, Activations, Backups, damage, fill
from tests.support.service import wait_for
from tests.support.stack import Stack, run

pytestmark = [pytest.mark.containers, pytest.mark.long]

TABLES = ("card", "client")
FAILS_AFTERWARDS = """#!/bin/bash
# Replaces docker: one command is carried out, and the script is told that it failed.
[[ "$*" == {when} && ! -e {folder}/done ]] || exec {docker} "$@"
{docker} "$@" >/dev/null || exit
touch {folder}/done
until [[ -e {folder}/go ]]; do read -rt 0.05 <> <(:) || :; done
exit 1
"""
COMMANDS = {"the exchange": "*'RENAME TO'*before_restore*", "the start": "'compose up --detach'"}


HEALTHCHECK = ("python", "-m", "app", "healthcheck")


@dataclass
class Servers:
    """A stack that serves, and an empty one into which its backups are restored."""

    old: Backups
    new: Backups
    backup: Path
    acknowledged: list[str]

    def restore(self, file: Path, *options: str | Path) -> str:
        """Return what restore.sh prints on the new server."""
        return str(self.new.script("restore.sh", *options, file).stdout)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    old, new = Stack(tmp_path_factory.mktemp("old")), Stack(tmp_path_factory.mktemp("new"))
    try:
        for stack in (old, new):
            stack.init_anew("localhost")
            with (stack.folder / ".env").open("a") as settings:
                settings.write("KADUN_BACKUP_RECIPIENT=none\n")  # so that tests can take backups apart
        with (old.folder / ".env").open("a") as settings:
            settings.write("KADUN_RATE=10000\nKADUN_BURST=10000\n")
        old.up()
        fill(old, 5000)
        cards = old.sql("owner", "SELECT id FROM card").split()
        backups = Backups(old)
        with Activations(old, cards) as customers:
            wait_for(lambda: len(customers.acknowledged) >= 40)
            acknowledged = list(customers.acknowledged)
            backup = backups.take()
            wait_for(lambda: len(customers.acknowledged) >= len(acknowledged) + 40)
        yield Servers(backups, Backups(new), backup, acknowledged)
    finally:
        old.remove()
        new.remove()


@pytest.fixture(scope="module")
def restored(servers: Servers) -> Servers:
    """Restore for the first time, into a stack in which `docker compose up` never ran."""
    (servers.new.stack.folder / "data/postgres").rmdir()  # as if what was in it had been moved away
    kid = signature.fingerprint(servers.old.stack.folder / "data/keys/keyring.json")
    for options, said in (
        ((), f"holds no usable signing keys: if you have a copy, put it back first. It is signed by key {kid}"),
        (("--fingerprint", kid), "put data/keys/ and secrets/kernal_data_key back first"),
    ):
        refused = servers.new.script("restore.sh", servers.backup, *options, check=False)
        assert refused.returncode == 1
        assert said in refused.stderr
    for name in ("data/keys", "secrets/kernal_data_key"):
        run("cp", "-aT", servers.old.stack.folder / name, servers.new.stack.folder / name)
    said = servers.restore(servers.backup)
    replaced = said.index("and holds 5000 cards; the present database holds 0\n")
    assert replaced < said.index("Starting") < said.index("已恢复 restored")
    assert databases(servers.new) == {"kadun"}
    return servers


def rows(backups: Backups, table: str) -> list[str]:
    return backups.stack.sql("owner", f"COPY (SELECT * FROM {table} ORDER BY id) TO STDOUT").splitlines()  # noqa: S608


def rows_in(backups: Backups, file: Path, table: str) -> list[str]:
    """Return the rows of a table in a backup's dump."""
    command = (
        "docker",
        "compose",
        "exec",
        "-T",
        "database",
        "pg_restore",
        "--data-only",
        f"--table={table}",
        "-f",
        "-",
    )
    dump = subprocess.run(["tar", "-xOf", file, "database.dump"], capture_output=True, check=True).stdout
    done = subprocess.run(
        command, cwd=backups.stack.folder, env=backups.environment, input=dump, capture_output=True, check=True
    )
    lines = done.stdout.decode().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("COPY "))
    return lines[start + 1 : lines.index("\\.")]


def databases(backups: Backups) -> set[str]:
    return set(backups.stack.sql("owner", "SELECT datname FROM pg_database WHERE datname LIKE 'kadun%'").split())


def manifest(file: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(run("tar", "-xOf", file, "manifest.json").stdout)
    return read


def test_every_activation_acknowledged_before_the_backup_is_restored(restored: Servers) -> None:
    activated = set(restored.new.stack.sql("owner", "SELECT id FROM card WHERE is_activated").split())
    assert len(restored.acknowledged) >= 40
    assert activated >= set(restored.acknowledged)
    bound = set(restored.new.stack.sql("owner", "SELECT card_id FROM client").split())
    assert bound == activated
    journalled = set(restored.new.stack.sql("owner", "SELECT card_id FROM event WHERE kind = 'activated'").split())
    assert journalled == activated
    serving = restored.old.stack.sql("owner", "SELECT count(*) FROM card WHERE is_activated")
    assert int(serving) > len(activated), "the backup was taken under load"


@pytest.mark.parametrize("table", TABLES)
def test_the_tables_are_the_dumps_row_for_row(restored: Servers, table: str) -> None:
    dumped = rows_in(restored.old, restored.backup, table)
    assert len(dumped) >= 40
    assert rows(restored.new, table) == sorted(dumped)


def test_a_customer_is_still_bound(restored: Servers) -> None:
    card = restored.acknowledged[0]
    assert restored.new.stack.verify(card, f"pc of {card}")["code"] == "OK"


def test_the_restored_service_has_its_rights_and_no_more(restored: Servers) -> None:
    assert restored.new.take().exists()
    for statement in ("DROP TABLE card", "CREATE TABLE mine ()", "UPDATE event SET kind = 'x'"):
        refused = restored.new.stack.as_role("app", "psql", "-X", "-c", statement, check=False)
        assert refused.returncode != 0, statement


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_backup_is_refused(restored: Servers, tmp_path: Path, fault: str) -> None:
    file = Path(shutil.copy(restored.backup, tmp_path))
    damage(file, fault)
    before = restored.new.stack.inspect("app")["State"]["StartedAt"], databases(restored.new)
    for script in ("verify-backup.sh", "restore.sh"):
        restored.new.refused(script, file, says=str(file))
    assert (restored.new.stack.inspect("app")["State"]["StartedAt"], databases(restored.new)) == before


def test_a_backup_whose_rows_are_not_those_of_its_manifest_is_refused(restored: Servers, tmp_path: Path) -> None:
    altered, file = with_another_client(restored.backup), tmp_path / "altered.tar"
    ring = strangers_ring(tmp_path)
    for script, content, options in (
        ("verify-backup.sh", unsigned(altered), ("--accept-unsigned",)),
        ("restore.sh", signed_by(altered, ring), ("--fingerprint", signature.fingerprint(ring))),
    ):
        file.write_bytes(content)
        refused = restored.new.script(script, *options, file, check=False)
        assert refused.returncode == 1
        assert "What was restored differs from what was dumped: table client" in refused.stderr


def with_another_client(backup: Path) -> bytes:
    """Return a backup whose manifest lists one client more, as its signature does not."""

    def add(manifest: dict[str, Any]) -> None:
        manifest["tables"]["client"][0] += 1

    return rewritten(backup.read_bytes(), add)


def test_a_backup_that_somebody_has_replaced_is_refused(restored: Servers, tmp_path: Path) -> None:
    content, file, ring = restored.backup.read_bytes(), tmp_path / "replaced.tar", strangers_ring(tmp_path)
    kid = signature.fingerprint(ring)
    before = restored.new.stack.inspect("app")["State"]["StartedAt"], databases(restored.new)
    for forged, said in (
        (with_another_client(restored.backup), "somebody changed it after it was signed, or forged the signature"),
        (unsigned(content), "It is not signed, so nothing shows who made it"),
        (signed_by(content, ring), f"It is signed by key {kid}, which is not one of this server's"),
    ):
        file.write_bytes(forged)
        for script in ("verify-backup.sh", "restore.sh"):
            restored.new.refused(script, file, says=said)
    assert (restored.new.stack.inspect("app")["State"]["StartedAt"], databases(restored.new)) == before


def test_a_backup_without_a_common_card_is_taken_for_another_installations(restored: Servers) -> None:
    stack, file = restored.new.stack, restored.new.take()
    there, before = {table: rows(restored.new, table) for table in TABLES}, databases(restored.new)
    assert "restored: " in restored.new.script("restore.sh", file).stdout, "with cards in common"
    stack.sql(
        "owner",
        "UPDATE card SET is_activated = NOT is_activated,"
        " activated_at = CASE WHEN is_activated THEN NULL ELSE now() END,"
        " expires_at = CASE WHEN is_activated THEN NULL ELSE now() + validity END",
    )
    restored.new.refused("restore.sh", "--no-safety-dump", file, says="no activated card in common")
    restored.new.script("restore.sh", "--no-safety-dump", "--other-cards", file)
    assert {table: rows(restored.new, table) for table in TABLES} == there
    restored.new.script("restore.sh", "--drop-old")
    assert databases(restored.new) == before


def test_an_encrypted_backup_is_restored_and_the_old_database_kept_until_dropped(
    restored: Servers, tmp_path: Path
) -> None:
    identity = tmp_path / "identity"
    run("age-keygen", "-o", identity)
    with restored.old.settings(KADUN_BACKUP_RECIPIENT=run("age-keygen", "-y", identity).stdout.strip()):
        file = restored.old.take()
    there = {table: rows(restored.new, table) for table in TABLES}
    restored.new.refused("restore.sh", file, says="--identity")
    with restored.new.settings(KADUN_BACKUP_RECIPIENT=run("age-keygen", "-y", identity).stdout.strip()):
        said = restored.restore(file, "--identity", identity)
    for table in TABLES:
        assert rows(restored.new, table) == rows(restored.old, table)
        assert rows(restored.new, table) != there[table]
    (kept,) = databases(restored.new) - {"kadun"}
    assert kept in said
    assert restored.new.stack.sql("owner", "SELECT count(*) FROM card", kept) == "5000"
    (safety,) = restored.new.folder.glob("kadun-before-restore-*.tar.age")
    assert f"encrypted: {safety}" in said
    beside = {file.name for file in restored.new.folder.glob(f"{safety.name.partition('.')[0]}.*")}
    assert beside == {safety.name, f"{safety.name}.sha256"}, "none in clear"
    assert "card 5000" in restored.new.script("verify-backup.sh", "--identity", identity, safety).stdout
    with vacuum_under_way(restored.new.stack, kept):
        assert kept in restored.new.script("restore.sh", "--drop-old").stdout
    assert databases(restored.new) == {"kadun"}


@contextmanager
def vacuum_under_way(stack: Stack, database: str) -> Iterator[None]:
    """PostgreSQL itself is vacuuming a table of a database, and will be for minutes."""

    def execute(statement: str, where: str = "postgres") -> str:
        words = ("psql", "-qXtA", "-U", "postgres", "-d", where, "-c", statement)
        return stack.compose("exec", "-T", "database", *words).stdout.strip()

    slow = ("insert_threshold = 0", "cost_delay = 100", "cost_limit = 1")
    parameters = ", ".join(f"autovacuum_vacuum_{parameter}" for parameter in slow)
    execute(f"CREATE TABLE slow (n) WITH ({parameters}) AS SELECT generate_series(1, 500000)", database)
    execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
    execute("SELECT pg_reload_conf()")
    try:
        vacuums = f"SELECT FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND datname = '{database}'"
        wait_for(lambda: execute(f"SELECT EXISTS({vacuums})") == "t")
        yield
    finally:
        execute("ALTER SYSTEM RESET autovacuum_naptime")
        execute("SELECT pg_reload_conf()")


def test_by_default_restores_need_no_other_identity_than_that_on_the_server(restored: Servers) -> None:
    before = {table: rows(restored.new, table) for table in TABLES}
    with restored.new.settings(KADUN_BACKUP_RECIPIENT=""):
        file = restored.new.take()
        assert file.name.endswith(".tar.age")
        there = set(restored.new.folder.glob("kadun-before-restore-*"))
        restored.new.script("restore.sh", file)
        made = set(restored.new.folder.glob("kadun-before-restore-*")) - there
        assert {"".join(one.suffixes) for one in made} == {".tar.age", ".tar.age.sha256"}
        (safety,) = (one for one in made if one.suffix == ".age")
        restored.new.script("restore.sh", "--no-safety-dump", safety)
    assert {table: rows(restored.new, table) for table in TABLES} == before
    restored.new.script("restore.sh", "--drop-old")


def test_a_backup_that_the_service_cannot_start_on_leaves_the_old_database_serving(restored: Servers) -> None:
    file = with_schema(restored.old, "0000_")  # its tables are there, so that the migration fails
    before = {table: rows(restored.new, table) for table in TABLES}
    done = restored.new.script("restore.sh", file, check=False)
    assert done.returncode == 1
    assert "The service is not ready on what was restored: migrate: " in done.stderr
    (kept,) = databases(restored.new) - {"kadun"}
    assert f"What was restored is kept as {kept}, with 0 journal entries more" in done.stderr
    assert {table: rows(restored.new, table) for table in TABLES} == before
    card = restored.acknowledged[1]
    assert restored.new.stack.verify(card, f"pc of {card}")["code"] == "OK"
    assert kept in restored.new.script("restore.sh", "--drop-old").stdout
    assert databases(restored.new) == {"kadun"}


@pytest.mark.parametrize("what", COMMANDS)
def test_an_interrupted_switch_is_undone_and_keeps_acknowledged_activations(
    restored: Servers, tmp_path: Path, what: str
) -> None:
    stack = restored.new.stack
    before = {table: rows(restored.new, table) for table in TABLES}
    docker = run("sh", "-c", "command -v docker").stdout.strip()
    (tmp_path / "docker").write_text(FAILS_AFTERWARDS.format(docker=docker, folder=tmp_path, when=COMMANDS[what]))
    (tmp_path / "docker").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    restoring = subprocess.Popen(
        (stack.folder / "scripts/restore.sh", "--no-safety-dump", restored.backup),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=restored.new.environment | path,
    )  # fmt: skip
    wait_for(lambda: (tmp_path / "done").exists() or restoring.poll() is not None, 300)
    acknowledged = []
    if what == "the start":
        wait_for(lambda: stack.compose("exec", "-T", "app", *HEALTHCHECK, check=False).returncode == 0, 300)
        acknowledged = stack.sql("owner", "SELECT id FROM card WHERE NOT is_activated LIMIT 2").split()
        assert [stack.verify(card, f"pc of {card}")["code"] for card in acknowledged] == ["OK", "OK"]
    (tmp_path / "go").touch()
    _, said = restoring.communicate(timeout=300)
    assert restoring.returncode == 1
    assert "Nothing was restored: the old database is in its place" in said
    (kept,) = databases(restored.new) - {"kadun"}
    events = int(stack.sql("owner", "SELECT count(*) FROM event", kept))
    more = events - manifest(restored.backup)["tables"]["event"][0]
    assert more >= len(acknowledged)
    assert f"is kept as {kept}, with {more} journal entries more" in said
    assert set(acknowledged) <= set(stack.sql("owner", "SELECT id FROM card WHERE is_activated", kept).split())
    assert {table: rows(restored.new, table) for table in TABLES} == before
    card = restored.acknowledged[1]
    assert stack.verify(card, f"pc of {card}")["code"] == "OK"  # the engine's own report may be half a minute old
    restored.new.script("restore.sh", "--drop-old")


def test_a_restore_that_is_ended_halfway_changes_nothing(restored: Servers) -> None:
    before = {table: rows(restored.new, table) for table in TABLES}
    restoring = restored.new.start("restore.sh", "--no-safety-dump", str(restored.backup))
    wait_for(lambda: any(name.startswith("kadun_restoring_") for name in databases(restored.new)))
    restoring.terminate()
    said = restoring.communicate(timeout=300)
    assert restoring.returncode not in {0, 1}, said
    assert databases(restored.new) == {"kadun"}
    assert {table: rows(restored.new, table) for table in TABLES} == before


def test_a_backup_of_a_newer_program_is_refused(restored: Servers) -> None:
    file = with_schema(restored.old, "9999_")
    refused = restored.new.script("restore.sh", "--no-safety-dump", file, check=False)
    assert refused.returncode == 1
    assert re.search(r"schema 9999_\w+ is newer than this program's", refused.stderr)
    assert databases(restored.new) == {"kadun"}


def test_a_backup_of_an_older_program_is_migrated_at_the_start(restored: Servers, tmp_path: Path) -> None:
    stack, file = restored.old.stack, tmp_path / "old.dump"
    stack.sql("owner", "CREATE DATABASE kadun_old", "postgres")
    history = stack.as_role("owner", "pg_dump", "--table=schema_migration", "--no-privileges").stdout
    stack.sql("owner", f"{history}\nUPDATE public.schema_migration SET name = '0000_' || name", "kadun_old")
    command = ("docker", "compose", "exec", "-T", "database", "as-role", "owner", "--database", "kadun_old")
    with file.open("wb") as dump:
        subprocess.run([*command, "pg_dump", "-Fc"], stdout=dump, cwd=stack.folder, check=True)
    restored.new.refused("restore.sh", file, says="A bare dump is not signed, so nothing shows who made it")
    done = restored.new.script("restore.sh", "--accept-unsigned", file)
    assert "0000_" in done.stdout
    assert "the rows are not compared" in done.stderr
    assert restored.new.stack.sql("owner", "SELECT count(*) FROM card") == "0"
    assert restored.new.stack.new_card()


def test_licensed_files_without_their_bytes_are_named(restored: Servers, tmp_path: Path) -> None:
    (tmp_path / "core.bin").write_bytes(b"core")
    restored.old.script("cardctl", "file", "add", tmp_path / "core.bin")
    done = restored.new.script("restore.sh", restored.old.take())
    assert "The bytes of these files are not in data/files" in done.stderr
    assert done.stderr.rstrip().endswith(": core.bin")


def with_schema(backups: Backups, prefix: str) -> Path:
    """A backup of a schema whose name begins so."""
    backups.stack.sql("owner", f"UPDATE schema_migration SET name = '{prefix}' || name")  # noqa: S608
    try:
        return backups.take()
    finally:
        backups.stack.sql("owner", f"UPDATE schema_migration SET name = substr(name, {len(prefix) + 1})")  # noqa: S608
