"""The configuration of a database cluster, by its machines' addresses."""

import pytest
from cluster_settings import ClusterError, etcd_settings, patroni_settings, read_cluster

from tests.support.tables import for_each

pytestmark = pytest.mark.nightly

A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
PASSWORDS = {"replicator": "r" * 48, "rewind": "w" * 48}


@for_each(
    ("nodes", "witness", "clients", "said"),
    [
        ([A, B, "db3"], [], [], "db3 不是 IP 地址 is not an IP address"),
        ([A, B, "10.0.0.300"], [], [], "10.0.0.300 不是 IP 地址"),
        ([A, B, "127.0.0.1"], [], [], "127.0.0.1：其他机器无法访问 is not an address at which other machines reach"),
        ([A, B, "::"], [], [], "::：其他机器无法访问"),
        ([A, B, "224.0.0.1"], [], [], "224.0.0.1：其他机器无法访问"),
        ([A, B, "fe80::1"], [], [], "fe80::1：其他机器无法访问"),
        ([A, B], [B], [], "10.0.0.2 出现两次 is given twice"),
        (["fd00::1", "fd00:0::1", A], [], [], "fd00::1 出现两次 is given twice"),
        ([A, B], [], [], "want three --node, or two and one --witness: got 2 and 0"),
        ([A, B, C], ["10.0.0.4"], [], "got 3 and 1"),
        ([], [], [], "got 0 and 0"),
        ([A, B, C], [], ["apps"], "apps 不是地址或网段 is not an address or network"),
        ([A, B, C], [], ["10.0.1.1/24"], "10.0.1.1/24 不是地址或网段 is not an address or network: .* host bits set"),
        ([A, B, C], [], ["::/0"], "::/0 是所有人 is everybody"),
    ],
)
def test_a_wrong_address_is_named(nodes: list[str], witness: list[str], clients: list[str], said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        read_cluster(nodes, witness, clients)


def test_the_apps_are_on_the_databases_machines_unless_told_otherwise() -> None:
    assert read_cluster([A, B], [C], []).clients == [f"{A}/32", f"{B}/32"]
    assert read_cluster([A, B], [C], ["10.0.1.0/24", "fd00::7"]).clients == ["10.0.1.0/24", "fd00::7/128"]


def test_everybody_logs_in_over_tls_and_the_nodes_show_a_certificate() -> None:
    cluster = read_cluster([A, B], [C], ["10.0.1.0/24"])
    rules = patroni_settings(cluster, cluster.nodes[0], PASSWORDS)["postgresql"]["pg_hba"]  # type: ignore[index]
    by_socket = [rule for rule in rules if rule.startswith("local")]
    assert by_socket == ["local all postgres peer", "local replication replicator scram-sha-256"]
    others = [rule for rule in rules if rule not in by_socket]
    assert all(rule.startswith("hostssl ") and "scram-sha-256" in rule for rule in others)
    assert all("clientcert=verify-ca" in rule for rule in others if " replicator " in rule or " rewind " in rule)
    assert others[-1] == "hostssl all kadun_owner,kadun_app,kadun_backup 10.0.1.0/24 scram-sha-256"
    assert not any(C in rule for rule in rules)  # the witness has no database


def test_commits_wait_for_a_standby_where_there_are_two() -> None:
    for nodes, witness, strict in (([A, B, C], [], True), ([A, B], [C], False)):
        cluster = read_cluster(nodes, witness, [])
        kept = patroni_settings(cluster, cluster.nodes[0], PASSWORDS)["bootstrap"]["dcs"]  # type: ignore[index]
        assert (kept["synchronous_mode"], kept["synchronous_mode_strict"]) == ("quorum", strict)


def test_every_machine_votes_and_ipv6_addresses_stand_in_brackets() -> None:
    cluster = read_cluster(["fd00::1", B], [C], [])
    etcd = etcd_settings(cluster, cluster.members[0], "token")
    assert etcd["initial-cluster"] == f"node1=https://[fd00::1]:2380,node2=https://{B}:2380,witness=https://{C}:2380"
    assert etcd["listen-client-urls"] == "https://[fd00::1]:2379"
    assert etcd["listen-metrics-urls"] == "http://127.0.0.1:2381"
    for transport in ("client", "peer"):
        assert etcd[f"{transport}-transport-security"]["client-cert-auth"] is True  # type: ignore[index]
    patroni = patroni_settings(cluster, cluster.nodes[0], PASSWORDS)
    assert patroni["etcd3"]["hosts"] == ["[fd00::1]:2379", f"{B}:2379", f"{C}:2379"]  # type: ignore[index]
    assert patroni["restapi"]["verify_client"] == "required"  # type: ignore[index]
