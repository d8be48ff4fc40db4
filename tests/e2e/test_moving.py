"""scripts/export.sh and scripts/import.sh move a service into a second stack, unnoticed by its customers."""

import hashlib
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.tokens import keyring
from app.tokens.key_folder import KeyFolder
from app.tokens.keys import KeyRing
from tests.support.archives import signed_by, strangers_ring, unsigned
from tests.support.moving import CORE_DATA, Program, contents, fingerprint, ship, type_at
from tests.support.service import wait_for
from tests.support.stack import Stack, copy_checkout, run
from tests.support.wheels import write_wheel

pytestmark = [pytest.mark.containers, pytest.mark.long]

LICENSED = os.urandom(1000)
FUNCTION = """
import tiny
from app.functions import core_function


@core_function("版本")
def version(arguments, caller):
    return tiny.VERSION
"""
PASSPHRASE = "correct horse battery"  # as typed


@dataclass(frozen=True)
class OldServer:
    """The old server, exported with a passphrase and to a recipient."""

    stack: Stack
    program: Program
    opened: dict[str, object]
    locked: Path  # with the passphrase
    sealed: Path  # to the recipient of `identity`
    identity: Path

    def unsealed(self) -> bytes:
        command = ("age", "-d", "-i", self.identity, self.sealed)
        return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def old_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldServer]:
    folder = tmp_path_factory.mktemp("old_server")
    with Stack(tmp_path_factory.mktemp("old")) as stack:
        stack.init_anew("kadun.test")
        with (stack.folder / ".env").open("a") as settings:
            settings.write("KADUN_ISSUER=迁移&co \\1\nKADUN_OFFLINE_GRACE=12h\n")  # with what tools take for their own
        stack.up()
        (folder / "licensed.bin").write_bytes(LICENSED)
        stack.script("cardctl", "file", "add", "--name", "带空格 licensed.bin", folder / "licensed.bin")
        (stack.folder / "data/files/.adding-now").write_bytes(b"half a file")
        functions = stack.folder / "data/functions"
        (functions / "vendor.py").write_text(FUNCTION)
        (functions / "requirements.txt").write_text(f"./{write_wheel(functions, '1.0').name}\n")
        stack.script("cardctl", "function", "install")
        shutil.copy(
            stack.folder / "https_certificates/privkey.pem", stack.folder / "https_certificates/self-signed-privkey.pem"
        )
        write_what_stays(stack)
        program = ship(stack, folder, "the customer's pc")
        first = program.open_on(stack)
        assert first["activated"]
        identity = folder / "identity"
        run("age-keygen", "-o", identity)
        recipient = run("age-keygen", "-y", identity).stdout.strip()
        sealed, locked = folder / "sealed.tar.age", folder / "locked.tar.age"
        exported = stack.script("export.sh", "-o", sealed, "--recipient", recipient)
        assert "do not travel: copy them yourself: data/backup-hooks.d/10-copy" in exported.stderr
        export = [stack.folder / "scripts/export.sh", "-o", locked, "--passphrase"]
        status, shown = type_at(export, [PASSPHRASE, PASSPHRASE])
        assert status == 0, shown
        yield OldServer(stack, program, first, locked, sealed, identity)


def write_what_stays(stack: Stack) -> None:
    """Write what the host runs and what nginx reads: no bundle may bring such files."""
    hook = stack.folder / "data/backup-hooks.d/10-copy"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\ntouch /tmp/a-hook-ran\n")
    hook.chmod(0o755)
    (stack.folder / "https_certificates/hsts.conf").write_text('add_header Strict-Transport-Security "max-age=1";\n')


@pytest.fixture(scope="module")
def new_server(tmp_path_factory: pytest.TempPathFactory, old_server: OldServer) -> Iterator[Stack]:
    """Import into the new server; the import was killed halfway and is run again, while the old server runs on."""
    with Stack(tmp_path_factory.mktemp("new")) as stack:
        options = ("--project", stack.project, "--http-port", str(stack.http_port))
        command = [
            stack.folder / "scripts/import.sh",
            old_server.locked,
            *options,
            "--https-port",
            str(stack.https_port),
            *fingerprint(old_server.stack),
        ]
        bundle = tmp_path_factory.mktemp("bundle") / "unsigned.tar"
        bundle.write_bytes(unsigned(old_server.unsealed()))
        killed_once_it_has_placed_the_secrets(stack, old_server, bundle, "--accept-unsigned")
        put_ring(stack, KeyRing.new(datetime.now(UTC), "kadun"))  # as a first start makes one
        status, shown = type_at([str(word) for word in command], [PASSPHRASE])
        assert status == 0, shown
        assert "card 1, client 1" in shown
        yield stack


def put_ring(stack: Stack, ring: KeyRing) -> None:
    """Put a key ring in the stack's place for it, with the owner and mode that the service gives it."""
    folder, file = stack.folder / "data/keys", stack.folder / "data/keys/keyring.json"
    file.write_bytes(keyring.encoded(ring))
    file.chmod(0o600)
    os.chown(file, folder.stat().st_uid, folder.stat().st_gid)


def killed_once_it_has_placed_the_secrets(stack: Stack, old_server: OldServer, *bundle: str | Path) -> None:
    ports = ("--http-port", str(stack.http_port), "--https-port", str(stack.https_port))
    process = subprocess.Popen(
        [stack.folder / "scripts/import.sh", *bundle, "--project", stack.project, *ports],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    key = stack.folder / "secrets/kernal_data_key"
    expected = (old_server.stack.folder / "secrets/kernal_data_key").read_bytes()
    wait_for(lambda: (key.exists() and key.read_bytes() == expected) or process.poll() is not None, 120)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_client_with_pinned_keys_is_served_by_the_new_server(old_server: OldServer, new_server: Stack) -> None:
    before = old_server.stack.cardctl("card", "show", old_server.program.card, "--format", "json")
    assert new_server.cardctl("card", "show", old_server.program.card, "--format", "json") == before
    opened = old_server.program.open_on(new_server)
    assert opened == old_server.opened | {"activated": False}
    assert opened["core"] == CORE_DATA
    after = new_server.cardctl("card", "show", old_server.program.card, "--format", "json")
    assert after["card"] == before["card"]
    assert after["client"] | {"requested_at": None} == before["client"] | {"requested_at": None}


def test_every_row_is_moved_and_passwords_are_not(old_server: OldServer, new_server: Stack) -> None:
    old, new = old_server.stack, new_server
    journal = ("events", "--format", "json")
    assert new.cardctl(*journal) == old.cardctl(*journal)
    assert new.sql("backup", "SELECT * FROM card") == old.sql("backup", "SELECT * FROM card")
    for secret in ("db_password", "owner_url", "backup_url", "database_url"):
        assert (new.folder / "secrets" / secret).read_bytes() != (old.folder / "secrets" / secret).read_bytes()


def test_settings_are_taken_over_except_those_of_the_machine(old_server: OldServer, new_server: Stack) -> None:
    old, new = ((stack.folder / ".env").read_text() for stack in (old_server.stack, new_server))
    ports = ("KADUN_HTTP_PORT", "KADUN_HTTPS_PORT")
    own = ("COMPOSE_PROJECT_NAME", *ports, "KADUN_APP_IMAGE", "KADUN_FUNCTION_FIRST_UID")
    taken_over = [{line for line in text.splitlines() if not line.startswith((*own, "#"))} for text in (old, new)]
    assert taken_over[0] == taken_over[1]
    for line in (f"COMPOSE_PROJECT_NAME={new_server.project}", f"KADUN_HTTPS_PORT={new_server.https_port}"):
        assert f"\n{line}\n" in new


def test_programs_and_nginxs_configuration_stay_behind(old_server: OldServer, new_server: Stack) -> None:
    for name in ("data/backup-hooks.d", "https_certificates/hsts.conf"):
        assert (old_server.stack.folder / name).exists()
        assert not (new_server.folder / name).exists()


def test_files_have_the_owners_and_modes_that_the_service_needs(old_server: OldServer, new_server: Stack) -> None:
    certificates = ("https_certificates/privkey.pem", "https_certificates/self-signed-privkey.pem")
    secrets = ("secrets/kernal_data_key", "secrets/totp_key", "secrets/keys_identity", "secrets/backup_identity")
    keys = (*secrets, "data/keys/keyring.json", "data/keys/data-key.json")
    for name in (*keys, *certificates):
        old, new = old_server.stack.folder / name, new_server.folder / name
        assert new.read_bytes() == old.read_bytes()
        assert (new.stat().st_mode, new.stat().st_uid) == (old.stat().st_mode, old.stat().st_uid)
        assert stat.S_IMODE(new.stat().st_mode) == 0o600
    for folder in ("data/files", "data/functions"):
        old, new = (
            {path.name: path.read_bytes() for path in (stack.folder / folder).glob("[!.]*")}
            for stack in (old_server.stack, new_server)
        )
        assert old == new != {}
    uid = (new_server.folder / "data/keys").stat().st_uid
    for path in (new_server.folder / "data/files", *(new_server.folder / "data/files").iterdir()):
        assert (path.stat().st_uid, path.stat().st_mode & 0o044) == (uid, 0o044), "nginx is another user"
    assert not (new_server.folder / "data/files/.adding-now").exists()
    assert list((new_server.folder / "data").glob(".import*")) == [], "no secret lies about"
    kept = [file.read_bytes() for file in (new_server.folder / "data").glob(".replaced-*/secrets/kernal_data_key")]
    assert len(set(kept)) == 2, "the key that this server had made for itself, and the one of the killed import"
    assert list((new_server.folder / "data").glob(".replaced-*/data/keys/keyring.replaced-*.json")), "its keys, too"


def test_keys_that_continue_those_of_the_bundle_stay_and_know_who_has_signed_it(
    old_server: OldServer, tmp_path: Path
) -> None:
    """Customers' programs have seen the newer ones, and refuse the older."""
    newer = KeyFolder(old_server.stack.folder / "data/keys").load().rotated(datetime.now(UTC), "kadun")
    with Stack(tmp_path / "newer") as stack:
        stack.init_anew("kadun.test")
        put_ring(stack, newer)
        done = stack.script("import.sh", old_server.sealed, "--identity", old_server.identity)
        assert "The present signing keys are newer, and stay" in done.stdout
        assert KeyFolder(stack.folder / "data/keys").load() == newer
        assert old_server.program.open_on(stack) == old_server.opened | {"activated": False}
        older = tmp_path / "keyring.json"
        older.write_bytes((old_server.stack.folder / "data/keys/keyring.json").read_bytes())
        assert "are newer, and stay" in stack.script("cardctl", "key", "restore", older).stderr
        assert KeyFolder(stack.folder / "data/keys").load() == newer


def test_a_service_with_data_is_never_overwritten(old_server: OldServer, new_server: Stack) -> None:
    new_server.new_card()
    before, ring = contents(new_server), (new_server.folder / "data/keys/keyring.json").stat()
    again = new_server.script("import.sh", old_server.sealed, "--identity", old_server.identity, check=False)
    assert again.returncode == 1, again.stdout
    assert again.stderr.count("\n") == 1
    assert "The service here has data and will not be overwritten" in again.stderr
    assert contents(new_server) == before
    assert (new_server.folder / "data/keys/keyring.json").stat() == ring
    old_server.program.open_on(new_server)


def test_files_and_functions_work_on_the_new_server(old_server: OldServer, new_server: Stack, tmp_path: Path) -> None:
    client = old_server.program.client_of(new_server)
    client.download("带空格 licensed.bin", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == LICENSED
    assert client.execute("版本", {}) == "1.0", "what it requires was installed anew"
    (tmp_path / "here").write_bytes(b"a new version")
    new_server.script("cardctl", "file", "add", "--name", "带空格 licensed.bin", tmp_path / "here")


def test_a_damaged_or_foreign_bundle_is_refused_before_anything_is_changed(
    old_server: OldServer, tmp_path: Path
) -> None:
    fresh, bundle = tmp_path / "fresh", tmp_path / "bundle"
    copy_checkout(fresh)
    whole = old_server.sealed.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    plain = old_server.unsealed()
    altered = plain.replace(b"KADUN_RATE=10", b"KADUN_RATE=99")
    assert altered != plain
    stranger, hostile = tmp_path / "stranger", signed_by(plain, strangers_ring(tmp_path))
    run("age-keygen", "-o", stranger)
    ours, kid = fingerprint(old_server.stack), fingerprint(old_server.stack)[1]
    wrong = ("--fingerprint", "A" * 43)
    for content, identity, options, complaint in (
        (whole[:middle], old_server.identity, ours, "Cannot decrypt the bundle, or it is cut off"),
        (flipped, old_server.identity, ours, "Cannot decrypt the bundle, or it is cut off"),
        (whole, stranger, ours, "Cannot decrypt the bundle"),
        (altered, old_server.identity, ours, "a checksum does not match"),
        (plain[: len(plain) // 2], old_server.identity, ours, "damaged or cut off"),
        (b"", old_server.identity, ours, "damaged or cut off"),
        (whole, old_server.identity, (), f"It is signed by key {kid}, which is not one of this server's"),
        (whole, old_server.identity, (*wrong, "--accept-unsigned"), "which is not one of this server's"),
        (hostile, old_server.identity, ours, "which is not one of this server's"),
        (unsigned(plain), old_server.identity, ours, "It is not signed, so nothing shows who made it"),
    ):
        bundle.write_bytes(content)
        command = (fresh / "scripts/import.sh", bundle, "--identity", identity, *options)
        refused = run(*command, check=False, cwd="/")
        assert refused.returncode == 1
        assert complaint in refused.stderr.splitlines()[-1]
        assert not (fresh / ".env").exists()
        assert not (fresh / "secrets").exists()
        assert [file.name for file in (fresh / "data").iterdir()] == [".stack.lock"]
    status, shown = type_at([fresh / "scripts/import.sh", old_server.locked, *ours], ["wrong"])
    assert status == 1
    assert "is it the right passphrase" in shown


def test_an_export_is_never_left_unencrypted_or_half_written(old_server: OldServer, tmp_path: Path) -> None:
    stack, bundle = old_server.stack, tmp_path / "bundle"
    settings = (stack.folder / ".env").read_text()
    for recipient in ("", "none"):  # the identity here is in the bundle: it would be locked into its own box
        (stack.folder / ".env").write_text(f"{settings}KADUN_BACKUP_RECIPIENT={recipient}\n")
        undecided = stack.script("export.sh", "-o", bundle, check=False)
        assert undecided.returncode == 2
        assert "Say how to encrypt" in undecided.stderr
    (stack.folder / ".env").write_text(settings)
    plain = stack.script("export.sh", "-o", bundle, "--unencrypted", check=False)
    assert plain.returncode == 1
    assert "never written to a disk" in plain.stderr
    with bundle.open("wb") as file:
        command = (stack.folder / "scripts/export.sh", "-o", "-", "--unencrypted")
        redirected = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, check=False)
    assert redirected.returncode == 1
    assert bundle.read_bytes() == b""
    recipient = run("age-keygen", "-y", old_server.identity).stdout.strip()
    kept = stack.script("export.sh", "-o", old_server.sealed, "--recipient", recipient, check=False)
    assert kept.returncode == 1
    assert "exists already" in kept.stderr
    run("mount", "-t", "tmpfs", "-o", "size=8k", "none", tmp_path)
    try:
        full = stack.script("export.sh", "-o", tmp_path / "full", "--recipient", recipient, check=False)
        assert full.returncode == 1
        assert "is the disk full?" in full.stderr.splitlines()[-1]
        assert list(tmp_path.iterdir()) == []
    finally:
        run("umount", tmp_path)
    assert list((stack.folder / "data").glob(".export*")) == []


def test_an_export_names_the_files_whose_bytes_are_lost(old_server: OldServer, tmp_path: Path) -> None:
    blob = old_server.stack.folder / "data/files" / hashlib.sha256(LICENSED).hexdigest()
    recipient = run("age-keygen", "-y", old_server.identity).stdout.strip()
    blob.rename(tmp_path / "aside")
    try:
        done = old_server.stack.script("export.sh", "-o", tmp_path / "bundle", "--recipient", recipient)
    finally:
        (tmp_path / "aside").rename(blob)
    hooks, lost = done.stderr.splitlines()
    assert hooks.endswith("copy them yourself: data/backup-hooks.d/10-copy")
    assert lost.endswith("add them again: 带空格 licensed.bin")


SILENT = """#!/bin/bash
# An engine whose database starts and then does not answer.
[[ $1 == compose && $2 == exec && "$*" != *pg_isready* ]] || exit 0
echo 'no space left on device' >&2
exit 1
"""


def test_a_database_that_cannot_be_asked_is_not_taken_for_an_empty_one(old_server: OldServer, tmp_path: Path) -> None:
    fresh = Stack(tmp_path / "fresh")
    fresh.init_anew()
    (fresh.folder / "data/keys/keyring.json").write_text("what programs in the field believe")
    (tmp_path / "docker").write_text(SILENT)
    (tmp_path / "docker").chmod(0o755)
    keys = ("data/keys/keyring.json", "secrets/kernal_data_key", "secrets/owner_url")
    before = [(fresh.folder / name).read_bytes() for name in keys]
    sealed = (old_server.sealed, "--identity", old_server.identity, *fingerprint(old_server.stack))
    command = (fresh.folder / "scripts/import.sh", *sealed)
    refused = run(*command, check=False, env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert refused.returncode == 1
    assert "The database does not answer; nothing was changed" in refused.stderr
    assert [(fresh.folder / name).read_bytes() for name in keys] == before
    shutil.rmtree(fresh.folder)


def test_another_checkouts_project_is_never_taken_over(old_server: OldServer, tmp_path: Path) -> None:
    copy_checkout(tmp_path / "fresh")
    free = ("--http-port", str(old_server.stack.http_port + 1), "--https-port", str(old_server.stack.https_port + 1))
    sealed = (old_server.sealed, "--identity", old_server.identity, *fingerprint(old_server.stack))
    command = (tmp_path / "fresh/scripts/import.sh", *sealed, *free)
    refused = run(*command, check=False)
    assert refused.returncode == 1
    assert f"Project {old_server.stack.project} runs from {old_server.stack.folder}" in refused.stderr
    assert not (tmp_path / "fresh/.env").exists()
    shutil.rmtree(tmp_path / "fresh")
    old_server.program.open_on(old_server.stack)
