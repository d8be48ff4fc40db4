"""AllFacts of a healthy installation, changes of them, and the results of `cardctl doctor` on them."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from app.services.system.doctor.checks import run_checks
from app.services.system.doctor.facts import AllFacts, DatabaseFacts, HostFacts, ServiceFacts
from app.services.system.doctor.host import GIB, SERVICES
from app.services.system.doctor.results import CheckResult, Status
from app.storage.models import Host
from tests.support.services.pki import Issued

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def pem(*names: str, days: float = 90, since: float = 1) -> str:
    """A certificate for these names, which ends in so many days."""
    first_day = (NOW - datetime.now(UTC)) / timedelta(days=1) - since
    issued = Issued.make(*names or ("an authority",), authority=not names, first_day=first_day, days=days + since)
    return issued.pem.decode()


GOOD_PEM = pem("example.com", "*.example.org", "203.0.113.9")
REFERENCE = "ABCD2345"


def handshake(certificates: str, code: int = 0) -> str:
    return f"{certificates}\n    Verify return code: {code} (ok)"


def answer(reference: str) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"jti": f"0000{reference}"}).encode()).decode().rstrip("=")
    return json.dumps({"code": "CARD_NOT_FOUND", "token": f"e30.{claims}.c2ln"})


def container(service: str, **changes: Any) -> dict[str, Any]:
    healthy = {"state": "running", "health": "healthy", "exit_code": 0, "out_of_memory": False, "restarts": 0}
    return {"service": service, "config_hash": f"hash of {service}"} | healthy | changes


DISK = {"folder": "/d", "size": 100 * GIB, "free": 50 * GIB, "inodes": 1000, "inodes_free": 900}
PROBE = {"host": "127.0.0.1", "address": "::ffff:127.0.0.1", "status": 404, "answer": answer(REFERENCE)}
BY_NAME = {"host": "card.example.com", "address": "10.0.0.5", "status": 404, "answer": answer("OUTSIDE1")}
HOST: dict[str, Any] = {
    "now": NOW.isoformat(),
    "settings": {"KADUN_DOMAIN": "example.com", "KADUN_HTTP_PORT": None, "KADUN_IDENTITY_COPIED": "yes"},
    "unreadable_lines": [],
    "moved_to": None,
    "installed": 0,
    "containers": [*map(container, SERVICES), container("migrate", state="exited", health=None)],
    "config_hashes": {service: f"hash of {service}" for service in SERVICES},
    "tls_handshake": handshake(GOOD_PEM),
    "trust_store": True,
    "proxy": [PROBE],
    "disks": [DISK],
    "modes": {
        "secrets": 0o700,
        "secrets/database_url": 0o600,
        "https_certificates/privkey.pem": 0o600,
        "data/keys": 0o700,
        "data/keys/keyring.json": 0o600,
    },
    "last_good": "2026-11-25T03:30:00Z kadun-1.tar.age",
    "last_verified": "2026-11-22T04:47:00Z kadun-0.tar.age",
    "last_away": "2026-11-25T03:31:00Z kadun-1.tar.age",
    "has_backup": True,
    "has_hooks": True,
    "has_identity": True,
    "cron": "installed",
}
HOST_ROW: dict[str, Any] = {"name": "web-1", "version": "1.0", "schema": "0001_initial", "kid": "current"}
HOST_ROW |= {"functions_sha256": "f" * 64, "clock_offset_ms": 10, "seen_at": NOW, "unseen_seconds": 5.0}
DATABASE = DatabaseFacts(
    schema_found="0001_initial",
    clock_offset_seconds=0.01,
    recorded={REFERENCE: "127.0.0.1", "OUTSIDE1": "8.8.4.4", "OWNADDR1": "10.0.0.5", "BALANCER": "10.0.0.2"},
    files=2,
    operators={},
    sealed={},
    hosts=(Host(**HOST_ROW),),
)
SERVICE = ServiceFacts(
    settings_error=None,
    behind_proxy=True,
    schema_expected="0001_initial",
    database=DATABASE,
    key_ids=("current", "next"),
    key_modes={"/keys": 0o700, "/keys/keyring.json": 0o600},
    keys_moved_to=None,
    newest_key_at=NOW,
    data_key=(True,),
    data_key_length=74,
    data_key_in_use=True,
    clock_synchronised=True,
)
SERVICE_CHECKS = {
    *("settings", "permissions", "database", "schema", "durability", "hosts", "keys", "data-key", "data-key-in-use"),
    *("files", "functions", "clock", "sealing-key"),
}
"""Those that need no facts of the host."""


def host_facts(**changes: Any) -> HostFacts:
    """The facts of a healthy host, with changes."""
    return msgspec.json.decode(json.dumps(HOST | changes), type=HostFacts)


def checked(service: ServiceFacts = SERVICE, **host: Any) -> dict[str, CheckResult]:
    return run_checks(AllFacts(host_facts(**host), service))


def differing(results: dict[str, CheckResult]) -> dict[str, str]:
    return {check: result.status.value for check, result in results.items() if result.status is not Status.OK}


def setting(name: str, value: str | None) -> dict[str, Any]:
    return {"settings": HOST["settings"] | {name: value}}


def containers(*changed: dict[str, Any]) -> dict[str, Any]:
    by_service = {c["service"]: c for c in [*HOST["containers"], *changed]}
    return {"containers": list(by_service.values())}


def database(**changes: Any) -> dict[str, Any]:
    return {"database": replace(DATABASE, **changes)}
