"""A stack that never ran, into which a backup of the vendor's server was restored, taken under load."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.hosts.archives import decrypted, members
from tests.support.hosts.backups import Backups
from tests.support.hosts.servers import Vendor
from tests.support.hosts.stack import run
from tests.support.licence.customers import Customers

TABLES = ("card", "client")


@dataclass(frozen=True)
class Restored:
    """The stack, the backup, and what was the case at that time."""

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


def _rows_in(server: Backups, plain: bytes, table: str) -> list[str]:
    """Return the rows of a table in a backup's dump."""
    dump = members(plain)["database.dump"]
    restore = ("pg_restore", "--data-only", f"--table={table}", "-f", "-")
    command = ("docker", "exec", "-i", f"{server.stack.project}-database-1", *restore)
    done = subprocess.run(command, input=dump, capture_output=True, check=True)
    lines = done.stdout.decode().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("COPY "))
    return sorted(lines[start + 1 : lines.index("\\.")])


@pytest.fixture(scope="session")
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
        _put_keys_back(vendor, new, backup)
        said = str(new.script("restore.sh", backup).stdout)
        present = said.index("the present database holds 0\n")
        assert present < said.index("Starting") < said.index("已恢复 restored")
        plain = decrypted(backup, new.stack.folder / "secrets/backup_identity")
        dumped = {table: _rows_in(new, plain, table) for table in TABLES}
        here = rows(new)
        later = int(old.stack.sql("owner", activated)) - int(new.stack.sql("owner", activated))
        restored = Restored(new, backup, acknowledged, later, here, dumped)
        assert restored.databases() == {"kadun"}
        yield restored
    finally:
        new.stack.remove()


def _put_keys_back(vendor: Vendor, new: Backups, backup: Path) -> None:
    """Put back what a vendor keeps elsewhere; without it each restore is refused."""
    old = vendor.stack
    for options, says in (
        ((), "name the identity that you keep with --identity FILE"),
        (("--identity", old.folder / "secrets/backup_identity"), "There are no signing keys here"),
    ):
        refused = new.script("restore.sh", backup, *options, check=False)
        assert refused.returncode == 1
        assert says in refused.stderr, refused.stderr
    for name in ("data/keys", "secrets/kernal_data_key", "secrets/backup_identity"):
        run("cp", "-aT", old.folder / name, new.stack.folder / name)
