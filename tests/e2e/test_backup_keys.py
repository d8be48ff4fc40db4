"""Which archives are opened, and which signing keys go on after the database was replaced."""

import io
import json
import subprocess
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from app.tokens import sealing
from app.tokens.keyring import decoded, encoded
from app.tokens.keys import KeyRing
from tests.support.hosts.backups import repacked
from tests.support.hosts.script_libraries import bash, checkout_in

IDENTITY = pyrage.x25519.Identity.generate()
CARRY = """
answer() { # each database has its ring in a file
    case $2 in
        *to_regclass*) [[ -e $ROOT/$1 ]] && echo t || echo f ;;
        SELECT*) cat "$ROOT/$1" ;;
    esac
}
compose() {
    local all=$*
    [[ $all == *' key '* ]] || return 0
    cat >"$ROOT/given"
    echo "key ${all##* key }" >"$ROOT/asked"
    return STATUS
}
migrate_and_carry_keys before
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = checkout_in(tmp_path / "a checkout")
    (folder / "secrets").mkdir()
    (folder / "secrets/keys_identity").write_text(f"{IDENTITY}\n")
    (folder / ".env").write_text("KADUN_KEYS=database\n")
    return folder


def test_the_keys_of_a_replaced_database_go_on_where_they_are_newer(checkout: Path) -> None:
    ring = KeyRing.new(datetime(2026, 3, 1, tzinfo=UTC))

    def carry(status: int = 0) -> subprocess.CompletedProcess[str]:
        return bash(checkout, CARRY.replace("STATUS", str(status)))

    (checkout / "before").write_text(sealing.seal_text(encoded(ring), str(IDENTITY)))
    done = carry()
    assert done.returncode == 0, done.stderr
    assert (checkout / "asked").read_text() == "key restore --only-newer -\n"
    assert decoded((checkout / "given").read_bytes()) == ring
    assert carry(status=1).returncode == 1
    (checkout / "given").unlink()
    (checkout / "secrets/keys_identity").write_text(f"{pyrage.x25519.Identity.generate()}\n")
    done = carry()
    assert (done.returncode, "are left behind" in done.stderr) == (0, True)
    assert not (checkout / "given").exists(), "keys that do not open"


def test_archives_of_release_1_0_are_opened_in_clear_and_encrypted(checkout: Path) -> None:
    manifest = {
        "schema": "0004_x",
        "created": "2026-01-01T00:00:00Z",
        "tables": {"card": [2, "17"]},
        "files": {"a b": "c" * 64},
    }
    plain = repacked(
        empty_tar(),
        lambda files: files.update({"manifest.json": json.dumps(manifest).encode(), "database.dump": b"rows"}),
    )
    encrypted = pyrage.encrypt(plain, [IDENTITY.to_public()])
    contents = f"schema 0004_x\ntaken 2026-01-01T00:00:00Z\nbytes 0\ntable card 2 17\nfile {'c' * 64} a b\n"
    for name, content, said in (
        ("kadun.tar", plain, ""),
        ("kadun.tar.age", encrypted, ""),
        ("other.tar.age", plain, "It is damaged or not a backup of Kadun's"),
    ):
        (checkout / name).write_bytes(content)
        code = f"""own_schema() {{ echo 0005_x; }}
        rm -rf "$ROOT/out" && mkdir "$ROOT/out" && open_archive "$ROOT/{name}" "$ROOT/out" "$ROOT/secrets/keys_identity"
        cat "$ROOT/out/contents"
        """
        done = bash(checkout, code)
        assert (done.stdout, said in done.stderr) == ("" if said else contents, True), done.stderr


def empty_tar() -> bytes:
    with tarfile.open(fileobj=(output := io.BytesIO()), mode="w"):
        pass
    return output.getvalue()
