"""scripts/export.sh --final and import.sh: a move by file loses nothing, overwrites nothing, and can be undone."""

import shlex
import stat
from pathlib import Path

import pyrage
import pytest

from app.tokens.key_folder import KeyFolder
from tests.support.moved import Moved, rows
from tests.support.moving import CORE_DATA
from tests.support.servers import LICENSED, LICENSED_FILE, Vendor

pytestmark = pytest.mark.xdist_group("servers")


def test_no_customer_notices_a_move_and_no_acknowledged_activation_is_lost(vendor: Vendor, moved: Moved) -> None:
    assert not moved.customers.failures, "503 with Retry-After"
    assert set(moved.customers.statuses[-3:]) == {503}
    (told, refused_start) = moved.refused_while_moved
    assert "The service moved to " in told
    assert refused_start
    arrived = set(moved.new.sql("backup", "SELECT id FROM card WHERE is_activated").split())
    assert set(moved.customers.acknowledged) <= arrived
    assert moved.opened_while_moving == "opened False"
    before, after = moved.program
    assert after == before | {"activated": False}
    assert after["core"] == CORE_DATA
    assert "This server serves again" in moved.shown["resume"]
    card = vendor.stack.new_card()
    assert vendor.stack.verify(card, f"pc of {card}")["code"] == "OK"


def test_the_line_for_the_new_server_is_a_command(moved: Moved) -> None:
    line = moved.shown["export"].splitlines()[-1].strip()
    assert shlex.split(line) == ["scripts/import.sh", f"./{moved.bundle.name}", *moved.trust]


def test_every_row_is_moved_and_passwords_are_not(vendor: Vendor, moved: Moved) -> None:
    before, after = moved.rows
    assert after == before
    assert min(len(text.splitlines()) for text in after.values()) > 3
    for secret in ("db_password", "owner_url", "backup_url", "database_url"):
        old, new = (stack.folder / "secrets" / secret for stack in (vendor.stack, moved.new))
        assert new.read_bytes() != old.read_bytes()


def test_settings_are_taken_over_except_those_of_the_machine(vendor: Vendor, moved: Moved) -> None:
    old, new = ((stack.folder / ".env").read_text() for stack in (vendor.stack, moved.new))
    ports = ("KADUN_HTTP_PORT", "KADUN_HTTPS_PORT")
    own = ("COMPOSE_PROJECT_NAME", *ports, "KADUN_APP_IMAGE", "KADUN_FUNCTION_FIRST_UID", "#")
    taken_over = [
        dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith(own))
        for text in (old, new)
    ]
    assert taken_over[0] == taken_over[1]
    assert taken_over[1]["KADUN_ISSUER"] == "迁移&co \\1"
    for line in (f"COMPOSE_PROJECT_NAME={moved.new.project}", f"KADUN_HTTPS_PORT={moved.new.https_port}"):
        assert f"\n{line}\n" in new


def test_files_arrive_with_the_owners_and_modes_that_the_service_needs_and_no_program_does(
    vendor: Vendor, moved: Moved
) -> None:
    old, new = vendor.stack.folder, moved.new.folder
    for name in ("data/backup-hooks.d", "https_certificates/hsts.conf"):
        assert (old / name).exists()
        assert not (new / name).exists()
    certificates = ("https_certificates/privkey.pem", "https_certificates/self-signed-privkey.pem")
    secrets = ("secrets/kernal_data_key", "secrets/sealing_key", "secrets/keys_identity", "secrets/backup_identity")
    for name in (*secrets, "data/keys/keyring.json", "data/keys/data-key.json", *certificates):
        assert (new / name).read_bytes() == (old / name).read_bytes(), name
        assert ((new / name).stat().st_mode, (new / name).stat().st_uid) == (
            (old / name).stat().st_mode,
            (old / name).stat().st_uid,
        )
        assert stat.S_IMODE((new / name).stat().st_mode) == 0o600
    for name in ("data/files", "data/functions"):
        there, here = ({file.name: file.read_bytes() for file in (at / name).glob("[!.]*")} for at in (old, new))
        assert here == there != {}
    uid = (new / "data/keys").stat().st_uid
    for path in (new / "data/files", *(new / "data/files").iterdir()):
        assert (path.stat().st_uid, path.stat().st_mode & 0o044) == (uid, 0o044), "nginx is another user"
    assert not (new / "data/files/.adding-now").exists()
    assert list((new / "data").glob(".import*")) == [], "no secret lies about"
    kept = {file.read_bytes() for file in (new / "data").glob(".replaced-*/secrets/kernal_data_key")}
    assert len(kept) == 2, "the key that this server had made for itself, and the one of the killed import"
    assert list((new / "data").glob(".replaced-*/data/keys/keyring.replaced-*.json")), "its keys, too"


def test_files_and_functions_work_on_the_new_server(vendor: Vendor, moved: Moved, tmp_path: Path) -> None:
    client = vendor.program.client_of(moved.new)
    client.download(LICENSED_FILE, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == LICENSED
    assert client.execute("版本", {}) == "1.0", "what it requires was installed anew"
    moved.new.script("cardctl", "file", "add", "--name", "another.bin", tmp_path / "here")


def test_a_service_with_data_is_never_overwritten(vendor: Vendor, moved: Moved, tmp_path: Path) -> None:
    moved.new.new_card()
    before, ring = rows(moved.new)["card"], KeyFolder(moved.new.folder / "data/keys").load()
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "identity").write_text(f"{identity}\n")
    another = tmp_path / "bundle"  # with the same one, an import that was interrupted goes on
    vendor.stack.script("export.sh", "-o", another, "--recipient", str(identity.to_public()))
    again = moved.new.script("import.sh", another, "--identity", tmp_path / "identity", check=False)
    assert again.returncode == 1, again.stdout
    assert again.stderr.count("\n") == 1
    assert "The service here has data and will not be overwritten" in again.stderr
    assert rows(moved.new)["card"] == before
    assert KeyFolder(moved.new.folder / "data/keys").load() == ring
    vendor.program.open_on(moved.new)
