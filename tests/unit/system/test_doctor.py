"""The checks of `cardctl doctor`: for each, facts that change its result, and what that says; and the host's facts.

tests/containers/test_doctor.py has what hostfacts.py gathers of the engine and the network.
"""
# Owns doctor.

import base64
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hostfacts
import msgspec
import pytest

from app.domain.texts import Text
from app.services.system.doctor.checks import CHECKS, run_checks
from app.services.system.doctor.facts import AllFacts, DatabaseFacts, HostFacts, ServiceFacts
from app.services.system.doctor.host import GIB, MIB, SERVICES
from app.services.system.doctor.results import CheckResult, Status
from app.storage.models import Host
from tests.support.services.pki import Issued
from tests.support.tables import for_each

Facts = dict[str, Any]
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


def container(service: str, **changes: Any) -> Facts:
    healthy = {"state": "running", "health": "healthy", "exit_code": 0, "out_of_memory": False, "restarts": 0}
    return {"service": service, "config_hash": f"hash of {service}"} | healthy | changes


DISK = {"folder": "/d", "size": 100 * GIB, "free": 50 * GIB, "inodes": 1000, "inodes_free": 900}
PROBE = {"host": "127.0.0.1", "address": "::ffff:127.0.0.1", "status": 404, "answer": answer(REFERENCE)}
BY_NAME = {"host": "card.example.com", "address": "10.0.0.5", "status": 404, "answer": answer("OUTSIDE1")}
PRIVATE = ("secrets/database_url", "https_certificates/privkey.pem", "data/keys/keyring.json")
HOST: Facts = {
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
    "modes": dict.fromkeys(("secrets", "data/keys"), 0o700) | dict.fromkeys(PRIVATE, 0o600),
    "last_good": "2026-11-25T03:30:00Z kadun-1.tar.age",
    "last_verified": "2026-11-22T04:47:00Z kadun-0.tar.age",
    "last_away": "2026-11-25T03:31:00Z kadun-1.tar.age",
    "has_backup": True,
    "has_hooks": True,
    "has_identity": True,
    "cron": "installed",
}
HOST_ROW: Facts = {"name": "web-1", "version": "1.0", "schema": "0001_initial", "kid": "current"}
HOST_ROW |= {"functions_sha256": "f" * 64, "clock_offset_ms": 10, "seen_at": NOW, "unseen_seconds": 5.0}
RECORDED = {REFERENCE: "127.0.0.1", "OUTSIDE1": "8.8.4.4", "OWNADDR1": "10.0.0.5", "BALANCER": "10.0.0.2"}
DATABASE = DatabaseFacts(
    schema_found="0001_initial", clock_offset_seconds=0.01, recorded=RECORDED, files=2, operators={}, sealed={},
    hosts=(Host(**HOST_ROW),),
)  # fmt: skip
SERVICE = ServiceFacts(
    behind_proxy=True, schema_expected="0001_initial", database=DATABASE,
    key_ids=("current", "next"), key_modes={"/keys": 0o700, "/keys/keyring.json": 0o600}, keys_moved_to=None,
    newest_key_at=NOW, data_key=(True,), data_key_length=74, data_key_in_use=True, clock_synchronised=True,
)  # fmt: skip


def checked(service: ServiceFacts | None, **host: Any) -> dict[str, CheckResult]:
    """The results on the facts of a healthy host, with changes."""
    return run_checks(AllFacts(msgspec.json.decode(json.dumps(HOST | host), type=HostFacts), service))


def differing(results: dict[str, CheckResult]) -> dict[str, str]:
    return {check: result.status.value for check, result in results.items() if result.status is not Status.OK}


def setting(name: str, value: str | None) -> Facts:
    return {"settings": HOST["settings"] | {name: value}}


def containers(*changed: Facts) -> Facts:
    by_service = {c["service"]: c for c in [*HOST["containers"], *changed]}
    return {"containers": list(by_service.values())}


def database(**changes: Any) -> Facts:
    return {"database": replace(DATABASE, **changes)}


def served(text: str, code: int = 0, **changes: Any) -> Facts:
    return {"tls_handshake": handshake(text, code)} | changes


def disk(**changes: int) -> Facts:
    return {"disks": [DISK, DISK | changes]}


def modes(path: str, mode: int | None) -> Facts:
    changed = {**HOST["modes"], path: mode}
    return {"modes": {path: mode for path, mode in changed.items() if mode is not None}}


FROM = "KADUN_PROXY_FROM"
UP = "then run docker compose up -d --wait"
MOVED = {"moved_to": "2026-11-25T12:00:00Z root@new:/srv/kadun"}
STOPPED = containers(container("app", state="exited", health=None))
UNSERVED_FAULTS = dict.fromkeys(("certificate", "certificate-names", "certificate-chain", "proxy"), "WARN")
NOT_SERVED: Facts = {"tls_handshake": None, "proxy": []}
BUSY = {"proxy": [PROBE | {"status": 503, "answer": "{}"}]}
IN_DATABASE = dict.fromkeys(("schema", "durability", "hosts", "files", "console", "sealing-key", "proxy"), "WARN")
WEB_1, WEB_2 = (Host(**HOST_ROW | {"name": name}) for name in ("web-1", "web-2"))
OTHER_KEYS = Host(**HOST_ROW | {"name": "web-2", "kid": "other"})
OLD_KEYS = {"newest_key_at": NOW - timedelta(seconds=1)}


# Of each check: changes of the host's facts or of the service's, its status then, and some of what it says.
CASES: dict[str, list[tuple[Facts, Facts, str, str]]] = {
    "containers": [
        (containers(container("app", state="restarting", exit_code=1)), {}, "FAIL", "app: restarting (exit 1)"),
        (containers(container("app", state="exited", exit_code=137, out_of_memory=True)), {}, "FAIL", "out of memory"),
        (containers(container("database", state="exited")), {}, "FAIL", UP),
        (containers(container("webhooks", health="unhealthy")), {}, "FAIL", "docker compose restart webhooks &&"),
        (containers(container("functions", health="starting", restarts=3)), {}, "FAIL", "restarted 3 times"),
        (containers(container("functions", health="starting")), {}, "WARN", "Still starting: functions"),
        (containers(container("migrate", state="exited", health=None, exit_code=1)), {}, "FAIL", "migrate: exit 1"),
        ({"containers": HOST["containers"][1:]}, {}, "FAIL", "database: missing"),
        (MOVED, {}, "FAIL", "the service still runs here"),
        (STOPPED | MOVED, {}, "WARN", "The service moved to root@new:/srv/kadun at 2026-11-25T12:00:00Z"),
    ],
    "env-applied": [
        (containers(container("nginx", config_hash="older")), {}, "WARN", "not applied: nginx. Run"),
        (containers(container("migrate", state="exited", config_hash="older")), {}, "OK", ""),
        ({"config_hashes": {}}, {}, "WARN", "Not checked: docker compose config fails"),
    ],
    "env-names": [
        (setting("KADUN_ADMIN_ALOW", None), {}, "FAIL", "KADUN_ADMIN_ALOW → KADUN_ADMIN_ALLOW"),
        (setting("kadun_rate", None), {}, "FAIL", "kadun_rate → KADUN_RATE"),
        (setting("NOTE", None), {}, "WARN", "no setting NOTE"),
        ({"unreadable_lines": [7]}, {}, "FAIL", "in .env: line 7"),
    ],
    "settings": [({}, {}, "OK", "valid")],
    "certificate": [
        (served(pem("example.com", days=-0.1)), {}, "FAIL", "Expired on 2026-11-25"),
        (served(pem("example.com", days=6.9)), {}, "FAIL", "6 days"),
        (served(pem("example.com", days=20.9)), {}, "WARN", "20 days"),
        (served(pem("example.com", since=-1)), {}, "FAIL", "Not valid before 2026-11-26"),
    ],
    "certificate-names": [
        (served(pem("www.example.com")), {}, "FAIL", "lacks example.com"),
        (served(pem()), {}, "FAIL", "has no names"),
        (setting("KADUN_DOMAIN", "EXAMPLE.com a.example.org 203.0.113.9"), {}, "OK", "a.example.org"),
        (setting("KADUN_DOMAIN", "a.b.example.org"), {}, "FAIL", "lacks a.b.example.org"),
        (setting("KADUN_DOMAIN", None), {}, "OK", "set KADUN_DOMAIN"),
    ],
    "certificate-chain": [
        (served(GOOD_PEM, 18), {}, "WARN", "Self-signed"),
        (served(GOOD_PEM, 19), {}, "WARN", "private CA"),
        (served(GOOD_PEM, 20), {}, "FAIL", "Incomplete"),
        (served(GOOD_PEM, 20, trust_store=False), {}, "WARN", "no ca-certificates"),
        (served(GOOD_PEM, 23), {}, "FAIL", "verify error 23"),
    ],
    "proxy": [
        ({}, {"behind_proxy": False}, "FAIL", "KADUN_BEHIND_PROXY is not true"),
        ({"proxy": [PROBE | {"address": "198.51.100.2"}]}, {}, "FAIL", "198.51.100.2 → 127.0.0.1"),
        (BUSY, {}, "FAIL", "The app answers 503"),
        ({"proxy": [PROBE | {"status": 429, "answer": ""}]}, {}, "WARN", "too many recent requests"),
        ({"proxy": [PROBE | {"answer": answer("00000000")}]}, {}, "WARN", "too many recent requests"),
        ({"proxy": []}, {}, "WARN", "nginx does not answer"),
        ({"proxy": [BY_NAME]}, {}, "OK", "card.example.com: 8.8.4.4)"),
        ({"proxy": [BY_NAME | {"answer": answer("OWNADDR1")}]}, {}, "OK", "10.0.0.5"),
        ({"proxy": [PROBE, BY_NAME | {"answer": answer("BALANCER")}]}, {}, "FAIL", "the balancer's address, 10.0.0.2"),
        (setting(FROM, "192.0.2.1"), {}, "OK", ""),
        (setting(FROM, "nowhere, 8.8.4.0/24") | {"proxy": [BY_NAME]}, {}, "FAIL", "the balancer's address, 8.8.4.4"),
    ],
    "disk": [
        (disk(free=511 * MIB), {}, "FAIL", "Nearly full: /d has 511 MiB free (0%)"),
        (disk(free=9 * 1024 * MIB), {}, "WARN", "(9%)"),
        (disk(size=1000 * DISK["size"]), {}, "OK", ""),
        (disk(inodes_free=15), {}, "FAIL", "1% of its inodes"),
        (disk(inodes_free=50), {}, "WARN", "5% of its inodes"),
        (disk(inodes=0, inodes_free=0), {}, "OK", ""),
    ],
    "permissions": [
        (modes("secrets", 0o755), {}, "FAIL", "secrets 755"),
        (modes("/b/kadun-1.tar.age", 0o640), {}, "FAIL", "/b/kadun-1.tar.age 640"),
        (modes("https_certificates/privkey.pem", None), {}, "WARN", "not visible: https_certificates/privkey.pem"),
        (modes("data/keys/keyring.json", None), {}, "WARN", "try as root"),
        (modes("data/keys/keyring.json", None) | setting("KADUN_KEYS", "database"), {}, "OK", ""),
    ],
    "backup": [
        ({"last_good": "2026-11-24T09:59:00Z kadun-1.tar.age"}, {}, "FAIL", "26 h old"),
        ({"last_good": "2026-11-24T10:01:00Z kadun-1.tar.age"}, {}, "OK", "25 h old: kadun-1.tar.age"),
        ({"last_good": "2026-11-25T13:00:00Z kadun-1.tar.age"}, {}, "FAIL", "in the future"),
        ({"last_good": "yesterday"}, {}, "FAIL", "cannot be read"),
        ({"has_backup": False}, {}, "FAIL", "missing: kadun-1.tar.age"),
        ({"last_good": None, "has_hooks": False}, {}, "FAIL", "No backup yet"),
        ({"last_good": None, "has_hooks": False, "installed": int(NOW.timestamp()) - 3600}, {}, "WARN", "No backup"),
    ],
    "backup-proof": [
        ({"last_verified": None}, {}, "WARN", "No backup was ever verified"),
        ({"last_verified": "2026-11-17T11:59:00Z kadun-0.tar"}, {}, "WARN", "within 8 days"),
        ({"last_verified": "2026-11-17T12:01:00Z kadun-0.tar"}, {}, "OK", "7 days ago"),
        ({"last_verified": "2026-11-26T12:01:00Z kadun-0.tar"}, {}, "WARN", "within 8 days"),
    ],
    "backup-away": [
        ({"last_away": None}, {}, "WARN", "(last: never)"),
        ({"last_away": None, "has_hooks": False}, {}, "OK", "No hooks"),
        ({"last_away": "2026-11-24T01:29:00Z kadun-0.tar"}, {}, "WARN", "not copied elsewhere"),
        ({"last_away": "2026-11-24T03:31:00Z kadun-0.tar"}, {}, "OK", "Copied elsewhere"),
        ({"last_away": "nonsense"}, {}, "WARN", "nonsense"),
    ],
    "backup-identity": [
        (setting("KADUN_IDENTITY_COPIED", ""), {}, "WARN", "set KADUN_IDENTITY_COPIED=yes in .env"),
        ({"has_identity": False}, {}, "FAIL", "put your copy back"),
        ({"has_identity": None}, {}, "WARN", "try as root"),
    ],
    "cron-jobs": [
        ({"cron": "missing"}, {}, "WARN", "No cron jobs"),
        ({"cron": "other"}, {}, "FAIL", "does not call this folder's backup.sh"),
        ({"cron": None}, {}, "WARN", "try as root"),
    ],
    "database": [({}, database(unproven_host="10.0.0.5"), "WARN", "between here and 10.0.0.5 can pose")],
    "schema": [({}, database(schema_found=None), "FAIL", "empty instead of 0001_initial: run scripts/cardctl migrate")],
    "durability": [
        ({}, database(fsync=False), "FAIL", "fsync is off"),
        ({}, database(synchronous="FIRST 1 (b)", hosts_in_url=2), "OK", "is synchronous"),
        ({}, database(hosts_in_url=2), "WARN", "no synchronous standby"),
    ],
    "hosts": [
        ({}, database(hosts=None), "WARN", "Not checked"),
        ({}, database(hosts=(WEB_1, WEB_2)), "OK", "web-1, web-2"),
        ({}, database(hosts=(WEB_1, OTHER_KEYS)), "WARN", "different signing keys. See cardctl hosts"),
    ],
    "keys": [
        ({}, {"key_ids": "damaged"}, "FAIL", "Signing keys: damaged"),
        ({}, {"keys_moved_to": "database"}, "FAIL", "set KADUN_KEYS=database"),
        ({}, database(last_rotation=(NOW, "later")) | OLD_KEYS, "FAIL", "older than the journal's last rotation"),
        ({}, database(last_rotation=(NOW, "next")) | OLD_KEYS, "FAIL", "older than the journal's last rotation"),
        ({}, database(last_rotation=(NOW, "current")) | OLD_KEYS, "OK", ""),  # v1.0.0 journals a rotation after it
        ({}, database(last_rotation=(NOW, "later")), "OK", "Current current, next next"),
    ],
    "data-key": [
        ({}, {"data_key": (True, True)}, "OK", "Age identities: 2"),
        ({}, {"data_key": (True, False)}, "WARN", "Some lines"),
        ({}, {"data_key": (False,)}, "OK", "of your own scheme"),
        ({}, {"data_key": (False,), "data_key_length": 8}, "FAIL", "only 8 characters"),
    ],
    "data-key-in-use": [
        ({}, {"data_key_in_use": False}, "FAIL", "cardctl key accept"),
        ({}, {"data_key_in_use": None}, "WARN", "when it starts"),
        ({}, {"data_key_in_use": "data-key.json cannot be read"}, "FAIL", "data-key.json cannot be read"),
    ],
    "bucket": [
        ({}, {"bucket": True}, "OK", "can be written"),
        ({}, {"bucket": Text("无法写入", "cannot write")}, "FAIL", "cannot write"),
    ],
    "files": [
        ({}, database(files=None), "WARN", "Not checked"),
        ({}, database(lost_files=None), "WARN", "the bucket is unavailable"),
        ({}, database(lost_files=("a.age", "b.age")), "FAIL", "a.age, b.age."),
        ({}, {"unwritable_folder": "/files"}, "FAIL", "cannot write to /files"),
    ],
    "functions": [
        ({}, {"functions": None}, "WARN", "does not answer"),
        ({}, {"broken": tuple(f"part{n}.py" for n in range(9))}, "FAIL", "part4.py, … (9)."),
    ],
    "clock": [
        ({}, {"clock_synchronised": False}, "WARN", "Not synchronised"),
        ({}, {"clock_synchronised": None}, "WARN", "does not say"),
        ({}, database(clock_offset_seconds=-31.0), "FAIL", "-31 s"),
        ({}, database(clock_offset_seconds=4.0), "WARN", "+4.0 s"),
    ],
    "console": [
        ({}, database(operators=None), "WARN", "Not checked"),
        ({}, database(operators={"alice": True, "bob": False}), "WARN", "is enough for bob:"),
        (setting("KADUN_ADMIN_ALLOW", "::1"), database(operators={"bob": False}), "OK", "Open to ::1 only"),
    ],
    "sealing-key": [
        ({}, database(sealed=None), "WARN", "Not checked"),
        ({}, database(sealed={"operator alice": True}), "OK", ""),
        ({}, database(sealed={"operator alice": True, "webhook b": None}), "WARN", "not sealed: webhook b."),
        ({}, database(sealed={"operator alice": None, "webhook b": False}), "FAIL", "the secrets of webhook b:"),
    ],
}  # fmt: skip
# Faults that more than one check tells.
TOGETHER: list[tuple[Facts, Facts, dict[str, str]]] = [
    ({}, {}, {}),
    ({}, {"database": "connection refused"}, IN_DATABASE | {"database": "FAIL"}),
    ({}, database(schema_found="0000_before"), {"schema": "FAIL", "proxy": "WARN"}),
    ({}, database(schema_found="0002_after"), {"schema": "WARN", "proxy": "WARN"}),
    ({"last_good": None}, {}, {"backup": "FAIL", "backup-away": "WARN"}),
    # A certificate is judged where nginx serves; a 503 is excused where the app does not.
    (containers(container("nginx", state="exited")) | NOT_SERVED, {}, UNSERVED_FAULTS | {"containers": "FAIL"}),
    (NOT_SERVED, {}, UNSERVED_FAULTS | {"certificate": "FAIL"}),
    (STOPPED | BUSY, {}, {"containers": "FAIL", "proxy": "WARN"}),
]  # fmt: skip


@for_each("check, host, service, status, said", [(check, *case) for check, cases in CASES.items() for case in cases])
def test_a_fact_changes_its_own_check(check: str, host: Facts, service: Facts, status: str, said: str) -> None:
    results = checked(replace(SERVICE, **service), **host)
    alone = {} if status == "OK" else {check: status}
    beside = {"proxy": "WARN"} if check == "schema" else {}
    assert differing(results) == alone | beside, results
    found = results[check]
    assert said in found.message_en
    for text, is_chinese in ((found.message_zh, True), (found.message_en, False)):
        assert ("\n" in text, any("\u4e00" <= c <= "\u9fff" for c in text)) == (False, is_chinese)


def test_each_check_has_a_table_and_some_faults_several_checks_tell() -> None:
    assert set(CASES) == {check.__name__.replace("_", "-") for check in CHECKS}
    for host, service, expected in TOGETHER:
        assert differing(checked(replace(SERVICE, **service), **host)) == expected, (host, service)
    messages = [result.message_en for result in checked(SERVICE, **STOPPED, **MOVED).values()]
    assert [message for message in messages if "compose up" in message] == [], "nobody is told to start a moved service"


def test_without_facts_of_the_host_or_of_the_service_the_other_is_checked() -> None:
    alone = run_checks(AllFacts(service_if_any=replace(SERVICE, behind_proxy=False, key_modes={"/keys": 0o755})))
    assert differing(alone) == {"permissions": "FAIL"}
    results = checked(None)
    assert differing(results) == {}
    assert {"containers", "disk", "permissions"} <= set(results)
    assert set(CASES) - alone.keys() - results.keys() == {"bucket", "console", "proxy"}, "which need both, or a bucket"
    assert {"containers", "disk"}.isdisjoint(alone)


def test_the_facts_are_those_that_the_script_gathers(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[3] / "scripts/lib/hostfacts.py"
    command = (sys.executable, "-B", "-E", "-s", "-S", script, tmp_path)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    msgspec.json.decode(done.stdout, type=HostFacts)
    assert set(json.loads(done.stdout)) == set(HOST)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in ("secrets", "data/keys", "data/backups", "data/backup-hooks.d", "https_certificates"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "secrets/db_password").write_text("hunter2\n")
    return tmp_path


def test_settings_are_told_by_name_and_only_those_that_a_check_reads_with_their_value(checkout: Path) -> None:
    (checkout / ".env").write_text(
        "# a comment\n\nKADUN_DOMAIN='a.test' # ours\nexport KADUN_BURST=\nNOTE=hunter2\nKADUN_WORKERS 4\n"
        "KADUN_BACKUP_WEBHOOK=https://hooks.test/token\n"
    )
    facts = hostfacts.host_facts(checkout)
    unset = dict.fromkeys(("KADUN_BURST", "NOTE", "KADUN_BACKUP_WEBHOOK"))
    assert (facts["settings"], facts["unreadable_lines"]) == ({"KADUN_DOMAIN": "a.test"} | unset, [6])
    for domains, balancer, public in (
        ("", "false", []),
        ("203.0.113.9 *.example.com", "false", []),
        ("*.example.com", "false", [("example.com", 8443)]),
        ("card.example.com", "true", [("card.example.com", 443)]),
    ):
        settings = {"KADUN_HTTPS_PORT": "8443", "KADUN_DOMAIN": domains, "KADUN_PROXY_PROTOCOL": balancer}
        assert hostfacts.proxy_targets(settings) == [("127.0.0.1", 8443), ("::1", 8443), *public], "as customers do"


def test_the_last_backup_hooks_that_can_be_run_and_any_mark_of_a_move_are_found(checkout: Path) -> None:
    def found() -> list[Any]:
        facts = hostfacts.host_facts(checkout)
        return [facts[name] for name in ("has_backup", "has_hooks", "moved_to")]

    backups, hooks, mark = (checkout / "data" / name for name in ("backups", "backup-hooks.d", "keys/moved-to"))
    (hooks / ".hidden").touch(0o755)
    (hooks / "notes").touch(0o644)
    assert found() == [False, False, None]
    (backups / "last-good").write_text("2026-11-27T03:17:09Z kadun-1.tar\n")
    (hooks / "50-away").touch(0o755)
    assert found() == [False, True, None]
    (backups / "kadun-1.tar").touch()
    for make in (os.mkfifo, lambda path: path.symlink_to(checkout / "secrets/db_password")):
        make(mark)
        assert found() == [True, True, "?"], "it holds nothing up and tells no secret"
        mark.unlink()


def test_modes_the_room_on_each_disk_and_crons_file_are_told_of_what_exists(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = checkout / "data/backups/kadun-20261127T031700Z.tar.age"
    backup.with_name(f"{backup.name}.sha256").touch(0o644)
    told = {"https_certificates/self-signed-privkey.pem": 0o644, f"data/backups/{backup.name}": 0o600}
    told |= {"secrets": 0o700, "data/keys": 0o700, "secrets/db_password": 0o644}
    for path, mode in told.items():
        if not (checkout / path).exists():
            (checkout / path).touch()
        (checkout / path).chmod(mode)
    assert hostfacts.modes(checkout, checkout / "data/backups") == told
    assert hostfacts.modes(checkout / "nowhere", checkout / "nowhere") == {}
    (found,) = hostfacts.disks(checkout, checkout / "data", checkout / "nowhere")
    assert found["size"] > found["free"] > 0
    assert [disk["folder"] for disk in hostfacts.disks(checkout, Path("/proc"))] == [str(checkout), "/proc"]
    # Cron's file is this checkout's and makes backups.
    monkeypatch.setattr(hostfacts, "CRON_FOLDER", checkout)
    assert hostfacts.cron(checkout, "shop") == "missing"
    head, job = f"# Kadun\n# {checkout}\n", f"17 3 * * * root '{checkout}/scripts/backup.sh' --quiet\n"
    (checkout / "kadun-shop").write_text(head + job)
    assert hostfacts.cron(checkout, "shop") == "installed"
    for text in (head, f"{head}#{job}", f"# {checkout}-2\n{job}", ""):
        (checkout / "kadun-shop").write_text(text)
        assert hostfacts.cron(checkout, "shop") == "other", text
    monkeypatch.setattr(hostfacts, "text_of", lambda _: None)
    assert hostfacts.cron(checkout, "shop") is None
