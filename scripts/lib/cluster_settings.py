"""The machines of a database cluster, and the configuration of etcd and Patroni on each. For lib/cluster.py."""

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

WITNESS = "witness"
ROLES = ("kadun_owner", "kadun_app", "kadun_backup")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ClusterError(Exception):
    """What is wrong with the addresses or the folder, in Chinese and English."""


class Member(NamedTuple):
    """A machine with etcd; a witness has no PostgreSQL."""

    name: str
    address: str

    @property
    def is_witness(self) -> bool:
        """Whether it only votes."""
        return self.name == WITNESS


class Cluster(NamedTuple):
    """Three machines, and the networks of the app stacks."""

    members: list[Member]
    clients: list[str]

    @property
    def nodes(self) -> list[Member]:
        """The machines with PostgreSQL."""
        return [member for member in self.members if not member.is_witness]


def read_cluster(nodes: list[str], witness: list[str], clients: list[str]) -> Cluster:
    """Check the addresses, and name the machines.

    Raises:
        ClusterError: naming the address and what would have been right.
    """
    addresses = [_read_address(word) for word in (*nodes, *witness)]
    for address in addresses:
        if addresses.count(address) > 1:
            raise ClusterError(f"{address} 出现两次 is given twice: each machine has an address of its own")
    if (len(nodes), len(witness)) not in {(3, 0), (2, 1)}:
        raise ClusterError(
            "须为三个 --node，或两个 --node 加一个 --witness："
            f"want three --node, or two and one --witness: got {len(nodes)} and {len(witness)}"
        )
    members = [Member(f"node{number}", address) for number, address in enumerate(addresses[: len(nodes)], 1)]
    members += [Member(WITNESS, address) for address in addresses[len(nodes) :]]
    networks = [_read_network(word) for word in clients or nodes]
    return Cluster(members, [str(network) for network in networks])


def _read_address(word: str) -> str:
    try:
        address = ipaddress.ip_address(word)
    except ValueError:
        raise ClusterError(
            f"{word} 不是 IP 地址 is not an IP address: names would need a DNS server that never fails"
        ) from None
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        raise ClusterError(f"{word}：其他机器无法访问 is not an address at which other machines reach this one")
    return str(address)


def _read_network(word: str) -> Network:
    try:
        network = ipaddress.ip_network(word)
    except ValueError as error:
        raise ClusterError(f"{word} 不是地址或网段 is not an address or network: {error}") from None
    if network.prefixlen == 0:
        raise ClusterError(f"{word} 是所有人 is everybody: name the app machines' addresses")
    return network


def in_url(address: str) -> str:
    """Write an address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address


def etcd_settings(cluster: Cluster, member: Member, token: str) -> dict[str, object]:
    """Return etcd's configuration file."""
    host = in_url(member.address)
    security = {
        "cert-file": "/run/kadun/tls.crt",
        "key-file": "/run/kadun/tls.key",
        "trusted-ca-file": "/run/kadun/ca.crt",
        "client-cert-auth": True,
    }
    return {
        "name": member.name,
        "data-dir": "/var/lib/etcd/data",
        "listen-peer-urls": f"https://{host}:2380",
        "initial-advertise-peer-urls": f"https://{host}:2380",
        "listen-client-urls": f"https://{host}:2379",
        "advertise-client-urls": f"https://{host}:2379",
        "listen-metrics-urls": "http://127.0.0.1:2381",
        "initial-cluster": ",".join(f"{other.name}=https://{in_url(other.address)}:2380" for other in cluster.members),
        "initial-cluster-state": "new",
        "initial-cluster-token": token,
        "client-transport-security": security,
        "peer-transport-security": security,
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        "log-level": "warn",
    }


def dynamic_settings(cluster: Cluster) -> dict[str, object]:
    """Return what the cluster keeps in etcd; docs/decisions.md says what each choice costs."""
    return {
        "ttl": 20,
        "loop_wait": 5,
        "retry_timeout": 5,
        "synchronous_mode": "quorum",
        # With a witness one standby is all there is: its loss, or a failover to it, would stop all commits.
        "synchronous_mode_strict": not any(member.is_witness for member in cluster.members),
        "synchronous_node_count": 1,
        "failsafe_mode": False,
        "primary_start_timeout": 0,
        "primary_stop_timeout": 10,
        "postgresql": {
            "use_pg_rewind": True,
            "use_slots": True,
            "parameters": {
                "max_connections": 200,
                "max_slot_wal_keep_size": "8GB",
                "max_wal_size": "2GB",
                "checkpoint_timeout": "15min",
                "wal_compression": "on",
                "wal_keep_size": "1GB",
                "wal_receiver_timeout": "10s",
                "wal_sender_timeout": "10s",
                "tcp_keepalives_idle": 5,
                "tcp_keepalives_interval": 3,
                "tcp_keepalives_count": 3,
                "tcp_user_timeout": 8_000,
                "password_encryption": "scram-sha-256",
                "ssl": "on",
                "ssl_ca_file": "/run/kadun/ca.crt",
                "ssl_cert_file": "/run/kadun/tls.crt",
                "ssl_key_file": "/run/kadun/tls.key",
                "ssl_min_protocol_version": "TLSv1.3",
            },
        },
    }


def patroni_settings(cluster: Cluster, member: Member, passwords: dict[str, str]) -> dict[str, object]:
    """Return Patroni's configuration file."""
    host = in_url(member.address)
    tls = {"certfile": "/run/kadun/tls.crt", "keyfile": "/run/kadun/tls.key"}
    by_certificate = {
        "sslmode": "verify-full",
        "sslrootcert": "/run/kadun/ca.crt",
        "sslcert": "/run/kadun/tls.crt",
        "sslkey": "/run/kadun/tls.key",
    }
    return {
        "scope": "kadun",
        "name": member.name,
        "log": {"level": "INFO"},
        "restapi": {
            "listen": f"{host}:8008",
            "connect_address": f"{host}:8008",
            "cafile": "/run/kadun/ca.crt",
            "verify_client": "required",
            **tls,
        },
        "ctl": {"cacert": "/run/kadun/ca.crt", **tls},
        "etcd3": {
            "hosts": [f"{in_url(other.address)}:2379" for other in cluster.members],
            "protocol": "https",
            "cacert": "/run/kadun/ca.crt",
            "cert": "/run/kadun/tls.crt",
            "key": "/run/kadun/tls.key",
        },
        "bootstrap": {
            "dcs": dynamic_settings(cluster),
            # Collation of PostgreSQL's own: indexes are the same under every version of the system's library.
            "initdb": [
                "data-checksums",
                {"encoding": "UTF8"},
                {"locale": "C"},
                {"locale-provider": "builtin"},
                {"builtin-locale": "C.UTF-8"},
            ],
        },
        "postgresql": {
            "listen": f"{host}:5432",
            "connect_address": f"{host}:5432",
            "data_dir": "/var/lib/postgresql/data/pgdata",
            "pgpass": "/run/postgresql/.pgpass",
            "use_unix_socket": True,
            "use_unix_socket_repl": True,
            "parameters": {"unix_socket_directories": "/run/postgresql", "shared_buffers": "128MB"},
            "authentication": {
                "superuser": {"username": "postgres"},
                "replication": {"username": "replicator", "password": passwords["replicator"], **by_certificate},
                "rewind": {"username": "rewind", "password": passwords["rewind"], **by_certificate},
            },
            "pg_hba": list(access(cluster)),
        },
        "watchdog": {"mode": "automatic"},
    }


def access(cluster: Cluster) -> Iterator[str]:
    """Return who may log in, and how: the lines of pg_hba.conf."""
    # The administrator: user postgres in the container, by its socket alone.
    yield "local all postgres peer"
    yield "local replication replicator scram-sha-256"
    for node in cluster.nodes:
        address = ipaddress.ip_network(node.address)
        yield f"hostssl replication replicator {address} scram-sha-256 clientcert=verify-ca"
        yield f"hostssl postgres rewind {address} scram-sha-256 clientcert=verify-ca"
    for network in cluster.clients:
        yield f"hostssl all {','.join(ROLES)} {network} scram-sha-256"
