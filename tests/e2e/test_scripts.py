"""Scripts with nothing behind them: help and slips of the pen, a cluster's certificates, archives and keys in bash."""

import io
import json
import stat
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
from tests.support.hosts.stack import bash, checkout_in, copy_checkout, run
from tests.support.services.service import ROOT

NO_SUCH = "--no-such-argument"


def test_each_script_has_help_through_a_link_and_refuses_an_unknown_argument_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkout").symlink_to(ROOT)
    folder = tmp_path / "a folder"
    folder.mkdir()
    names = [file.name for file in (ROOT / "scripts").iterdir() if file.is_file()]
    assert {"cardctl", "provision.sh"} <= set(names)
    for name in names:
        assert name == "cardctl" or name.endswith(".sh")
        told = run(f"../checkout/scripts/{name}", "--help", cwd=folder, input="")
        assert (told.stderr, name in told.stdout) == ("", True)
        refused = run(ROOT / "scripts" / name, NO_SUCH, check=False, cwd=folder, input="")
        assert refused.stdout == ""
        if name in {"bench.sh", "cardctl"}:  # where no service runs cardctl says that first; argparse takes three lines
            assert refused.returncode in {1, 2}
        else:
            assert (refused.returncode, NO_SUCH in refused.stderr, refused.stderr.count("\n")) == (2, True, 1), name
    assert list(folder.iterdir()) == []


NODES = ("--node", "10.0.0.1", "--node", "10.0.0.2", "--witness", "10.0.0.3")


def test_a_clusters_init_makes_all_once_for_the_owner_alone_and_each_certificate_for_its_own_address(
    tmp_path: Path,
) -> None:
    copy_checkout(tmp_path)
    script, folder = tmp_path / "deploy/cluster/init.sh", tmp_path / "deploy/cluster/nodes"
    run(script, *NODES, cwd="/")
    for name in ("node1", "node2", "witness"):
        assert {file.name for file in (folder / name).iterdir()} == {
            "ca.crt", "node.env", "tls.crt", "tls.key", "witness.yml",
        }  # fmt: skip
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path

    for name, address, other in (("node1", "10.0.0.1", "10.0.0.2"), ("witness", "10.0.0.3", "10.0.0.1")):
        certificate = folder / name / "tls.crt"
        verify = ("openssl", "verify", "-CAfile", folder / "ca.crt", "-verify_ip")
        for purpose in ("sslserver", "sslclient"):
            run(*verify, address, "-purpose", purpose, certificate)
        assert run(*verify, other, certificate, check=False).returncode

    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert "nothing changed" in run(script, *NODES, cwd="/").stdout
    refused = run(script, *NODES[:-1], "10.0.0.4", check=False, cwd="/")
    assert (refused.returncode, "witness=10.0.0.3" in refused.stderr) == (1, True)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before

    stolen = tmp_path / "stolen.crt"
    stolen.write_bytes((folder / "node2/tls.crt").read_bytes())
    run(script, *NODES, "--new-authority", cwd="/")
    run("openssl", "verify", "-CAfile", folder / "node1/ca.crt", folder / "node2/tls.crt")
    assert run("openssl", "verify", "-CAfile", folder / "node1/ca.crt", stolen, check=False).returncode

    of_witness = ("10.0.0.1", "127.0.0.1", "db.test")
    for wrong in (NODES[:-2], (*NODES, "--node", "10.0.0.4"), *((*NODES[:-1], address) for address in of_witness)):
        refused = run(script, *wrong, check=False)
        assert (refused.returncode, "want three --node, or two and one --witness" in refused.stderr) == (2, True), wrong


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
