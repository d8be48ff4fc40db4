"""scripts/cluster-init.sh and the balancer's start: secrets, certificates and limits of a database cluster."""

import os
import stat
from pathlib import Path

from tests.support.stack import ROOT, copy_checkout, run

NODES = ("--node", "10.0.0.1", "--node", "10.0.0.2", "--witness", "10.0.0.3")


def test_it_makes_everything_once_for_the_owner_alone_and_each_certificate_for_its_own_address(tmp_path: Path) -> None:
    copy_checkout(tmp_path)
    script, folder = tmp_path / "scripts/cluster-init.sh", tmp_path / "deploy/cluster/nodes"
    done = run(script, *NODES, cwd="/")
    own = {"ca.crt", "etcd.yml", "tls.crt", "tls.key"}
    for name, files in (("node1", {*own, "patroni.yml"}), ("node2", {*own, "patroni.yml"}), ("witness", own)):
        assert {file.name for file in (folder / name).iterdir()} == files
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    secrets = [(folder / secret).read_text() for secret in ("token", "replicator", "rewind")]
    assert len(set(secrets)) == 3
    assert not [secret for secret in secrets if secret in done.stdout + done.stderr]

    for name, address, other in (("node1", "10.0.0.1", "10.0.0.2"), ("witness", "10.0.0.3", "10.0.0.1")):
        certificate = folder / name / "tls.crt"
        verify = ("openssl", "verify", "-CAfile", folder / "ca.crt", "-verify_ip")
        for purpose in ("sslserver", "sslclient"):
            run(*verify, address, "-purpose", purpose, certificate)
        assert run(*verify, other, certificate, check=False).returncode

    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert "nothing changed" in run(script, *NODES, cwd="/").stdout
    refused = run(script, *NODES[:-1], "10.0.0.4", check=False, cwd="/")
    assert (refused.returncode, "witness 10.0.0.3" in refused.stderr) == (1, True)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_the_balancer_limits_the_connections_of_an_address_and_of_a_site(tmp_path: Path) -> None:
    script = (ROOT / "deploy/cluster/balancer/haproxy.sh").read_text()
    moved = script.replace("/run/haproxy.cfg", str(tmp_path / "haproxy.cfg")).replace("exec haproxy", "exec true")
    environment = {"PATH": os.environ["PATH"], "KADUN_APPS": "10.0.0.1", "KADUN_CONNECTIONS": "100"}
    run("bash", "-c", moved, env=environment)
    text = (tmp_path / "haproxy.cfg").read_text()
    limits = "tcp-request connection reject if { sc0_conn_cur gt 100 } || { sc1_conn_cur gt 400 }"
    tracks = "tcp-request connection track-sc1 src,ipmask(32,48) table sites"
    assert (text.count(limits), text.count(tracks), text.count("bind 0.0.0.0:")) == (2, 2, 2)
    refused = run("bash", "-c", moved, env=environment | {"KADUN_APPS": "10.0.0.1,app2"}, check=False)
    assert (refused.returncode, "'app2' is not an IP address" in refused.stderr) == (1, True)
