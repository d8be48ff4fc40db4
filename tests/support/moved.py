"""A move by file: the vendor's server exported for good, imported elsewhere, ridden through by the SDK, and undone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyrage
import pytest

from app.tokens import keyring
from app.tokens.keys import KeyRing
from tests.support.bucket_host import Front
from tests.support.customers import Customers
from tests.support.http_exchange import quiet_port
from tests.support.moving import fingerprint, type_at
from tests.support.servers import Vendor
from tests.support.service import ROOT, wait_for
from tests.support.stack import Stack

PASSPHRASE = "correct horse battery"  # as typed
# A customer's program, with the policy that docs/client.md gives for a move; it says when it waits.
PROGRAM = """
import sys, time, kadun
from kadun.retries import RetryPolicy

def pause(seconds):
    print("waits", flush=True)
    time.sleep(seconds)

url, keys, card, hardware, ca = sys.argv[1:]
policy = RetryPolicy(tries=8, sleep=pause)
client = kadun.Client(url, keys, card, hardware=hardware, ca_file=ca, state_dir=None, retry_policy=policy)
print("opened", client.open().activated)
"""
ROWS = ("card", "event")


@dataclass(frozen=True)
class Moved:
    """What the move by file came to."""

    new: Stack
    bundle: Path
    plain: bytes  # the bundle, decrypted
    trust: tuple[str, str]  # the options by which a person confirms where the bundle comes from
    customers: Customers
    opened_while_moving: str
    refused_while_moved: list[str]
    shown: dict[str, str]  # what export.sh, import.sh and `--resume-here` showed
    rows: tuple[dict[str, str], dict[str, str]]  # of the old server and of the new one, after the import
    program: tuple[dict[str, Any], dict[str, Any]]  # what the program got from the old server and from the new one


def rows(stack: Stack) -> dict[str, str]:
    """Return every card and every entry of the journal."""
    return {table: stack.sql("backup", f"SELECT * FROM {table} ORDER BY 1") for table in ROWS}  # noqa: S608


@pytest.fixture(scope="session")
def moved(vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    """Export with a passphrase, import in two attempts, and undo the move, while customers ask."""
    old, folder = vendor.stack, tmp_path_factory.mktemp("moved")
    new, bundle, trust = (
        vendor.fresh_server(folder / "new"),
        folder / "-the shop's 迁移 $(bundle).tar.age",
        fingerprint(old),
    )
    first = vendor.program.open_on(old)
    customers = Customers(old)
    try:
        with customers:
            customers.wait_for_more(3)
            export: list[str | Path] = [old.folder / "scripts/export.sh", "--final", "-o", bundle, "--passphrase"]
            status, exported = type_at(export, [PASSPHRASE, PASSPHRASE])
            assert status == 0, exported
            asked = len(customers.statuses)
            wait_for(lambda: len(customers.statuses) > asked + 3 or customers.failures)
        refused = [
            old.script("export.sh", "--passphrase", check=False).stderr,
            old.compose("up", "--detach", "--wait", check=False).stderr,
        ]
        plain = pyrage.passphrase.decrypt(bundle.read_bytes(), PASSPHRASE)
        imported = _import(old, new, folder, bundle, plain, trust)
        there = rows(old), rows(new)
        opened = _open_while_moving(vendor, new, folder / "hosts")
        program = first, vendor.program.open_on(new)
        resumed = old.script("migrate-to.sh", "--resume-here").stdout
        shown = {"export": exported, "import": imported, "resume": resumed}
        yield Moved(new, bundle, plain, trust, customers, opened, refused, shown, there, program)
    finally:
        new.remove()


def _import(old: Stack, new: Stack, folder: Path, bundle: Path, plain: bytes, trust: tuple[str, str]) -> str:
    """Import into the new server; the import was killed halfway and is run again."""
    ports = ("--http-port", str(new.http_port), "--https-port", str(new.https_port))
    options = ("--project", new.project, *ports, *trust)
    expected = (old.folder / "secrets/kernal_data_key").read_bytes()
    (folder / "plain.tar").write_bytes(plain)
    first = subprocess.Popen(
        [new.folder / "scripts/import.sh", folder / "plain.tar", *options],
        stdout=subprocess.DEVNULL, start_new_session=True, cwd="/",
    )  # fmt: skip
    key, ring = new.folder / "secrets/kernal_data_key", new.folder / "data/keys/keyring.json"
    wait_for(lambda: (key.exists() and key.read_bytes() == expected) or first.poll() is not None, 120)
    assert first.poll() is None, "it has placed the secrets, and goes on"
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    owner = ring.parent.stat()
    ring.write_bytes(keyring.encoded(KeyRing.new(datetime.now(UTC), "kadun")))  # as a first start makes one
    os.chown(ring, owner.st_uid, owner.st_gid)
    ring.chmod(0o600)
    status, shown = type_at([new.folder / "scripts/import.sh", bundle, *options], [PASSPHRASE])
    assert status == 0, shown
    return shown


def _open_while_moving(vendor: Vendor, new: Stack, hosts: Path) -> str:
    """Open a program while its name still leads to the old server, and then change the name; return what it says."""
    old, program, port = vendor.stack, vendor.program, quiet_port()
    ca = str(old.folder / "https_certificates/fullchain.pem")
    facts = (f"https://kadun.test:{port}", program.keys, program.card, program.hardware, ca)
    hosts.write_text("127.0.0.1 kadun.test\n")
    with Front(old.https_port, port=port), Front(new.https_port, port=port, listen_on="127.0.0.2"):
        # With a hosts file of its own, which stands for the DNS record.
        bind = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts)
        opening = subprocess.Popen(
            (*bind, sys.executable, "-c", PROGRAM, *facts),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT / "client/src")},
        )  # fmt: skip
        assert opening.stdout
        assert opening.stdout.readline() == "waits\n", "the old server answers 503"
        hosts.write_text("127.0.0.2 kadun.test\n")
        said, errors = opening.communicate(timeout=120)
        assert opening.returncode == 0, errors
        return said.splitlines()[-1]
