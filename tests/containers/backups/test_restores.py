"""scripts/restore.sh: a backup taken under load, damaged, forged, interrupted, and one that the service cannot use."""
# Owns run-restore.

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.hosts.backups import Backups, Members, decrypted, members, repacked, standing_in
from tests.support.hosts.servers import CORE_DATA, Vendor
from tests.support.hosts.stack import run
from tests.support.licence.customers import Customers
from tests.support.services.service import wait_for

pytestmark = pytest.mark.xdist_group("restores")

TABLES = ("card", "client")
# What docker is told to do is carried out, and the script is told that it failed.
FAILS_AFTERWARDS = """
[[ ! -e {folder}/done ]] || exec {docker} "$@"
really "$@" >/dev/null || exit
touch {folder}/done
until [[ -e {folder}/go ]]; do read -rt 0.05 <> <(:) || :; done
exit 1
"""
START, EXCHANGE = "'compose up --detach'", "*'RENAME TO \"kadun_before_restore'*"
HEALTHCHECK = ("app", "python", "-m", "app", "healthcheck")


@dataclass(frozen=True)
class Restored:
    """A stack that never ran before a backup of the vendor's server was restored into it, which was taken under load.

    With the backup, and what was the case at that time.
    """

    server: Backups
    backup: Path
    acknowledged: list[str]  # the cards activated before the backup began
    activated_later: int  # how many more were before it ended, and after it
    rows: dict[str, list[str]]  # right after the first restore
    dumped: dict[str, list[str]]

    def plain(self) -> bytes:
        """Return the backup, decrypted."""
        return decrypted(self.backup, self.server.stack.folder / "secrets/backup_identity")

    def serves(self, card: str) -> bool:
        """Tell whether the customer of a card can open the program."""
        return bool(self.server.stack.verify(card, f"pc of {card}")["code"] == "OK")

    def databases(self) -> set[str]:
        """Return the names of the service's databases, those that were replaced included."""
        names = "SELECT datname FROM pg_database WHERE datname LIKE 'kadun%'"
        return set(self.server.stack.sql("owner", names).split())


def rows(server: Backups) -> dict[str, list[str]]:
    copy = "COPY (SELECT * FROM {} ORDER BY id) TO STDOUT"
    return {table: server.stack.sql("owner", copy.format(table)).splitlines() for table in TABLES}


def rows_in(server: Backups, plain: bytes, table: str) -> list[str]:
    """Return the rows of a table in a backup's dump."""
    dump = members(plain)["database.dump"]
    restore = ("pg_restore", "--data-only", f"--table={table}", "-f", "-")
    command = ("docker", "exec", "-i", f"{server.stack.project}-database-1", *restore)
    done = subprocess.run(command, input=dump, capture_output=True, check=True)
    lines = done.stdout.decode().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("COPY "))
    return sorted(lines[start + 1 : lines.index("\\.")])


@pytest.fixture(scope="module")
def restored(vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restored]:
    """Restore for the first time, into a stack in which `docker compose up` never ran."""
    old, new = Backups(vendor.stack), Backups(vendor.fresh_server(tmp_path_factory.mktemp("restored") / "new"))
    activated = "SELECT count(*) FROM card WHERE is_activated"
    try:
        cards = old.stack.sql("owner", "SELECT id FROM card WHERE NOT is_activated").split()
        with Customers(old.stack, cards, threads=3) as customers:
            customers.wait_for_more(40)
            acknowledged = list(customers.acknowledged)
            backup = old.take()
            customers.wait_for_more(40)
        assert customers.failures == []
        new.stack.init_anew("localhost")
        (new.stack.folder / "data/postgres").rmdir()  # as if what was in it had been moved away
        put_keys_back(vendor, new, backup)
        said = str(new.script("restore.sh", backup).stdout)
        present = said.index("the present database holds 0\n")
        assert present < said.index("Starting") < said.index("已恢复 restored")
        plain = decrypted(backup, new.stack.folder / "secrets/backup_identity")
        dumped = {table: rows_in(new, plain, table) for table in TABLES}
        here = rows(new)
        later = int(old.stack.sql("owner", activated)) - int(new.stack.sql("owner", activated))
        restored = Restored(new, backup, acknowledged, later, here, dumped)
        assert restored.databases() == {"kadun"}
        yield restored
    finally:
        new.stack.remove()


def put_keys_back(vendor: Vendor, new: Backups, backup: Path) -> None:
    """Put back what a vendor keeps elsewhere; without it each restore is refused."""
    old = vendor.stack
    for options, says in (
        ((), "name the identity that you keep with --identity FILE"),
        (("--identity", old.folder / "secrets/backup_identity"), "There are no signing keys here"),
    ):
        refused = new.script("restore.sh", backup, *options, check=False)
        assert refused.returncode == 1
        assert says in refused.stderr, refused.stderr
    for name in ("data/keys", "secrets/kernal_data_key", "secrets/sealing_key", "secrets/backup_identity"):
        run("cp", "-aT", old.folder / name, new.stack.folder / name)


def test_a_backup_taken_under_load_is_restored_row_for_row_into_a_stack_that_never_ran(
    restored: Restored, vendor: Vendor
) -> None:
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
    assert vendor.second.open_on(stack)["core"] == CORE_DATA
    assert restored.server.take().exists()
    for statement in ("DROP TABLE card", "CREATE TABLE mine ()", "UPDATE event SET kind = 'x'"):
        refused = stack.as_role("app", "psql", "-X", "-c", statement, check=False)
        assert refused.returncode != 0, statement


def with_another_client(files: Members) -> None:
    """Say in the contents that there is one client more than in the dump."""
    (count,) = re.findall(rb"^table client (\d+) ", files["contents"], re.MULTILINE)
    files["contents"] = files["contents"].replace(b"table client " + count, b"table client %d" % (int(count) + 1))


def contents_with(pattern: bytes, instead: bytes) -> Callable[[Members], None]:
    """Return a change of the contents."""
    return lambda files: files.update(contents=re.sub(pattern, instead, files["contents"]))


FORGED: dict[str, Callable[[Members], object]] = {
    "What was restored differs from what was dumped: table client": with_another_client,
    "It lacks tables, since the database had been changed when it was made: client":
        contents_with(rb"(?m)^table client .*\n", b""),
    "it lacks the database": lambda files: files.pop("database.dump"),
    "none of its signing keys is this server's": lambda files: files.update({"key-ids": b"another\n"}),
    "is newer than this": contents_with(rb"schema 00", rb"schema 99"),
    "not a number: ": contents_with(rb"(?m)^bytes .*", b"bytes a[$(touch /tmp/kadun-was-here)]"),
}  # fmt: skip
"""Other content of an archive, by what it is refused with."""


def test_a_forged_damaged_cut_foreign_or_empty_archive_is_refused_and_changes_nothing(
    restored: Restored, tmp_path: Path
) -> None:
    server, whole, plain = restored.server, restored.backup.read_bytes(), restored.plain()
    flipped = bytearray(whole)
    flipped[len(whole) * 3 // 4] ^= 1
    before = (server.stack.inspect("app")["State"]["StartedAt"], restored.databases())
    encrypted, in_clear = tmp_path / "kadun.tar.age", tmp_path / "kadun.tar"
    for says, change in FORGED.items():
        in_clear.write_bytes(repacked(plain, change))
        server.refused("restore.sh", "--no-safety-dump", in_clear, says=says)
    assert not Path("/tmp/kadun-was-here").exists()
    for file, content in (
        (encrypted, flipped), (encrypted, whole[: len(whole) // 2]), (encrypted, plain), (encrypted, b""),
        (in_clear, plain[: len(plain) // 2]), (in_clear, b"PK\3\4 no tar at all"),
    ):  # fmt: skip
        file.write_bytes(content)
        server.refused("restore.sh", file, says=str(file))
        if content is flipped:  # they open an archive by the same function
            server.refused("backup.sh", "--verify", file, says=str(file))
    assert (server.stack.inspect("app")["State"]["StartedAt"], restored.databases()) == before


@pytest.mark.parametrize("moment", [START, pytest.param(EXCHANGE, marks=pytest.mark.nightly)])
def test_an_interrupted_switch_is_undone_and_keeps_acknowledged_activations(
    restored: Restored, tmp_path: Path, moment: str
) -> None:
    stack, before, acknowledged = restored.server.stack, rows(restored.server), list[str]()
    docker = run("sh", "-c", "command -v docker").stdout.strip()
    path = standing_in(tmp_path, "docker", moment, FAILS_AFTERWARDS.format(folder=tmp_path, docker=docker))
    restoring = restored.server.start("restore.sh", "--no-safety-dump", restored.backup, PATH=path)
    wait_for(lambda: (tmp_path / "done").exists() or restoring.poll() is not None, 300)
    if moment == START:
        wait_for(lambda: stack.execute(*HEALTHCHECK, check=False).returncode == 0, 300)
        acknowledged = stack.sql("owner", "SELECT id FROM card WHERE NOT is_activated LIMIT 2").split()
        assert [restored.serves(card) for card in acknowledged] == [True, True]
    (tmp_path / "go").touch()
    _, said = restoring.communicate(timeout=300)
    assert restoring.returncode == 1
    assert "Nothing was restored: the old database is in its place" in said
    assert rows(restored.server) == before
    assert restored.serves(restored.acknowledged[1])  # the engine's own report may be half a minute old
    if acknowledged:
        (kept,) = restored.databases() - {"kadun"}
        (more,) = re.findall(rf"is kept as {kept}, with (\d+) journal entries more", said)
        assert int(more) >= len(acknowledged)
        assert set(acknowledged) <= set(stack.sql("owner", "SELECT id FROM card WHERE is_activated", kept).split())
    restored.server.script("restore.sh", "--drop-old")


def test_a_restore_killed_after_the_exchange_is_finished_by_the_next_run(restored: Restored, tmp_path: Path) -> None:
    server, backup = restored.server, restored.server.take()
    before, hangs = rows(server), f"touch {tmp_path}/here; read -rt 600 <> <(:)"
    path = standing_in(tmp_path, "docker", START, hangs)
    restoring = server.start("restore.sh", "--no-safety-dump", backup, PATH=path)
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


@pytest.mark.nightly
def test_a_backup_that_the_service_cannot_start_on_leaves_the_old_database_serving(restored: Restored) -> None:
    server, before = restored.server, rows(restored.server)
    server.stack.sql("owner", "UPDATE schema_migration SET name = '0000_' || name")
    try:
        file = server.take()  # its tables are there: the migration fails
    finally:
        server.stack.sql("owner", "UPDATE schema_migration SET name = substr(name, 6)")
    done = server.script("restore.sh", file, check=False)
    assert done.returncode == 1
    assert "The service is not ready on what was restored: migrate: " in done.stderr
    (kept,) = restored.databases() - {"kadun"}
    assert f"What was restored is kept as {kept}, with 0 journal entries more" in done.stderr
    assert rows(server) == before
    assert restored.serves(restored.acknowledged[1])
    assert kept in server.script("restore.sh", "--drop-old").stdout
    assert restored.databases() == {"kadun"}


@pytest.mark.nightly
def test_a_database_that_postgresql_is_vacuuming_is_dropped(restored: Restored) -> None:
    """PostgreSQL refuses `DROP DATABASE … WITH (FORCE)` then, which ends no process of its own."""
    restored.server.script("restore.sh", "--no-safety-dump", restored.server.take())
    (kept,) = restored.databases() - {"kadun"}

    def execute(statement: str, where: str = "postgres") -> str:
        words = ("psql", "-qXtA", "-U", "postgres", "-d", where, "-c", statement)
        return restored.server.stack.execute("database", *words).stdout.strip()

    slow = (
        "autovacuum_vacuum_insert_threshold = 0, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1"
    )
    execute(f"CREATE TABLE slow (n) WITH ({slow}) AS SELECT generate_series(1, 500000)", kept)
    execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
    execute("SELECT pg_reload_conf()")
    try:
        vacuums = f"backend_type = 'autovacuum worker' AND datname = '{kept}'"
        wait_for(lambda: execute(f"SELECT count(*) > 0 FROM pg_stat_activity WHERE {vacuums}") == "t")  # noqa: S608
        assert kept in restored.server.script("restore.sh", "--drop-old").stdout
    finally:
        execute("ALTER SYSTEM RESET autovacuum_naptime")
        execute("SELECT pg_reload_conf()")
    assert restored.databases() == {"kadun"}
