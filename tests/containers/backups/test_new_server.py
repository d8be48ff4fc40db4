"""backup.sh --bundle and restore.sh --new-server: the whole service on another server, from one file."""
# Owns run-move.

import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyrage
import pytest

from tests.support.hosts.moving import CORE_DATA, rows, type_at
from tests.support.hosts.servers import LICENSED, LICENSED_FILE, Vendor
from tests.support.hosts.stack import Stack
from tests.support.services.service import wait_for

pytestmark = pytest.mark.xdist_group("servers")

PASSPHRASE = "correct horse battery"  # as typed
OWN_SECRETS = ("db_password", "owner_url", "backup_url", "database_url")


@dataclass(frozen=True)
class Arrived:
    """The new server, the bundle, and what the vendor's server held when it was made."""

    new: Stack
    bundle: Path
    options: tuple[str, ...]
    rows: dict[str, str]
    shown: str


@pytest.fixture(scope="module")
def arrived(vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrived]:
    """Restore in two attempts, of which the first is killed once it has placed the secrets."""
    old, folder = vendor.stack, tmp_path_factory.mktemp("arrived")
    new, bundle = vendor.fresh_server(folder / "new"), folder / "-the shop's 迁移 $(bundle).tar.age"
    vendor.program.open_on(old)
    try:
        status, said = type_at(
            [old.folder / "scripts/backup.sh", "--bundle", "-o", bundle, "--passphrase"], [PASSPHRASE, PASSPHRASE]
        )
        assert status == 0, said
        there = rows(old)
        ports = ("--http-port", str(new.http_port), "--https-port", str(new.https_port))
        options = ("--project", new.project, *ports)
        plain = folder / "plain.tar"
        plain.write_bytes(decrypted_by_passphrase(bundle))
        _kill_halfway(old, new, plain, options)
        restore: list[str | Path] = [new.folder / "scripts/restore.sh", "--new-server", "--yes", bundle, *options]
        status, shown = type_at(restore, [PASSPHRASE])
        assert status == 0, shown
        yield Arrived(new, bundle, options, there, shown)
    finally:
        new.remove()


def decrypted_by_passphrase(bundle: Path) -> bytes:
    plain: bytes = pyrage.passphrase.decrypt(bundle.read_bytes(), PASSPHRASE)
    return plain


def _kill_halfway(old: Stack, new: Stack, plain: Path, options: tuple[str, ...]) -> None:
    refused = new.script("restore.sh", "--new-server", plain, *options, check=False)
    assert refused.returncode == 1
    assert "nothing shows who made it. Restore it?" in refused.stderr, "a file in clear is asked about"
    assert not (new.folder / ".env").exists()
    expected = (old.folder / "secrets/kernal_data_key").read_bytes()
    first = subprocess.Popen(
        [new.folder / "scripts/restore.sh", "--new-server", "--yes", plain, *options],
        stdout=subprocess.DEVNULL, start_new_session=True, cwd="/",
    )  # fmt: skip
    key = new.folder / "secrets/kernal_data_key"
    wait_for(lambda: (key.exists() and key.read_bytes() == expected) or first.poll() is not None, 120)
    assert first.poll() is None, "it has placed the secrets, and goes on"
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL


def test_every_row_and_the_keys_are_there_and_passwords_are_this_servers(vendor: Vendor, arrived: Arrived) -> None:
    assert rows(arrived.new)["card"] == arrived.rows["card"]
    assert rows(arrived.new)["event"].startswith(arrived.rows["event"])
    for name in OWN_SECRETS:
        old, new = (stack.folder / "secrets" / name for stack in (vendor.stack, arrived.new))
        assert new.read_bytes() != old.read_bytes()
    assert vendor.program.open_on(arrived.new)["core"] == CORE_DATA


def test_settings_are_taken_over_except_those_of_the_machine(vendor: Vendor, arrived: Arrived) -> None:
    old, new = ((stack.folder / ".env").read_text() for stack in (vendor.stack, arrived.new))
    own = "COMPOSE_PROJECT_NAME|KADUN_HTTPS?_PORT|KADUN_APP_IMAGE|KADUN_FUNCTION_FIRST_UID|KADUN_HOST|#"
    taken = [[line for line in text.splitlines() if line and not re.match(own, line)] for text in (old, new)]
    assert set(taken[0]) == set(taken[1])
    for line in (f"COMPOSE_PROJECT_NAME={arrived.new.project}", f"KADUN_HTTPS_PORT={arrived.new.https_port}"):
        assert f"\n{line}\n" in new


def test_files_arrive_with_the_owners_and_modes_that_the_service_needs(vendor: Vendor, arrived: Arrived) -> None:
    old, new = vendor.stack.folder, arrived.new.folder
    assert (old / "data/backup-hooks.d").exists()
    assert not (new / "data/backup-hooks.d").exists()
    secrets = ("secrets/kernal_data_key", "secrets/sealing_key", "secrets/keys_identity", "secrets/backup_identity")
    for name in (*secrets, "data/keys/keyring.json", "https_certificates/privkey.pem"):
        assert (new / name).read_bytes() == (old / name).read_bytes(), name
        assert (new / name).stat().st_uid == (old / name).stat().st_uid, name
        assert stat.S_IMODE((new / name).stat().st_mode) == 0o600, name
    uid = (new / "data/keys").stat().st_uid
    for path in (new / "data/files", *(new / "data/files").iterdir()):
        assert (path.stat().st_uid, path.stat().st_mode & 0o044) == (uid, 0o044), "nginx is another user"
    kept = {file.read_bytes() for file in (new / "data").glob(".replaced-*/secrets/kernal_data_key")}
    assert len(kept) == 2, "the key that this server had made for itself, and the one of the killed run"


def test_files_and_functions_work_on_the_new_server(vendor: Vendor, arrived: Arrived, tmp_path: Path) -> None:
    client = vendor.program.client_of(arrived.new)
    client.download(LICENSED_FILE, tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == LICENSED
    assert client.execute("版本", {}) == "1.0", "what it requires was installed anew"
    arrived.new.script("cardctl", "file", "add", "--name", "another.bin", tmp_path / "here")


def test_a_service_with_data_is_never_overwritten(vendor: Vendor, arrived: Arrived, tmp_path: Path) -> None:
    arrived.new.new_card()
    arrived.new.compose("stop", "app")
    before = rows(arrived.new)["card"]
    another = tmp_path / "bundle.tar.age"
    vendor.stack.script("backup.sh", "--bundle", "-o", another)
    again = arrived.new.script("restore.sh", "--new-server", another, check=False)
    assert (again.returncode, arrived.new.inspect("app")["State"]["Status"]) == (1, "exited"), again.stdout
    assert "The service here has data and will not be overwritten" in again.stderr
    assert rows(arrived.new)["card"] == before
