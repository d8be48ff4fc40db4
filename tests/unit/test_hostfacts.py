"""What hostfacts.py gathers of files and processes; tests/e2e/test_doctor.py has the engine and the network."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import archive
import hostfacts
import hostfacts_network
import pyrage
import pytest
from hostfacts_network import proxy_targets

from tests.support.tables import for_each

SCRIPT = Path(hostfacts.__file__)


def interface(name: str, *addresses: tuple[str, str, str]) -> dict[str, Any]:
    keys = ("family", "local", "scope")
    return {"ifname": name, "addr_info": [dict(zip(keys, address, strict=True)) for address in addresses]}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in ("app", "secrets", "data/keys", "data/backups", "data/backup-hooks.d", "https_certificates"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "secrets/db_password").write_text("hunter2\n")
    return tmp_path


def test_settings_are_read_and_secret_values_withheld(checkout: Path) -> None:
    (checkout / ".env").write_text(
        "# a comment\n\nKADUN_RATE='10' # fast\nexport KADUN_BURST=\nNOTE=hunter2 again\nURL=https://a:b@c/\n"
        "KADUN_BACKUP_WEBHOOK=https://hooks.test/token\nMY_PASSWORD=x\nMY_SECRET=\nKADUN_WORKERS 4\n"
    )
    facts = hostfacts.host_facts(checkout, "")
    assert facts["settings"] == {
        "KADUN_RATE": "10",
        "KADUN_BURST": None,
        "NOTE": None,
        "URL": None,
        "KADUN_BACKUP_WEBHOOK": None,
        "MY_PASSWORD": None,
        "MY_SECRET": None,
    }
    assert facts["secrets_in_env"] == "MY_PASSWORD NOTE URL"
    assert facts["unreadable_lines"] == [10]


def refuse(_file: Path) -> bytes:
    raise PermissionError(13, "Permission denied")  # which root, who may run these tests, never gets


def test_hooks_are_counted_and_a_backup_is_compared_with_its_checksum_and_in_clear_with_its_manifest(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backups, staged, output = checkout / "data/backups", checkout / "staged", io.BytesIO()
    file = backups / "kadun-20261127T031700Z.tar"

    def found(content: bytes | None = None, of: bytes | None = None) -> tuple[int | None, str | None]:
        if content is not None:
            file.write_bytes(content)
            file.with_name(f"{file.name}.sha256").write_text(
                f"{hashlib.sha256(of or content).hexdigest()}  {file.name}\n"
            )
        facts = hostfacts.backup_facts(backups, checkout / "data/backup-hooks.d")
        return facts["backup_bytes"], facts["backup_checksum"]

    hooks = checkout / "data/backup-hooks.d"
    for name, mode in (("50-away", 0o755), (".hidden", 0o755), ("notes", 0o644)):
        (hooks / name).touch(mode)
    assert hostfacts.backup_facts(backups, hooks)["backup_hooks"] == 1, "those that can be run"
    assert found() == (None, None)
    (backups / "last-good").write_text(f"2026-11-27T03:17:09Z {file.name}\n")
    assert found() == (None, None)
    staged.mkdir()
    (staged / "database.dump").write_bytes(b"rows")
    (staged / "contents").write_text("schema 0001_initial\ntable card 2 17\ntable schema_migration 1 5\n")
    archive.pack(staged, {}, output)
    whole = output.getvalue()
    assert found(whole) == (len(whole), "ok")
    assert "SHA-256 differs" in str(found(whole.replace(b"rows", b"row5"), of=whole)[1])
    assert "database.dump" in str(found(whole.replace(b"rows", b"row5"))[1])
    said = str(found(b"another file with a checksum of its own")[1])
    assert ("damaged" in said, "\n" in said) == (True, False)
    file.with_name(f"{file.name}.sha256").unlink()
    assert "No such file" in str(found()[1])
    monkeypatch.setattr(hostfacts, "MAX_CHECKSUM_BYTES", 5)
    assert found()[1] == "large"
    monkeypatch.setattr(hostfacts.retention, "verify_checksum", refuse)
    assert hostfacts.checksum(file, 5) is None, "one that may not be read is not called damaged"


def test_the_identity_of_backups_counts_as_copied_once_its_own_digest_is_noted(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, backups = checkout / "secrets/backup_identity", checkout / "data/backups"
    assert hostfacts.backup_identity(file, backups) == "missing"
    file.write_text("AGE-SECRET-KEY-1EXAMPLE\n")
    assert hostfacts.backup_identity(file, backups) == "not copied"
    note = f"2026-11-27T03:17:09Z {hashlib.sha256(file.read_bytes()).hexdigest()}\n"
    (backups / "identity-copied").write_text(note)
    assert hostfacts.backup_identity(file, backups) == "copied"
    file.write_text("AGE-SECRET-KEY-1ANOTHER\n")
    assert hostfacts.backup_identity(file, backups) == "not copied"
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert hostfacts.backup_identity(file, backups) is None


def test_an_identity_that_does_not_decrypt_the_last_backup_is_another_one(checkout: Path) -> None:
    file, backups = checkout / "secrets/backup_identity", checkout / "data/backups"
    former, other = (pyrage.x25519.Identity.generate() for _ in range(2))
    (backups / "last-good").write_text("2026-11-27T03:17:09Z kadun-1.tar.age\n")
    (backups / "kadun-1.tar.age").write_bytes(pyrage.encrypt(bytes(1 << 20), [former.to_public()]))
    for text, expected in ((f"{other}", "other"), (f"{other}\n{former}", "not copied"), (f"{former}", "not copied")):
        file.write_text(f"{text}\n")
        assert hostfacts.backup_identity(file, backups) == expected
    file.write_text(f"{other}\n")
    (backups / "kadun-1.tar.age").unlink()
    assert hostfacts.backup_identity(file, backups) == "not copied", "other checks say that the backup is gone"


def test_modes_are_told_of_what_exists(checkout: Path) -> None:
    (checkout / "secrets").chmod(0o700)
    (checkout / "secrets/db_password").chmod(0o644)
    (checkout / "data/keys").chmod(0o700)
    (checkout / "data").chmod(0o755)
    (checkout / "https_certificates/self-signed-privkey.pem").touch(0o644)
    backup = checkout / "data/backups/kadun-20261127T031700Z.tar.age"
    backup.touch(0o600)
    backup.with_name(f"{backup.name}.sha256").touch(0o644)
    me = os.getuid()
    assert hostfacts.permissions(checkout, checkout / "data/backups") == (
        f"700 {me} secrets\n644 {me} secrets/db_password\n644 {me} https_certificates/self-signed-privkey.pem\n"
        f"755 {me} data\n700 {me} data/keys\n600 {me} {backup}"
    )
    assert hostfacts.permissions(checkout / "nowhere", checkout / "nowhere") is None


def test_the_cron_file_is_told_beside_the_expected_one(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostfacts.cron_table, "FOLDER", checkout)
    facts = hostfacts.cron_facts(checkout, "shop")
    assert (facts["cron_table"], facts["cron_expected"], facts["cron_mode"]) == (None, None, None)
    command = (sys.executable, SCRIPT.with_name("cron_table.py"), checkout, shutil.which("docker") or "/usr/bin/docker")
    written = subprocess.run((*command, "03:17", "04:47", "sun", "", ""), check=True, capture_output=True).stdout
    file = checkout / "kadun-shop"
    file.write_bytes(written)
    file.chmod(0o644)
    facts = hostfacts.cron_facts(checkout, "shop")
    assert facts["cron_table"] == facts["cron_expected"] == written.decode()
    assert facts["cron_mode"] == f"644 {os.getuid()}"


def test_the_room_is_that_of_the_nearest_folder_and_of_the_database_where_it_has_a_disk_of_its_own(
    checkout: Path, tmp_path: Path
) -> None:
    found = hostfacts.disk(checkout / "nowhere/at/all")
    assert found["folder"] == f"{checkout}/nowhere/at/all"
    assert found["blocks"] == hostfacts.disk(checkout)["blocks"] > 0
    (tmp_path / "postgres").mkdir()
    assert set(hostfacts.disks(tmp_path, tmp_path)) == {"data", "backups"}
    (tmp_path / "postgres").rmdir()
    (tmp_path / "postgres").symlink_to("/proc")
    assert hostfacts.disks(tmp_path, tmp_path)["database"]["folder"] == f"{tmp_path}/postgres"


class EndlessConnection:
    """Answers as long as somebody reads."""

    status = 200

    def __init__(self, *_: Any, **__: Any) -> None:
        self.sock = self
        self.connect = self.request = self.close = lambda *_: None
        self.getsockname = lambda: ("127.0.0.1", 1)
        self.getresponse = lambda: self

    def read(self, most: int) -> bytes:
        return b"x" * most


def test_an_answer_without_end_is_read_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostfacts_network.http.client, "HTTPSConnection", EndlessConnection)
    (probe,) = hostfacts_network.proxy_probes([("127.0.0.1", 443)])
    assert len(probe["answer"]) == 64 * 1024


@for_each(
    "domains, has_balancer, expected",
    [
        ("", False, [("127.0.0.1", 8443), ("10.0.0.5", 8443)]),
        ("203.0.113.9 *.example.com", False, [("127.0.0.1", 8443), ("10.0.0.5", 8443)]),
        ("*.example.com", False, [("127.0.0.1", 8443), ("10.0.0.5", 8443), ("example.com", 8443)]),
        ("card.example.com", True, [("127.0.0.1", 8443), ("card.example.com", 443)]),
    ],
)
def test_the_public_name_is_asked_as_customers_do_and_nginx_where_it_talks_no_proxy_protocol(
    domains: str, expected: list[tuple[str, int]], *, has_balancer: bool
) -> None:
    eth0 = interface("eth0", ("inet", "10.0.0.5", "global"), ("inet", "10.0.0.6", "global"))  # one of each family
    others = interface("docker0", ("inet", "172.17.0.1", "global")), interface("eth1", ("inet6", "fe80::1", "link"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "exists", lambda _: False)  # no IPv6
        assert proxy_targets(8443, [*others, eth0], domains, has_balancer=has_balancer) == expected


def test_a_note_or_a_mark_that_is_no_file_holds_nothing_up_and_tells_no_secret(tmp_path: Path) -> None:
    note, mark = tmp_path / "last-good", tmp_path / "moved-to"
    assert hostfacts.moved_to(mark) is None
    mark.mkdir()
    assert hostfacts.moved_to(mark) == "?", "a mark that cannot be read is a move all the same"
    mark.rmdir()
    os.mkfifo(note)
    assert hostfacts.last_line(note) is None
    note.unlink()
    (tmp_path / "secret").write_text("AGE-SECRET-KEY-1X\n")
    for file in (note, mark):
        file.symlink_to("secret")
    assert (hostfacts.last_line(note), hostfacts.moved_to(mark)) == (None, "?")
