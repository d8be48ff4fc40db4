"""deploy/cluster/init.sh: certificates and settings of a database cluster."""

import stat
from pathlib import Path

import pytest

from tests.support.hosts.stack import ROOT, copy_checkout, run

NODES = ("--node", "10.0.0.1", "--node", "10.0.0.2", "--witness", "10.0.0.3")


def test_it_makes_everything_once_for_the_owner_alone_and_each_certificate_for_its_own_address(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    "arguments",
    [NODES[:-2], (*NODES, "--node", "10.0.0.4"), *((*NODES[:-1], it) for it in ("10.0.0.1", "127.0.0.1", "db.test"))],
)
def test_addresses_that_cannot_be_a_cluster_are_refused(arguments: tuple[str, ...]) -> None:
    refused = run(ROOT / "deploy/cluster/init.sh", *arguments, check=False)
    assert (refused.returncode, "want three --node, or two and one --witness" in refused.stderr) == (2, True)
    assert not (ROOT / "deploy/cluster/nodes").exists()
