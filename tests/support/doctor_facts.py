"""Facts of a healthy installation, changes of them, and the results of `cardctl doctor` on them."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.domain.hosts import HostReport
from app.services.doctor import CheckResult, Facts, HostFacts, Status, run_checks
from app.services.doctor.facts import DatabaseFacts, ServiceFacts
from app.services.doctor.host import SERVICES
from app.storage.catalog import CatalogDifference

PEM = serialization.Encoding.PEM
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LOCAL_SOCKETS = """\
udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=1,fd=1))
udp UNCONN 0 0 10.0.0.5%eth0:68 0.0.0.0:*
udp UNCONN 0 0 [fe80::1]%eth0:546 [::]:*
tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=2,fd=3))
tcp LISTEN 0 128 *:2222 *:* users:(("sshd",pid=3,fd=3))
tcp LISTEN 0 128 0.0.0.0:80 0.0.0.0:*
tcp LISTEN 0 128 [::]:443 [::]:*
tcp LISTEN 0 128 [::1]:5432 [::]:*
tcp LISTEN 0 128 [::ffff:127.0.0.1]:631 *:*
tcp LISTEN 0 128 172.17.0.1:5432 0.0.0.0:* users:(("postgres",pid=9,fd=5))"""
UFW = """\
Status: active
Logging: on (low)
Default: deny (incoming), allow (outgoing), deny (routed)

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW IN    Anywhere
2222/tcp                   LIMIT IN    Anywhere
80,443/tcp                 ALLOW IN    Anywhere                   # nginx
5000                       ALLOW IN    10.0.0.0/8
22/tcp (OpenSSH (v6))      ALLOW IN    Anywhere (v6)"""


def _limits(family: str, source: str) -> str:
    """What nftables lists of the rules for the connections that an address holds and for new ones."""
    held = f"ct state new add @{family} {{ {family} {source} ct count over 128 }}"
    new = f"update @new_{family} {{ {family} {source} limit rate over 10/second burst 128 packets }}"
    limits = (held, f"tcp flags & (fin | syn | rst | ack) == syn {new}")
    return "".join(f"tcp dport {{ 80, 443 }} {limit} counter packets 0 bytes 0 reject\n" for limit in limits)


CONNECTION_LIMITS = _limits("ip", "saddr") + _limits("ip6", "saddr & ffff:ffff:ffff:ffff::")

_KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC_KEY = _KEY.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def pem(*names: str, days: float = 90, since: float = 1) -> str:
    """A certificate for these names, which ends in so many days."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(_KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=since))
        .not_valid_after(NOW + timedelta(days=days))
    )
    if names:
        general = [x509.DNSName(n) if not n[-1].isdigit() else x509.IPAddress(ip_address(n)) for n in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=True)
    return builder.sign(_KEY, hashes.SHA256()).public_bytes(PEM).decode()


GOOD_PEM = pem("example.com", "*.example.org", "203.0.113.9")
REFERENCE = "ABCD2345"


def handshake(certificates: str, code: int = 0) -> str:
    return f"{certificates}\n    Verify return code: {code} (ok)"


def answer(reference: str) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"jti": f"0000{reference}"}).encode()).decode().rstrip("=")
    return json.dumps({"code": "CARD_NOT_FOUND", "token": f"e30.{claims}.c2ln"})


def container(service: str, **changes: Any) -> dict[str, Any]:
    return {
        "service": service,
        "oneoff": "False",
        "state": "running",
        "health": "healthy",
        "exit_code": 0,
        "out_of_memory": False,
        "started": "2026-11-25T11:00:00.123456789Z",
        "restarts": 0,
        "image": f"sha256:{service}",
        "image_name": service,
        "config_hash": f"hash of {service}",
    } | changes


MIGRATION = container("migrate", state="exited", health=None)
DISK = {"folder": "/d", "block_bytes": 1 << 20, "blocks": 100 << 10, "blocks_free": 50 << 10} | {
    "inodes": 1000,
    "inodes_free": 900,
}
PROBE = {"host": "198.51.100.1", "address": "::ffff:198.51.100.1", "status": 404, "answer": answer(REFERENCE)}
PERMISSIONS = """\
700 0 secrets
600 10001 secrets/database_url
600 0 https_certificates/privkey.pem
700 10001 data/keys
600 10001 data/keys/keyring.json"""
HOST: dict[str, Any] = {
    "now": NOW.isoformat(),
    "settings": {"KADUN_DOMAIN": "example.com", "KADUN_HTTP_PORT": None, "KADUN_HTTPS_PORT": "443"},
    "unreadable_lines": [],
    "containers": [*map(container, SERVICES), MIGRATION],
    "images": {"database": "sha256:database", "app": "sha256:app", "nginx": None},
    "config_hashes": {service: f"hash of {service}" for service in SERVICES},
    "other_projects": [],
    "other_stacks": {"8081/tcp": "shop"},
    "program": {"wsgi.py": "digest"},
    "tls_handshake": handshake(GOOD_PEM),
    "certificate": GOOD_PEM,
    "certificate_key": PUBLIC_KEY,
    "trust_store": True,
    "proxy": [PROBE],
    "disks": {"data": DISK, "backups": DISK, "database": DISK},
    "last_good": "2026-11-25T03:30:00Z kadun-1.dump",
    "last_verified": "2026-11-22T04:47:00Z kadun-0.dump",
    "last_away": "2026-11-25T03:31:00Z kadun-1.dump",
    "backup_bytes": 9,
    "backup_checksum": "ok",
    "backup_hooks": 1,
    "backup_identity": "copied",
    "installed": 0,
    "cron_table": "17 3 * * * root /opt/kadun/scripts/backup.sh --quiet\n",
    "cron_expected": "17 3 * * * root /opt/kadun/scripts/backup.sh --quiet\n",
    "cron_mode": "644 0",
    "cron_runs": True,
    "sockets": LOCAL_SOCKETS,
    "ssh_ports": "22",
    "bridges": ["172.17.0.1", "fe80::42"],
    "ufw": UFW,
    "connection_limits": CONNECTION_LIMITS,
    "ipv6_unfiltered": False,
    "permissions": PERMISSIONS,
    "inodes": {"data/keys": 1, "data/files": 2},
    "secrets_in_env": None,
    "moved_to": None,
}
HOST_REPORT = HostReport("web-1", "1.0", "0001_initial", "current", "f" * 64, 10, NOW, 5.0)
DATABASE = DatabaseFacts(
    "0001_initial",
    0.01,
    {"kadun_app": []},
    catalog=CatalogDifference(),
    recorded={REFERENCE: "198.51.100.1", "OUTSIDE1": "8.8.4.4", "OWNADDR1": "10.0.0.5", "BALANCER": "10.0.0.2"},
    files=2,
    compared_files=2,
    operators={},
    without_ceilings=(),
    expiring_tokens=(),
    sealed={},
    hosts=(HOST_REPORT,),
)
SERVICE = ServiceFacts(
    settings_error=None,
    behind_proxy=True,
    schema_expected="0001_initial",
    database=DATABASE,
    key_ids=("current", "next"),
    data_key=(True,),
    data_key_length=74,
    data_key_in_use=True,
    key_modes={"/keys": 0o700, "/keys/keyring.json": 0o600},
    clock_synchronised=True,
    program={"wsgi.py": "digest"},
    inodes={"data/keys": 1, "data/files": 2, "secrets/kernal_data_key": 3},
)


SERVICE_CHECKS = {
    *("permissions", "settings", "database", "schema", "catalog", "roles", "rights", "durability"),
    *("keys", "data-key", "data-key-in-use", "files", "file-digests", "functions", "clock"),
    *("ceilings", "tokens", "sealing-key", "hosts"),
}
"""Those that need no facts of the host."""
DATABASE_CHECKS = (
    *("schema", "catalog", "roles", "rights", "durability", "files", "file-digests"),
    *("console", "ceilings", "tokens", "sealing-key", "hosts", "proxy"),
)
"""Those that need the database."""


def host_facts(**changes: Any) -> HostFacts:
    """The facts of a healthy host, with changes."""
    return msgspec.json.decode(json.dumps(HOST | changes), type=HostFacts)


BY_NAME = PROBE | {"host": "card.example.com", "address": "10.0.0.5", "answer": answer("OUTSIDE1")}
PUBLISHED = 'tcp LISTEN 0 128 0.0.0.0:8080 0.0.0.0:* users:(("docker-proxy",pid=9,fd=5))'


def stranger(address: str) -> str:
    return f'tcp LISTEN 0 128 {address}:5000 {address}:* users:(("python3",pid=9,fd=5))'


STRANGER = stranger("0.0.0.0")  # noqa: S104


def checked(service: ServiceFacts = SERVICE, **host: Any) -> dict[str, CheckResult]:
    return run_checks(Facts(host_facts(**host), service))


def differing(results: dict[str, CheckResult]) -> dict[str, str]:
    return {check: result.status.value for check, result in results.items() if result.status is not Status.OK}


def setting(name: str, value: str | None) -> dict[str, Any]:
    return {"settings": HOST["settings"] | {name: value}}


def containers(*changed: dict[str, Any]) -> dict[str, Any]:
    by_service = {c["service"]: c for c in [*HOST["containers"], *changed]}
    return {"containers": list(by_service.values())}


def sockets(*lines: str) -> dict[str, Any]:
    return {"sockets": "\n".join([LOCAL_SOCKETS, *lines])}


def served(text: str) -> dict[str, Any]:
    return {"tls_handshake": handshake(text), "certificate": text}


def database(**changes: Any) -> dict[str, Any]:
    return {"database": replace(DATABASE, **changes)}
