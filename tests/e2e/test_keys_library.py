"""scripts/lib/keys.sh: the signing keys in the database, as the host's scripts use and keep them."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from app.tokens import sealing
from app.tokens.keyring import decoded, encoded
from app.tokens.keys import KeyRing
from tests.support.script_libraries import bash, checkout_in

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
IDENTITY = str(pyrage.x25519.Identity.generate())
ANSWER = """
answer() { # each database has its ring in a file
    case $2 in
        *to_regclass*) [[ -e $ROOT/$1 ]] && echo t || echo f ;;
        SELECT*) cat "$ROOT/$1" ;;
    esac
}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = checkout_in(tmp_path / "checkout")
    (folder / "secrets").mkdir()
    (folder / "secrets/keys_identity").write_text(f"{IDENTITY}\n")
    (folder / ".env").write_text("KADUN_KEYS=database\n")
    return folder


@pytest.fixture
def ring() -> KeyRing:
    return KeyRing.new(NOW, "kadun").rotated(NOW, "kadun")


def sealed(ring: KeyRing) -> str:
    """The row of a database with this ring."""
    return sealing.seal_text(encoded(ring), IDENTITY)


def test_archives_are_signed_with_the_keys_of_the_database(checkout: Path, ring: KeyRing) -> None:
    (checkout / "kadun").write_text(sealed(ring))
    code = 'find_signer; echo "$FINGERPRINT"; echo "${TRUST[*]}"; archive fingerprint "$KEYRING"'
    done = bash(checkout, ANSWER + code)
    kid, trust, again = done.stdout.splitlines()
    assert kid == again == ring.current.kid, done.stderr
    assert trust.startswith("--keys /proc/")
    assert list((checkout / "data").rglob("*")) == [checkout / "data/keys"], "the copy has no name"


@pytest.mark.parametrize("fault", ["no table", "no ring", "another identity"])
def test_keys_that_cannot_be_read_are_told_and_sign_nothing(checkout: Path, ring: KeyRing, fault: str) -> None:
    if fault != "no table":
        (checkout / "kadun").write_text(sealed(ring) if fault == "another identity" else "")
    if fault == "another identity":
        (checkout / "secrets/keys_identity").write_text(f"{pyrage.x25519.Identity.generate()}\n")
    done = bash(checkout, f"{ANSWER}find_signer || echo unsigned")
    assert done.stdout == "unsigned\n"
    assert "The signing keys in the database cannot be read" in done.stderr


CARRY = """
restore_keys() {
    cat "$1" >"$ROOT/given"
    echo "key restore ${*:2}" >"$ROOT/asked"
    echo "said of the keys" >&2
    return STATUS
}
carry_keys before
"""


def carry(checkout: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Carry the keys of database `before`; `key restore` ends with this status."""
    return bash(checkout, ANSWER + CARRY.replace("STATUS", str(status)))


def test_the_keys_of_a_replaced_database_go_on_where_they_are_newer(checkout: Path, ring: KeyRing) -> None:
    (checkout / "before").write_text(sealed(ring))
    done = carry(checkout)
    assert (done.returncode, done.stdout) == (0, "said of the keys\n"), done.stderr
    assert (checkout / "asked").read_text() == "key restore --only-newer\n"
    assert decoded((checkout / "given").read_bytes()) == ring
    failed = carry(checkout, status=1)
    assert failed.returncode == 1
    assert "The signing keys cannot be put in place: said of the keys" in failed.stderr


def test_keys_that_do_not_open_are_left_behind(checkout: Path, ring: KeyRing) -> None:
    (checkout / "before").write_text(sealed(ring))
    (checkout / "secrets/keys_identity").write_text(f"{pyrage.x25519.Identity.generate()}\n")
    done = carry(checkout)
    assert (done.returncode, "are left behind" in done.stderr) == (0, True)
    assert not (checkout / "given").exists()


def test_without_keys_in_the_database_none_are_carried(checkout: Path, ring: KeyRing) -> None:
    for before, settings in (("", "KADUN_KEYS=database\n"), (sealed(ring), "KADUN_KEYS=folder\n")):
        (checkout / "before").write_text(before)
        (checkout / ".env").write_text(settings)
        done = carry(checkout)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
