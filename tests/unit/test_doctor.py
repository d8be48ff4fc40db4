"""What the doctor makes of facts, fact by fact."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.services.doctor import CheckResult, Facts, Status, examine, examine_host
from app.services.doctor.facts import InsideFacts, Mode, Role
from tests.support.doctor_facts import (
    ASK,
    BACKUP,
    CERTIFICATE,
    DATABASE,
    DISK,
    HOST,
    INSIDE,
    LOCAL_SOCKETS,
    NOW,
    PERMISSIONS,
    UFW,
    answer,
    container,
    host_facts,
    pem,
)


def examined(inside: InsideFacts = INSIDE, **host: Any) -> dict[str, CheckResult]:
    return {result.check: result for result in examine(Facts(NOW, inside, host_facts(**host)))}


def differing(found: dict[str, CheckResult]) -> dict[str, str]:
    return {check: result.status.value for check, result in found.items() if result.status is not Status.OK}


def test_nothing_is_said_against_a_stack_as_it_should_be() -> None:
    assert differing(examined()) == {}


def certificate(**changes: Any) -> dict[str, Any]:
    return {"certificate": CERTIFICATE | changes}


def served(text: str, **changes: Any) -> dict[str, Any]:
    return certificate(served=text, file=text, **changes)


def containers(*changed: dict[str, Any]) -> dict[str, Any]:
    by_service = {c["service"]: c for c in [*HOST["containers"], *changed]}
    return {"containers": list(by_service.values())}


def never_backed_up(**changes: Any) -> dict[str, Any]:
    return {"backup": BACKUP | {"last_good": None} | changes}


def sockets(*lines: str) -> dict[str, Any]:
    return {"sockets": "\n".join([LOCAL_SOCKETS, *lines])}


def stranger(address: str) -> str:
    return f'tcp LISTEN 0 128 {address}:5000 {address}:* users:(("python3",pid=9,fd=5))'


WITHOUT_IPV6 = {"ipv6_unfiltered": True}
STRANGER = stranger("0.0.0.0")  # noqa: S104
PUBLISHED = 'tcp LISTEN 0 128 0.0.0.0:8080 0.0.0.0:* users:(("docker-proxy",pid=9,fd=5))'


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (containers(container("app", state="restarting", exit_code=1)), {"containers": "FAIL"}),
        (containers(container("app", state="exited", exit_code=137, out_of_memory=True)), {"containers": "FAIL"}),
        (containers(container("database", health="unhealthy")), {"containers": "FAIL"}),
        (containers(container("database", health="starting")), {"containers": "WARN"}),
        (containers(container("migrate", state="exited", exit_code=1)), {"containers": "FAIL"}),
        (containers(container("migrate", state="exited", oneoff="True", exit_code=1)), {}),
        ({"containers": HOST["containers"][1:]}, {"containers": "FAIL"}),
        (containers(container("app", restarts=3)), {"restarts": "WARN"}),
        (containers(container("app", restarts=3, started="2026-11-20T11:00:00Z")), {}),
        (containers(container("app", image="sha256:older")), {"images": "WARN"}),
        ({"images": {}}, {"images": "WARN"}),
        ({"program": "another"}, {"program": "WARN"}),
        ({"program": None}, {"program": "WARN"}),
        (served(pem("example.com", days=-0.1)), {"certificate": "FAIL"}),
        (served(pem("example.com", days=6.9)), {"certificate": "FAIL"}),
        (served(pem("example.com", days=20.9)), {"certificate": "WARN"}),
        (served(pem("example.com", since=-1)), {"certificate": "FAIL"}),
        (served(pem("www.example.com")), {"certificate-names": "FAIL"}),
        (served(pem()), {"certificate-names": "FAIL"}),
        ({"domains": "EXAMPLE.com a.example.org 203.0.113.9"}, {}),
        ({"domains": "a.b.example.org"}, {"certificate-names": "FAIL"}),
        ({"domains": "203.0.113.10"}, {"certificate-names": "FAIL"}),
        ({"domains": None}, {}),
        (certificate(verified="18"), {"certificate-chain": "WARN"}),
        (certificate(verified="19"), {"certificate-chain": "WARN"}),
        (certificate(verified="20"), {"certificate-chain": "FAIL"}),
        (certificate(verified="20", trust_store=False), {"certificate-chain": "WARN"}),
        (certificate(verified="23"), {"certificate-chain": "FAIL"}),
        (certificate(file=pem("example.com")), {"certificate-file": "FAIL"}),
        (certificate(file=None), {"certificate-file": "FAIL"}),
        (certificate(file="-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"), {"certificate-file": "FAIL"}),
        (certificate(key_matches=False), {"certificate-file": "FAIL"}),
        (certificate(key_matches=None), {"certificate-file": "WARN"}),
        ({"disks": [DISK | {"free": 511 << 20}]}, {"disk-data": "FAIL"}),
        ({"disks": [DISK | {"free": 1 << 30}]}, {"disk-data": "WARN"}),
        ({"disks": [DISK | {"free": 9 << 30}]}, {"disk-data": "WARN"}),
        ({"disks": [DISK | {"size": 1000 << 30}]}, {}),
        ({"disks": [DISK | {"inodes_free": 15}]}, {"disk-data": "FAIL"}),
        ({"disks": [DISK | {"inodes_free": 50}]}, {"disk-data": "WARN"}),
        ({"disks": [DISK | {"inodes": 0, "inodes_free": 0}]}, {}),
        ({"disks": [DISK | {"size": None}]}, {"disk-data": "WARN"}),
        ({"backup": BACKUP | {"last_good": "2026-11-24T09:59:00Z kadun-1.dump"}}, {"backup": "FAIL"}),
        ({"backup": BACKUP | {"last_good": "2026-11-24T10:01:00Z kadun-1.dump"}}, {}),
        ({"backup": BACKUP | {"last_good": "2026-11-25T13:00:00Z kadun-1.dump"}}, {"backup": "FAIL"}),
        ({"backup": BACKUP | {"last_good": "yesterday"}}, {"backup": "FAIL"}),
        ({"backup": BACKUP | {"last_good": "2026-11-25T03:30:00 kadun-1.dump"}}, {"backup": "FAIL"}),
        ({"backup": BACKUP | {"size": None}}, {"backup": "FAIL"}),
        ({"backup": BACKUP | {"size": 0}}, {"backup": "FAIL"}),
        (never_backed_up(), {"backup": "FAIL", "backup-away": "WARN"}),
        (never_backed_up(installed=int(NOW.timestamp()) - 3600, hooks=0), {"backup": "WARN"}),
        ({"backup": BACKUP | {"last_verified": None}}, {"backup-proof": "WARN"}),
        ({"backup": BACKUP | {"last_verified": "2026-11-17T11:59:00Z kadun-0.dump"}}, {"backup-proof": "WARN"}),
        ({"backup": BACKUP | {"last_verified": "2026-11-17T12:01:00Z kadun-0.dump"}}, {}),
        ({"backup": BACKUP | {"last_verified": "2026-11-24T12:01:00Z kadun-0.dump.age sha256"}}, {}),
        ({"backup": BACKUP | {"last_verified": "2026-11-26T12:01:00Z kadun-0.dump"}}, {"backup-proof": "WARN"}),
        ({"backup": BACKUP | {"last_verified": "2026-11-24T12:01:00 kadun-0.dump"}}, {"backup-proof": "WARN"}),
        ({"backup": BACKUP | {"last_away": None}}, {"backup-away": "WARN"}),
        ({"backup": BACKUP | {"last_away": None, "hooks": 0}}, {}),
        ({"backup": BACKUP | {"last_away": "2026-11-24T01:29:00Z kadun-0.dump"}}, {"backup-away": "WARN"}),
        ({"backup": BACKUP | {"last_away": "2026-11-24T03:31:00Z kadun-0.dump"}}, {}),
        ({"backup": BACKUP | {"last_away": "nonsense"}}, {"backup-away": "WARN"}),
        (sockets(STRANGER) | {"ufw": None}, {"ports": "FAIL", "firewall": "WARN"}),
        (sockets(STRANGER) | {"ufw": "missing"}, {"ports": "FAIL", "firewall": "WARN"}),
        (sockets(STRANGER) | {"ufw": "Status: inactive"}, {"ports": "FAIL", "firewall": "WARN"}),
        (sockets(STRANGER), {}),
        (sockets(STRANGER) | {"ufw": f"{UFW}\n4999:5001/tcp  ALLOW IN  Anywhere"}, {"ports": "FAIL"}),
        (sockets(STRANGER) | {"ufw": f"{UFW}\n5000/udp  ALLOW  Anywhere"}, {}),
        (sockets(STRANGER) | {"ufw": f"{UFW}\nAnywhere on eth0  ALLOW IN  Anywhere"}, {"ports": "FAIL"}),
        (
            sockets(STRANGER) | {"ufw": UFW.replace("deny (incoming)", "allow (incoming)")},
            {"ports": "FAIL", "firewall": "WARN"},
        ),
        (sockets(STRANGER) | {"ufw": "missing", "known_ports": "1/udp, 5000"}, {"firewall": "WARN"}),
        (sockets("tcp LISTEN 0 5 [2001:db8::1]:9000 [::]:*"), {"ports": "FAIL"}),
        (sockets("udp UNCONN 0 5 *:6003 *:*"), {"ports": "FAIL"}),
        (sockets(PUBLISHED), {"ports": "FAIL"}),
        (sockets(PUBLISHED.replace("docker-proxy", "dockerd")), {"ports": "FAIL"}),
        (sockets(STRANGER) | WITHOUT_IPV6, {"firewall": "WARN"}),
        (sockets(stranger("*")) | WITHOUT_IPV6, {"firewall": "WARN", "ports": "FAIL"}),
        (sockets(stranger("[::]")) | WITHOUT_IPV6, {"firewall": "WARN", "ports": "FAIL"}),
        (sockets(stranger("[::ffff:192.0.2.1]")) | WITHOUT_IPV6, {"firewall": "WARN"}),
        (sockets(stranger("[::]")), {}),
        ({"sockets": None}, {"ports": "WARN"}),
        ({"secrets_in_env": "NOTE"}, {"env": "FAIL"}),
        ({"permissions": PERMISSIONS.replace("700 0 secrets", "755 0 secrets")}, {"permissions": "FAIL"}),
        ({"permissions": PERMISSIONS.replace("600 10001 data", "644 10001 data")}, {"permissions": "FAIL"}),
        ({"permissions": f"{PERMISSIONS}\n640 0 /b/kadun-1 2.dump"}, {"permissions": "FAIL"}),
        ({"permissions": PERMISSIONS.replace("600 10001 data", "? ? data")}, {}),
        ({"permissions": PERMISSIONS.replace("600 0 https", "? ? https")}, {"permissions": "WARN"}),
        ({"permissions": None}, {"permissions": "WARN"}),
        ({"synchronised": "no"}, {"clock": "WARN"}),
        ({"synchronised": None}, {}),
        ({"proxy": [ASK | {"address": "198.51.100.2"}]}, {"proxy": "FAIL"}),
        ({"proxy": [ASK, ASK | {"address": "2001:db8::1"}]}, {"proxy": "FAIL"}),
        ({"proxy": [ASK | {"status": 503, "answer": "{}"}]}, {"proxy": "FAIL"}),
        ({"proxy": [ASK | {"status": 429, "answer": None}]}, {"proxy": "WARN"}),
        ({"proxy": [ASK | {"answer": answer("00000000")}]}, {"proxy": "WARN"}),
        ({"proxy": [ASK | {"answer": '["token"]'}]}, {"proxy": "WARN"}),
        ({"proxy": []}, {"proxy": "WARN"}),
    ],
)  # fmt: skip
def test_a_fact_of_the_host_changes_its_line_and_no_other(host: dict[str, Any], expected: dict[str, str]) -> None:
    found = examined(**host)
    assert differing(found) == expected, found


def database(**changes: Any) -> dict[str, Any]:
    return {"database": replace(DATABASE, **changes)}


UNSEEN = {"schema": "WARN", "roles": "WARN", "files": "WARN", "console": "WARN", "proxy": "WARN"}


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ({"settings": "KADUN_TIMEZONE is 'x'", "data_key": ()}, {"settings": "FAIL", "data-key": "WARN"}),
        ({"database": "connection refused"}, {"database": "FAIL", **UNSEEN}),
        (database(schema_found=None), {"schema": "FAIL", "proxy": "WARN"}),
        (database(schema_found="0000_before"), {"schema": "FAIL", "proxy": "WARN"}),
        (database(schema_found="0002_after"), {"schema": "FAIL", "proxy": "WARN"}),
        (database(roles=(Role("kadun_app", ("SUPERUSER",)),)), {"roles": "FAIL"}),
        ({"key_ids": "damaged"}, {"keys": "FAIL"}),
        (database(files=None), {"files": "WARN"}),
        (database(lost_files=("core.age",)), {"files": "FAIL"}),
        ({"closed_folder": "/files"}, {"files": "FAIL"}),
        (database(operators=None), {"console": "WARN"}),
        (database(operators={"alice": True, "bob": True}), {}),
        (database(operators={"alice": True, "bob": False}), {"console": "WARN"}),
        ({"functions": None}, {"functions": "WARN"}),
        ({"broken": ("prices.py",)}, {"functions": "FAIL"}),
        ({"data_key": (True, True)}, {}),
        ({"data_key": (True, False)}, {"data-key": "WARN"}),
        ({"data_key": (False,)}, {}),
        ({"data_key": (False,), "data_key_length": 8}, {"data-key": "FAIL"}),
        (database(clock_offset_seconds=-31.0), {"clock": "FAIL"}),
        (database(clock_offset_seconds=4.0), {"clock": "WARN"}),
        ({"behind_proxy": False}, {"proxy": "FAIL"}),
    ],
)
def test_a_fact_inside_changes_its_line_and_no_other(inside: dict[str, Any], expected: dict[str, str]) -> None:
    found = examined(replace(INSIDE, **inside))
    assert differing(found) == expected, found


@pytest.mark.parametrize(("kernel", "expected"), [(True, "OK"), (False, "WARN"), (None, "WARN")])
def test_where_the_host_does_not_tell_the_kernel_is_believed(kernel: bool | None, expected: str) -> None:  # noqa: FBT001
    found = examined(replace(INSIDE, kernel_synchronised=kernel), synchronised=None)
    assert found["clock"].status == expected


def test_the_key_folder_is_seen_from_inside_where_the_host_may_not_look() -> None:
    unseen = PERMISSIONS.replace("700 10001 data", "? ? data").replace("600 10001 data", "? ? data")
    inside = replace(INSIDE, modes=(INSIDE.modes[0], Mode("/keys/keyring.json", 0o644, 0o600)))
    assert differing(examined(inside, permissions=unseen)) == {"permissions": "FAIL"}


def test_without_nginx_what_it_serves_is_not_checked_rather_than_wrong() -> None:
    changed = containers(container("nginx", state="exited")) | certificate(served=None) | {"proxy": []}
    found = differing(examined(**changed))
    assert found.pop("containers") == "FAIL"
    assert set(found) == {*(f"certificate{part}" for part in ("", "-names", "-chain", "-file")), "proxy"}
    assert set(found.values()) == {"WARN"}
    assert differing(examined(**certificate(served=None)))["certificate"] == "FAIL"


def test_an_app_that_is_away_is_no_fault_of_the_proxy() -> None:
    changed = containers(container("app", state="exited")) | {"proxy": [ASK | {"status": 503, "answer": "{}"}]}
    assert differing(examined(**changed)) == {"containers": "FAIL", "proxy": "WARN"}


def test_what_is_lost_or_broken_is_named_as_far_as_a_line_can_hold() -> None:
    names = tuple(f"part{number}.age" for number in range(9))
    found = examined(replace(INSIDE, database=replace(DATABASE, lost_files=names[:2]), broken=names))
    assert "part0.age, part1.age." in found["files"].message_en
    assert "part4.age, … (9)." in found["functions"].message_en


def test_a_password_alone_is_enough_where_only_certain_addresses_come_near_the_console() -> None:
    inside = replace(INSIDE, database=replace(DATABASE, operators={"alice": True, "bob": False, "carol": False}))
    assert "a password is enough for bob, carol:" in examined(inside)["console"].message_en
    allowed = examined(inside, admin_allow="203.0.113.7 2001:db8::/32")
    assert differing(allowed) == {}
    assert "203.0.113.7 2001:db8::/32" in allowed["console"].message_en


def test_inside_alone_what_only_the_host_knows_is_left_out() -> None:
    trial = replace(INSIDE, behind_proxy=False, database=replace(DATABASE, roles=(Role("kadun", ("SUPERUSER",)),)))
    found = {result.check: result for result in examine(Facts(NOW, trial))}
    inside = {
        "settings",
        "database",
        "schema",
        "roles",
        "keys",
        "data-key",
        "files",
        "functions",
        "clock",
        "permissions",
    }
    assert set(found) == inside
    assert differing(found) == {"roles": "WARN"}, "a trial makes do with one role"
    open_ring = replace(INSIDE, modes=(Mode("/keys", 0o755, 0o700), Mode("/keys/keyring.json", None, 0o600)))
    assert differing({f.check: f for f in examine(Facts(NOW, open_ring))}) == {"permissions": "FAIL"}


def test_the_host_alone_is_judged_where_nothing_runs() -> None:
    found = {result.check: result for result in examine_host(host_facts(), NOW)}
    assert differing(found) == {}
    assert {"containers", "ports", "permissions"} <= set(found)


@pytest.mark.parametrize("host", [{}, {"containers": []}, certificate(served=None), sockets(STRANGER)])
def test_every_line_is_in_both_languages_and_each_check_is_there_once(host: dict[str, Any]) -> None:
    results = examine(Facts(NOW, INSIDE, host_facts(**host)))
    assert len({result.check for result in results}) == len(results)
    assert [f for f in results if f.message_zh.isascii() or not f.message_en or "\n" in f.message_en] == []
    assert all(not any("\u4e00" <= c <= "\u9fff" for c in f.message_en) for f in results)


def test_the_facts_are_those_that_the_script_gathers() -> None:
    script = (Path(__file__).resolve().parents[2] / "scripts/lib/hostfacts.sh").read_text("utf-8")
    assert [name for name in HOST if f'"{name}": ' not in script] == []


def test_a_service_that_has_moved_away_is_not_told_to_be_started() -> None:
    stopped = containers(container("app", state="exited", health=None))
    found = examined(**stopped, moved_to="2026-11-25T12:00:00Z root@new:/srv/kadun")["containers"]
    assert found.status is Status.WARN
    assert "The service moved to root@new:/srv/kadun at 2026-11-25T12:00:00Z" in found.message_en
    assert "up -d" not in found.message_en + found.message_zh
