"""scripts/cluster-init.sh: secrets, certificates and configuration of a database cluster."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.service import ROOT
from tests.support.stack import copy_checkout, run

NODES = ("--node", "10.0.0.1", "--node", "10.0.0.2", "--witness", "10.0.0.3")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    copy_checkout(tmp_path)
    return tmp_path


def init(checkout: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run(checkout / "scripts/cluster-init.sh", *words, check=check, cwd="/")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_it_makes_everything_for_the_owner_alone_and_tells_no_secret(checkout: Path) -> None:
    done = init(checkout, *NODES)
    folder = checkout / "cluster/nodes"
    own = {"ca.crt", "etcd.yml", "tls.crt", "tls.key"}
    for name, files in (("node1", {*own, "patroni.yml"}), ("node2", {*own, "patroni.yml"}), ("witness", own)):
        assert {file.name for file in (folder / name).iterdir()} == files
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    for secret in ("token", "replicator", "rewind"):
        assert (folder / secret).read_text() not in done.stdout + done.stderr
    assert len({(folder / name).read_text() for name in ("token", "replicator", "rewind")}) == 3


def test_each_machine_has_a_certificate_for_its_own_address(checkout: Path) -> None:
    init(checkout, *NODES)
    folder = checkout / "cluster/nodes"
    for name, address, other in (("node1", "10.0.0.1", "10.0.0.2"), ("witness", "10.0.0.3", "10.0.0.1")):
        certificate = folder / name / "tls.crt"
        verify = ("openssl", "verify", "-CAfile", folder / "ca.crt", "-verify_ip")
        for purpose in ("sslserver", "sslclient"):
            run(*verify, address, "-purpose", purpose, certificate)
        assert run(*verify, other, certificate, check=False).returncode


def test_the_authority_outlives_a_certificate_that_is_renewed(checkout: Path) -> None:
    init(checkout, *NODES)
    ends = ("openssl", "x509", "-noout", "-checkend", str(19 * 365 * 86400), "-in")
    assert run(*ends, checkout / "cluster/nodes/ca.crt", check=False).returncode == 0


def test_a_node_starts_beside_a_folder_that_was_copied_into_its_configuration(tmp_path: Path) -> None:
    tools = {"chown": "", "setpriv": "echo started", "install": 'shift 2; exec /usr/bin/install "$@"'}
    for name, text in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "etc/node1").mkdir(parents=True)
    (tmp_path / "etc/etcd.yml").touch()
    (tmp_path / "run").mkdir()
    script = (ROOT / "cluster/entrypoint.sh").read_text()
    script = script.replace("/etc/kadun", f"{tmp_path}/etc").replace("/run/kadun", f"{tmp_path}/run")
    done = run("bash", "-c", script, "x", tmp_path, env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert done.stdout == "started\n"
    assert contents(tmp_path / "run") == {"etcd.yml": b""}


def test_a_second_run_changes_nothing_and_makes_what_is_missing(checkout: Path) -> None:
    init(checkout, *NODES)
    folder = checkout / "cluster/nodes"
    before = contents(folder)
    assert "nothing changed" in init(checkout, *NODES).stdout
    assert contents(folder) == before
    (folder / "node2/tls.crt").unlink()
    assert "node2/tls.crt" in init(checkout, *NODES).stdout
    after = contents(folder)
    assert after.pop("node2/tls.crt") != before.pop("node2/tls.crt")
    assert after == before


def test_other_machines_and_bad_addresses_are_refused_with_a_line(checkout: Path) -> None:
    refused = init(checkout, *NODES[:-1], "witness.example", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("cluster-init.sh: witness.example 不是 IP 地址 is not an IP address")
    assert not (checkout / "cluster/nodes").exists()
    init(checkout, *NODES)
    before = contents(checkout / "cluster/nodes")
    refused = init(checkout, *NODES[:-1], "10.0.0.4", check=False)
    assert refused.returncode == 1
    assert "node1 10.0.0.1, node2 10.0.0.2, witness 10.0.0.3" in refused.stderr
    assert contents(checkout / "cluster/nodes") == before


def test_another_app_machine_changes_who_may_log_in_and_nothing_else(checkout: Path) -> None:
    init(checkout, *NODES, "--app", "10.0.0.4")
    folder = checkout / "cluster/nodes"
    tuned = folder / "node1/patroni.yml"
    tuned.write_text(tuned.read_text().replace("128MB", "512MB"))
    before = contents(folder)
    done = init(checkout, *NODES, "--app", "10.0.0.4", "--app", "10.0.0.5")
    assert "docker compose restart database" in done.stdout
    after = contents(folder)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"cluster.json", "node1/patroni.yml", "node2/patroni.yml"}
    for name in ("node1/patroni.yml", "node2/patroni.yml"):
        old, new = (json.loads(each[name])["postgresql"] for each in (before, after))
        added = "hostssl all kadun_owner,kadun_app,kadun_backup 10.0.0.5/32 scram-sha-256"
        assert new == old | {"pg_hba": [*old["pg_hba"], added]}
    assert "nothing changed" in init(checkout, *NODES, "--app", "10.0.0.4", "--app", "10.0.0.5").stdout
    assert "apps 10.0.0.4/32, 10.0.0.5/32" in init(checkout, *NODES, check=False).stderr, "no --app was forgotten"
    assert contents(folder) == after
