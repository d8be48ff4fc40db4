"""What backups are encrypted to, and which signing keys go on after the database was replaced."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from app.tokens import sealing
from app.tokens.keyring import decoded, encoded
from app.tokens.keys import KeyRing
from tests.support.script_libraries import bash, checkout_in

OWN = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
IDENTITY = pyrage.x25519.Identity.generate()
FIND = 'find_recipient; echo "$RECIPIENT"; find_safety_recipient; echo "$RECIPIENT"'
CARRY = """
answer() { # each database has its ring in a file
    case $2 in
        *to_regclass*) [[ -e $ROOT/$1 ]] && echo t || echo f ;;
        SELECT*) cat "$ROOT/$1" ;;
    esac
}
restore_keys() {
    cat "$1" >"$ROOT/given"
    echo "key restore ${*:2}" >"$ROOT/asked"
    return STATUS
}
carry_keys before
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = checkout_in(tmp_path / "a checkout")
    (folder / "secrets").mkdir()
    for name in ("keys_identity", "backup_identity"):
        (folder / "secrets" / name).write_text(f"{IDENTITY}\n")
    (folder / ".env").write_text("KADUN_KEYS=database\n")
    return folder


def recipients(checkout: Path, setting: str) -> list[str]:
    """Return whom a backup and a safety copy are encrypted to."""
    (checkout / ".env").write_text(f"KADUN_BACKUP_RECIPIENT={setting}\n")
    return bash(checkout, FIND).stdout.split("\n")[:2]


def test_backups_are_encrypted_to_the_identity_here_unless_the_vendor_chose_otherwise(checkout: Path) -> None:
    ours = str(IDENTITY.to_public())
    assert recipients(checkout, "") == [ours, ours]
    assert recipients(checkout, OWN) == [OWN, ""], "what must be restored here is not sealed yet"
    assert recipients(checkout, "none") == ["", ""]
    (checkout / "secrets/backup_identity").unlink()
    (checkout / ".env").write_text("KADUN_BACKUP_RECIPIENT=\n")
    refused = bash(checkout, FIND)
    assert (refused.returncode, refused.stdout) == (1, ""), "never in clear by accident"
    assert "secrets/backup_identity is missing" in refused.stderr


def test_the_keys_of_a_replaced_database_go_on_where_they_are_newer(checkout: Path) -> None:
    ring = KeyRing.new(datetime(2026, 3, 1, tzinfo=UTC), "kadun")

    def carry(status: int = 0) -> subprocess.CompletedProcess[str]:
        return bash(checkout, CARRY.replace("STATUS", str(status)))

    (checkout / "before").write_text(sealing.seal_text(encoded(ring), str(IDENTITY)))
    done = carry()
    assert done.returncode == 0, done.stderr
    assert (checkout / "asked").read_text() == "key restore --only-newer\n"
    assert decoded((checkout / "given").read_bytes()) == ring
    assert carry(status=1).returncode == 1
    (checkout / "given").unlink()
    (checkout / "secrets/keys_identity").write_text(f"{pyrage.x25519.Identity.generate()}\n")
    done = carry()
    assert (done.returncode, "are left behind" in done.stderr) == (0, True)
    assert not (checkout / "given").exists(), "keys that do not open"
