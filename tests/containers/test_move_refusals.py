"""Exports and imports that are refused or fail: no secret lies about in clear, and the old server goes on serving."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyrage
import pytest

from tests.support.archives import signed_by, strangers_ring, unsigned
from tests.support.customers import Customers
from tests.support.moved import PASSPHRASE, Moved
from tests.support.moving import type_at
from tests.support.servers import Vendor
from tests.support.stack import Stack, copy_checkout, run

pytestmark = pytest.mark.xdist_group("servers")

RECIPIENT = ("--recipient", str(pyrage.x25519.Identity.generate().to_public()))
SILENT = """#!/bin/bash
# An engine whose database starts and then does not answer.
[[ $1 == compose && $2 == exec && "$*" != *pg_isready* ]] || exit 0
echo 'no space left on device' >&2
exit 1
"""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    run("mount", "-t", "tmpfs", "-o", "size=8k", "none", folder)
    try:
        yield folder
    finally:
        run("umount", folder)


def test_an_export_is_never_left_unencrypted_and_overwrites_nothing(vendor: Vendor, tmp_path: Path) -> None:
    stack, bundle = vendor.stack, tmp_path / "bundle"
    settings, started = (stack.folder / ".env").read_text(), stack.inspect("app")["State"]["StartedAt"]
    for recipient in ("", "none"):  # the identity here is in the bundle: it would be locked into its own box
        (stack.folder / ".env").write_text(f"{settings}KADUN_BACKUP_RECIPIENT={recipient}\n")
        undecided = stack.script("export.sh", "-o", bundle, check=False)
        (stack.folder / ".env").write_text(settings)
        assert undecided.returncode == 2
        assert "Say how to encrypt" in undecided.stderr
    plain = stack.script("export.sh", "-o", bundle, "--unencrypted", check=False)
    assert plain.returncode == 1
    assert "never written to a disk" in plain.stderr
    with bundle.open("wb") as file:
        command = (stack.folder / "scripts/export.sh", "-o", "-", "--unencrypted")
        redirected = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, check=False)
    assert redirected.returncode == 1
    assert bundle.read_bytes() == b""
    final = stack.script("export.sh", "--final", "-o", "-", "--unencrypted", check=False)  # into a pipe
    assert (final.returncode, "--final writes a file" in final.stderr) == (2, True)
    kept = stack.script("export.sh", "-o", bundle, *RECIPIENT, check=False)
    assert (kept.returncode, "exists already" in kept.stderr) == (1, True)
    bundle.unlink()
    stack.script("export.sh", "-o", bundle, *RECIPIENT)
    assert bundle.read_bytes().startswith(b"age-encryption.org/v1\n")
    assert stack.inspect("app")["State"]["StartedAt"] == started, "an export that is not final stops nothing"


def test_after_a_failed_final_export_this_server_serves_again(vendor: Vendor, tmp_path: Path) -> None:
    stack, customers = vendor.stack, Customers(vendor.stack)
    with customers, small_disk(tmp_path):
        failed = stack.script("export.sh", "--final", "-o", tmp_path / "full", *RECIPIENT, check=False)
        left = list(tmp_path.iterdir())
    assert failed.returncode == 1
    assert "is the disk full?" in failed.stderr
    assert "The export failed; this server serves again" in failed.stderr
    assert left == []
    assert list((stack.folder / "data").glob(".export*")) == []
    assert not (stack.folder / "data/keys/moved-to").exists()
    assert 503 in customers.statuses
    assert customers.failures == []
    assert customers.ask(customers.cards.pop()).status == 200


def test_a_damaged_or_forged_bundle_is_refused_before_anything_is_changed(moved: Moved, tmp_path: Path) -> None:
    fresh, bundle, plain = tmp_path / "fresh", tmp_path / "bundle", moved.plain
    copy_checkout(fresh)
    altered = plain.replace(b"KADUN_OFFLINE_GRACE=12h", b"KADUN_OFFLINE_GRACE=99h")
    assert altered != plain
    stranger = signed_by(plain, strangers_ring(tmp_path))
    for content, options, complaint in (
        (altered, moved.trust, "a checksum does not match"),
        (plain[: len(plain) // 2], moved.trust, "damaged or cut off"),
        (plain, (), f"It is signed by key {moved.trust[1]}, which is not one of this server's"),
        (stranger, moved.trust, "which is not one of this server's"),
        (unsigned(plain), moved.trust, "It is not signed, so nothing shows who made it"),
    ):
        bundle.write_bytes(content)
        refused = run(fresh / "scripts/import.sh", bundle, *options, check=False, cwd="/")
        assert refused.returncode == 1
        assert complaint in refused.stderr.splitlines()[-1]
        assert not (fresh / ".env").exists()
        assert not (fresh / "secrets").exists()
        assert [file.name for file in (fresh / "data").iterdir()] == [".stack.lock"]
    status, shown = type_at([fresh / "scripts/import.sh", moved.bundle, *moved.trust], [PASSPHRASE[1:]])
    assert status == 1
    assert "is it the right passphrase" in shown


def test_a_database_that_cannot_be_asked_is_not_taken_for_an_empty_one(moved: Moved, tmp_path: Path) -> None:
    fresh, bundle = Stack(tmp_path / "fresh"), tmp_path / "bundle"
    fresh.init_anew()
    bundle.write_bytes(moved.plain)
    (fresh.folder / "data/keys/keyring.json").write_text("what programs in the field believe")
    (tmp_path / "docker").write_text(SILENT)
    (tmp_path / "docker").chmod(0o755)
    keys = ("data/keys/keyring.json", "secrets/kernal_data_key", "secrets/owner_url")
    before = [(fresh.folder / name).read_bytes() for name in keys]
    path = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    refused = run(fresh.folder / "scripts/import.sh", bundle, *moved.trust, check=False, env=path)
    assert refused.returncode == 1
    assert "The database does not answer; nothing was changed" in refused.stderr
    assert [(fresh.folder / name).read_bytes() for name in keys] == before
    shutil.rmtree(fresh.folder)


def test_another_checkouts_project_is_never_taken_over(vendor: Vendor, moved: Moved, tmp_path: Path) -> None:
    copy_checkout(tmp_path / "fresh")
    (tmp_path / "bundle").write_bytes(moved.plain)
    free = ("--http-port", str(vendor.stack.http_port + 1), "--https-port", str(vendor.stack.https_port + 1))
    command = (tmp_path / "fresh/scripts/import.sh", tmp_path / "bundle", *moved.trust, *free)
    refused = run(*command, check=False)
    assert refused.returncode == 1
    assert f"Project {vendor.stack.project} runs from {vendor.stack.folder}" in refused.stderr
    assert not (tmp_path / "fresh/.env").exists()
    vendor.program.open_on(vendor.stack)
