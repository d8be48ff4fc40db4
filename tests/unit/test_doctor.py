"""The checks of `cardctl doctor`, on facts that differ from those of a healthy installation in one point."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.services.doctor import CheckResult, Facts, HostFacts, Status, run_checks
from app.services.doctor.facts import ServiceFacts
from app.storage.catalog import CatalogDifference
from tests.support.doctor_facts import (
    CONNECTION_LIMITS,
    DATABASE,
    DISK,
    GOOD_PEM,
    HOST,
    LOCAL_SOCKETS,
    NOW,
    PERMISSIONS,
    PROBE,
    SERVICE,
    SERVICE_CHECKS,
    UFW,
    answer,
    container,
    handshake,
    host_facts,
    pem,
    rsa_key,
)


def checked(service: ServiceFacts = SERVICE, **host: Any) -> dict[str, CheckResult]:
    return run_checks(Facts(host_facts(**host), service))


def differing(results: dict[str, CheckResult]) -> dict[str, str]:
    return {check: result.status.value for check, result in results.items() if result.status is not Status.OK}


def test_nothing_is_said_against_a_stack_as_it_should_be() -> None:
    assert differing(checked()) == {}


def served(text: str) -> dict[str, Any]:
    return {"tls_handshake": handshake(text), "certificate": text}


def verified(code: int, **changes: Any) -> dict[str, Any]:
    return {"tls_handshake": handshake(GOOD_PEM, code)} | changes


def setting(name: str, value: str | None) -> dict[str, Any]:
    return {"settings": HOST["settings"] | {name: value}}


def domain(names: str | None) -> dict[str, Any]:
    return setting("KADUN_DOMAIN", names)


def containers(*changed: dict[str, Any]) -> dict[str, Any]:
    by_service = {c["service"]: c for c in [*HOST["containers"], *changed]}
    return {"containers": list(by_service.values())}


def disk(**changes: int | None) -> dict[str, Any]:
    return {"disks": HOST["disks"] | {"data": DISK | changes}}


def sockets(*lines: str) -> dict[str, Any]:
    return {"sockets": "\n".join([LOCAL_SOCKETS, *lines])}


def stranger(address: str) -> str:
    return f'tcp LISTEN 0 128 {address}:5000 {address}:* users:(("python3",pid=9,fd=5))'


WITHOUT_UFW = {"ufw": "missing"}
WITHOUT_IPV6 = {"ipv6_unfiltered": True}
STRANGER = stranger("0.0.0.0")  # noqa: S104
PUBLISHED = 'tcp LISTEN 0 128 0.0.0.0:8080 0.0.0.0:* users:(("docker-proxy",pid=9,fd=5))'


BY_NAME = PROBE | {"host": "card.example.com", "address": "10.0.0.5", "answer": answer("OUTSIDE1")}


def balanced(addresses: str) -> dict[str, Any]:
    settings = {"KADUN_PROXY_PROTOCOL": "true", "KADUN_PROXY_FROM": addresses}
    return {"settings": HOST["settings"] | settings}


HOST_CASES: list[tuple[dict[str, Any], dict[str, str]]] = [
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
    ({"program": {"wsgi.py": "another"}}, {"program": "WARN"}),
    ({"program": {}}, {"program": "WARN"}),
    (containers(container("nginx", config_hash="older")), {"env-applied": "WARN"}),
    (containers(container("migrate", state="exited", health=None, config_hash="older")), {}),
    (containers(container("app", oneoff="True", config_hash="older"), container("app")), {}),
    ({"config_hashes": {}}, {"env-applied": "WARN"}),
    ({"inodes": {"data/keys": 9, "data/files": 2}}, {"mounts": "FAIL"}),
    ({"inodes": {"secrets/kernal_data_key": 9}}, {"mounts": "FAIL"}),
    ({"inodes": {"data/files": 2, "secrets/database_url": 9}}, {}),
    ({"inodes": {}}, {"mounts": "WARN"}),
    (served(pem("example.com", days=-0.1)), {"certificate": "FAIL"}),
    (served(pem("example.com", days=6.9)), {"certificate": "FAIL"}),
    (served(pem("example.com", days=20.9)), {"certificate": "WARN"}),
    (served(pem("example.com", since=-1)), {"certificate": "FAIL"}),
    (served(pem("www.example.com")), {"certificate-names": "FAIL"}),
    (served(pem()), {"certificate-names": "FAIL"}),
    (domain("EXAMPLE.com a.example.org 203.0.113.9"), {}),
    (domain("a.b.example.org"), {"certificate-names": "FAIL"}),
    (domain("203.0.113.10"), {"certificate-names": "FAIL"}),
    (domain(None), {}),
    (verified(18), {"certificate-chain": "WARN"}),
    (verified(19), {"certificate-chain": "WARN"}),
    (verified(20), {"certificate-chain": "FAIL"}),
    (verified(20, trust_store=False), {"certificate-chain": "WARN"}),
    (verified(23), {"certificate-chain": "FAIL"}),
    ({"certificate": pem("example.com")}, {"certificate-file": "FAIL"}),
    ({"certificate": None}, {"certificate-file": "FAIL"}),
    ({"certificate": "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"}, {"certificate-file": "FAIL"}),
    ({"certificate_key": "invalid"}, {"certificate-file": "FAIL"}),
    ({"certificate_key": None}, {"certificate-file": "WARN"}),
    (disk(blocks_free=511), {"disk-data": "FAIL"}),
    ({"disks": HOST["disks"] | {"backups": DISK | {"blocks_free": 511}}}, {"disk-backups": "FAIL"}),
    ({"disks": HOST["disks"] | {"database": DISK | {"blocks_free": 511}}}, {"disk-database": "FAIL"}),
    (disk(blocks_free=1 << 10), {"disk-data": "WARN"}),
    (disk(blocks_free=9 << 10), {"disk-data": "WARN"}),
    (disk(blocks=1000 << 10), {}),
    (disk(inodes_free=15), {"disk-data": "FAIL"}),
    (disk(inodes_free=50), {"disk-data": "WARN"}),
    (disk(inodes=0, inodes_free=0), {}),
    (disk(block_bytes=None), {"disk-data": "WARN"}),
    ({"last_good": "2026-11-24T09:59:00Z kadun-1.dump"}, {"backup": "FAIL"}),
    ({"last_good": "2026-11-24T10:01:00Z kadun-1.dump"}, {}),
    ({"last_good": "2026-11-25T13:00:00Z kadun-1.dump"}, {"backup": "FAIL"}),
    ({"last_good": "yesterday"}, {"backup": "FAIL"}),
    ({"last_good": "2026-11-25T03:30:00 kadun-1.dump"}, {"backup": "FAIL"}),
    ({"backup_bytes": None}, {"backup": "FAIL", "backup-checksum": "WARN"}),
    ({"backup_bytes": 0}, {"backup": "FAIL", "backup-checksum": "WARN"}),
    ({"backup_checksum": "Its SHA-256 differs"}, {"backup-checksum": "FAIL"}),
    ({"backup_checksum": "large"}, {"backup-checksum": "WARN"}),
    ({"backup_checksum": None}, {"backup-checksum": "WARN"}),
    ({"last_good": None}, {"backup": "FAIL", "backup-checksum": "WARN", "backup-away": "WARN"}),
    (
        {"last_good": None, "installed": int(NOW.timestamp()) - 3600, "backup_hooks": 0},
        {"backup": "WARN", "backup-checksum": "WARN"},
    ),
    ({"last_verified": None}, {"backup-proof": "WARN"}),
    ({"last_verified": "2026-11-17T11:59:00Z kadun-0.dump"}, {"backup-proof": "WARN"}),
    ({"last_verified": "2026-11-17T12:01:00Z kadun-0.dump"}, {}),
    ({"last_verified": "2026-11-24T12:01:00Z kadun-0.dump.age sha256"}, {}),
    ({"last_verified": "2026-11-26T12:01:00Z kadun-0.dump"}, {"backup-proof": "WARN"}),
    ({"last_verified": "2026-11-24T12:01:00 kadun-0.dump"}, {"backup-proof": "WARN"}),
    ({"last_away": None}, {"backup-away": "WARN"}),
    ({"last_away": None, "backup_hooks": 0}, {}),
    ({"last_away": "2026-11-24T01:29:00Z kadun-0.dump"}, {"backup-away": "WARN"}),
    ({"last_away": "2026-11-24T03:31:00Z kadun-0.dump"}, {}),
    ({"last_away": "nonsense"}, {"backup-away": "WARN"}),
    ({"backup_identity": "not copied"}, {"backup-identity": "WARN"}),
    ({"backup_identity": "missing"}, {"backup-identity": "FAIL"}),
    ({"backup_identity": None}, {"backup-identity": "WARN"}),
    (setting("KADUN_BACKUP_RECIPIENT", "none"), {"backup-identity": "WARN"}),
    (setting("KADUN_BACKUP_RECIPIENT", "age1example") | {"backup_identity": "missing"}, {}),
    ({"cron_table": None, "cron_expected": None, "cron_mode": None}, {"cron-jobs": "WARN"}),
    ({"cron_table": None, "cron_runs": False}, {"cron-jobs": "WARN"}),
    ({"cron_table": "", "cron_expected": None}, {"cron-jobs": "FAIL"}),
    ({"cron_table": "18 3 * * * root true\n", "cron_expected": None}, {"cron-jobs": "FAIL"}),
    ({"cron_table": f"{HOST['cron_table']}0 4 * * * root true\n"}, {"cron-jobs": "FAIL"}),
    ({"cron_mode": "664 0"}, {"cron-jobs": "FAIL"}),
    ({"cron_mode": "644 1000"}, {"cron-jobs": "FAIL"}),
    ({"cron_runs": False}, {"cron-daemon": "FAIL"}),
    ({"cron_runs": None}, {"cron-daemon": "WARN"}),
    (sockets(STRANGER) | {"ufw": None}, {"ports": "FAIL", "firewall": "WARN"}),
    (sockets(STRANGER) | WITHOUT_UFW, {"ports": "FAIL", "firewall": "WARN"}),
    (sockets(STRANGER) | {"ufw": "Status: inactive"}, {"ports": "FAIL", "firewall": "WARN"}),
    (sockets(STRANGER), {}),
    (sockets(STRANGER) | {"ufw": f"{UFW}\n4999:5001/tcp  ALLOW IN  Anywhere"}, {"ports": "FAIL"}),
    (sockets(STRANGER) | {"ufw": f"{UFW}\n5000/udp  ALLOW  Anywhere"}, {}),
    (sockets(STRANGER) | {"ufw": f"{UFW}\nAnywhere on eth0  ALLOW IN  Anywhere"}, {"ports": "FAIL"}),
    (
        sockets(STRANGER) | {"ufw": UFW.replace("deny (incoming)", "allow (incoming)")},
        {"ports": "FAIL", "firewall": "WARN"},
    ),
    (sockets(STRANGER) | WITHOUT_UFW | setting("KADUN_DOCTOR_PORTS", "1/udp, 5000"), {"firewall": "WARN"}),
    (sockets("tcp LISTEN 0 5 [2001:db8::1]:9000 [::]:*"), {"ports": "FAIL"}),
    (sockets("udp UNCONN 0 5 *:6003 *:*"), {"ports": "FAIL"}),
    (sockets(PUBLISHED), {"ports": "FAIL"}),
    (sockets(PUBLISHED.replace(":8080", ":8081")), {}),
    (sockets(PUBLISHED.replace(":8080", ":8081").replace("tcp", "udp")), {"ports": "FAIL"}),
    (sockets(PUBLISHED.replace("docker-proxy", "dockerd")), {"ports": "FAIL"}),
    (sockets(STRANGER) | WITHOUT_IPV6, {"firewall": "WARN"}),
    (sockets(stranger("*")) | WITHOUT_IPV6, {"firewall": "WARN", "ports": "FAIL"}),
    (sockets(stranger("[::]")) | WITHOUT_IPV6, {"firewall": "WARN", "ports": "FAIL"}),
    (sockets(stranger("[::ffff:192.0.2.1]")) | WITHOUT_IPV6, {"firewall": "WARN"}),
    (sockets(stranger("[::]")), {}),
    ({"connection_limits": None}, {"connection-limits": "WARN"}),
    ({"connection_limits": "missing"}, {"connection-limits": "WARN"}),
    ({"connection_limits": CONNECTION_LIMITS.replace("ip6 saddr", "ip6 daddr")}, {"connection-limits": "WARN"}),
    ({"connection_limits": CONNECTION_LIMITS.replace("{ 80, 443 }", "443")}, {"connection-limits": "WARN"}),
    (
        {"connection_limits": CONNECTION_LIMITS.replace("80, 443", "80, 443, 8443"), "sockets": ""}
        | setting("KADUN_HTTPS_PORT", "8443"),
        {},
    ),
    ({"sockets": None}, {"ports": "WARN"}),
    ({"secrets_in_env": "NOTE"}, {"env": "FAIL"}),
    (setting("KADUN_ADMIN_ALOW", "203.0.113.7"), {"env-names": "FAIL"}),
    (setting("kadun_rate", "10"), {"env-names": "FAIL"}),
    (setting("NOTE", "mine"), {"env-names": "WARN"}),
    (setting("FTP_PROXY", "http://proxy.example.com"), {}),
    (setting("COMPOSE_PROFILES", "x"), {}),
    ({"unreadable_lines": [7]}, {"env-names": "FAIL"}),
    (setting("KADUN_RATE", "fast"), {"env-values": "FAIL"}),
    (setting("KADUN_HTTPS_PORT", "80") | {"sockets": ""}, {}),
    (setting("KADUN_BACKUP_WEBHOOK", None), {}),
    (setting("KADUN_RATE", "${MY_RATE}"), {}),
    ({"permissions": PERMISSIONS.replace("700 0 secrets", "755 0 secrets")}, {"permissions": "FAIL"}),
    ({"permissions": PERMISSIONS.replace("600 10001 data", "644 10001 data")}, {"permissions": "FAIL"}),
    ({"permissions": f"{PERMISSIONS}\n640 0 /b/kadun-1 2.dump"}, {"permissions": "FAIL"}),
    ({"permissions": PERMISSIONS.replace("600 10001 data", "600 10001 other")}, {}),
    ({"permissions": PERMISSIONS.replace("600 0 https", "600 0 other")}, {"permissions": "WARN"}),
    ({"permissions": None}, {"permissions": "WARN"}),
    ({"proxy": [PROBE | {"address": "198.51.100.2"}]}, {"proxy": "FAIL"}),
    ({"proxy": [PROBE, PROBE | {"address": "2001:db8::1"}]}, {"proxy": "FAIL"}),
    ({"proxy": [PROBE | {"status": 503, "answer": "{}"}]}, {"proxy": "FAIL"}),
    ({"proxy": [PROBE | {"status": 429, "answer": ""}]}, {"proxy": "WARN"}),
    ({"proxy": [PROBE | {"answer": answer("00000000")}]}, {"proxy": "WARN"}),
    ({"proxy": [PROBE | {"answer": '["token"]'}]}, {"proxy": "WARN"}),
    ({"proxy": []}, {"proxy": "WARN"}),
    ({"proxy": [BY_NAME]}, {}),
    ({"proxy": [BY_NAME | {"answer": answer("OWNADDR1")}]}, {}),
    ({"proxy": [PROBE, BY_NAME | {"answer": answer("BALANCER")}]}, {"proxy": "FAIL"}),
    (setting("KADUN_PROXY_PROTOCOL", "true"), {"env-values": "FAIL"}),
    (setting("KADUN_PROXY_FROM", "192.0.2.1"), {"env-values": "FAIL"}),
    (setting("KADUN_PROXY_PROTOCOL", "yes"), {"env-values": "FAIL"}),
    (balanced("192.0.2.1"), {}),
    (balanced("8.8.4.0/24") | {"proxy": [BY_NAME]}, {"proxy": "FAIL"}),
    (balanced("nowhere") | {"proxy": [BY_NAME]}, {"env-values": "FAIL"}),
]  # fmt: skip


@pytest.mark.parametrize(("host", "expected"), HOST_CASES)
def test_a_fact_of_the_host_changes_its_own_check_only(host: dict[str, Any], expected: dict[str, str]) -> None:
    results = checked(**host)
    assert differing(results) == expected, results


def database(**changes: Any) -> dict[str, Any]:
    return {"database": replace(DATABASE, **changes)}


UNSEEN = dict.fromkeys(
    (
        *("schema", "catalog", "roles", "rights", "durability", "journal-seals", "files", "file-digests"),
        *("console", "ceilings", "tokens", "second-factors", "proxy"),
    ),
    "WARN",
)
REVOKED = {"kadun_app": ["SELECT on card"]}


SERVICE_CASES: list[tuple[dict[str, Any], dict[str, str]]] = [
    (
        {"settings_error": "KADUN_TIMEZONE is 'x'", "data_key": ()},
        {"settings": "FAIL", "data-key": "WARN", "data-key-in-use": "WARN"},
    ),
    ({"database": "connection refused"}, {"database": "FAIL", **UNSEEN}),
    ({"database": 'FATAL: permission denied for database "kadun"'}, {"database": "FAIL", **UNSEEN}),
    (database(schema_found=None), {"schema": "FAIL", "proxy": "WARN"}),
    (database(schema_found="0000_before"), {"schema": "FAIL", "proxy": "WARN"}),
    (database(schema_found="0002_after"), {"schema": "FAIL", "proxy": "WARN"}),
    (database(roles={"kadun_app": ["SUPERUSER"]}), {"roles": "FAIL"}),
    (database(missing_rights=REVOKED), {"rights": "FAIL"}),
    (database(missing_rights=REVOKED, recorded={}), {"rights": "FAIL", "proxy": "WARN"}),
    (database(missing_rights=REVOKED, schema_found=None), {"rights": "FAIL", "schema": "WARN", "proxy": "WARN"}),
    (database(catalog=None), {"catalog": "WARN"}),
    (database(catalog=CatalogDifference(missing=("index card.card_batch",))), {"catalog": "FAIL"}),
    (database(catalog=CatalogDifference(changed=("trigger event.event_no_update",))), {"catalog": "FAIL"}),
    (database(catalog=CatalogDifference(foreign=("column card.colour",))), {"catalog": "FAIL"}),
    (database(catalog=CatalogDifference(foreign=("index card.mine", "table mine"))), {"catalog": "WARN"}),
    (database(fsync=False), {"durability": "FAIL"}),
    (database(synchronous="FIRST 1 (b)", standbys={"b:5432": 0}), {}),
    (database(synchronous="FIRST 1 (b)", standbys={"b:5432": "timeout expired"}), {"durability": "WARN"}),
    (database(standbys={"b:5432": 0}), {"durability": "WARN"}),
    (database(overdue_for_seal=None), {"journal-seals": "WARN"}),
    (database(overdue_for_seal=(NOW,)), {"journal-seals": "WARN"}),
    ({"key_ids": "damaged"}, {"keys": "FAIL"}),
    (database(files=None), {"files": "WARN", "file-digests": "WARN"}),
    (database(altered_files=("core.age",)), {"file-digests": "FAIL"}),
    (database(compared_files=1), {}),
    (database(lost_files=("core.age",)), {"files": "FAIL"}),
    ({"unwritable_folder": "/files"}, {"files": "FAIL"}),
    (database(operators=None), {"console": "WARN"}),
    (database(operators={"alice": True, "bob": True}), {}),
    (database(operators={"alice": True, "bob": False}), {"console": "WARN"}),
    (database(without_ceilings=None), {"ceilings": "WARN"}),
    (database(expiring_tokens=None), {"tokens": "WARN"}),
    (database(second_factors=None), {"second-factors": "WARN"}),
    (database(second_factors={"alice": True}), {}),
    (database(second_factors={"alice": True, "bob": None}), {"second-factors": "WARN"}),
    (database(second_factors={"alice": None, "bob": False}), {"second-factors": "FAIL"}),
    (database(without_ceilings=("console:alice",)), {"ceilings": "WARN"}),
    (database(expiring_tokens=("taobao 2026-12-01",)), {"tokens": "WARN"}),
    ({"functions": None}, {"functions": "WARN"}),
    ({"broken": ("prices.py",)}, {"functions": "FAIL"}),
    ({"data_key": (True, True)}, {}),
    ({"data_key": (True, False)}, {"data-key": "WARN"}),
    ({"data_key": (False,)}, {}),
    ({"data_key": (False,), "data_key_length": 8}, {"data-key": "FAIL"}),
    ({"data_key_in_use": False}, {"data-key-in-use": "FAIL"}),
    ({"data_key_in_use": None}, {"data-key-in-use": "WARN"}),
    ({"data_key_in_use": "data-key.json cannot be read"}, {"data-key-in-use": "FAIL"}),
    ({"clock_synchronised": False}, {"clock": "WARN"}),
    ({"clock_synchronised": None}, {"clock": "WARN"}),
    (database(clock_offset_seconds=-31.0), {"clock": "FAIL"}),
    (database(clock_offset_seconds=4.0), {"clock": "WARN"}),
    ({"behind_proxy": False}, {"proxy": "FAIL"}),
]


@pytest.mark.parametrize(("service", "expected"), SERVICE_CASES)
def test_a_fact_of_the_service_changes_its_own_check_only(service: dict[str, Any], expected: dict[str, str]) -> None:
    results = checked(replace(SERVICE, **service))
    assert differing(results) == expected, results


def test_each_check_has_a_case_here_in_which_it_is_not_ok() -> None:
    tested = {check for _, expected in HOST_CASES + SERVICE_CASES for check in expected}
    assert tested == set(run_checks(Facts(host_facts(), SERVICE)))


def test_the_key_folder_is_checked_by_the_service_where_the_host_may_not_look() -> None:
    unseen = "\n".join(line for line in PERMISSIONS.splitlines() if "data/keys" not in line)
    assert differing(checked(permissions=unseen)) == {}
    service = replace(SERVICE, key_modes={"/keys": 0o700, "/keys/keyring.json": 0o644})
    assert differing(checked(service, permissions=unseen)) == {"permissions": "FAIL"}


def test_without_nginx_what_it_serves_is_not_checked() -> None:
    nothing_served = {"tls_handshake": None, "proxy": []}
    results = differing(checked(**containers(container("nginx", state="exited")), **nothing_served))
    unchecked = ("certificate", "certificate-names", "certificate-chain", "certificate-file", "proxy")
    assert results == dict.fromkeys(unchecked, "WARN") | {"containers": "FAIL"}
    assert differing(checked(**nothing_served))["certificate"] == "FAIL"


@pytest.mark.parametrize(
    ("foreign", "statuses"),
    [
        ("index card.mine", {"catalog": "WARN", "proxy": "FAIL"}),
        ("trigger card.mine", {"catalog": "FAIL", "proxy": "WARN"}),
    ],
)
def test_only_a_database_that_can_make_the_app_fail_excuses_its_503(foreign: str, statuses: dict[str, str]) -> None:
    service = replace(SERVICE, **database(catalog=CatalogDifference(foreign=(foreign,)), recorded={}))
    assert differing(checked(service, proxy=[PROBE | {"status": 503, "answer": "{}"}])) == statuses


def test_an_rsa_certificate_is_valid_and_ecdsa_recommended() -> None:
    found = checked(**served(pem("example.com", key=rsa_key())))["certificate"]
    assert found.status == Status.OK
    assert all("ECDSA P-256" in message for message in (found.message_zh, found.message_en))
    assert "ECDSA" not in checked()["certificate"].message_en


def test_a_key_of_another_certificate_is_found_while_nothing_is_served() -> None:
    found = differing(checked(tls_handshake=None, certificate_key="invalid"))
    assert (found["certificate"], found["certificate-file"]) == ("FAIL", "FAIL")


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        (
            container("app", state="paused"),
            "app: paused. See docker compose logs, then run docker compose unpause app &&",
        ),
        (
            container("nginx", health="unhealthy"),
            "then run docker compose restart nginx && docker compose up -d --wait",
        ),
        (container("nginx", health="starting", restarts=3), "nginx: restarted 3 times and not ready"),
        (container("app", state="exited"), "then run docker compose up -d --wait"),
    ],
)
def test_the_advice_fits_the_state_of_the_container(state: dict[str, Any], advice: str) -> None:
    found = checked(**containers(state))["containers"]
    assert (found.status, advice in found.message_en) == (Status.FAIL, True), found


def test_the_address_that_arrives_by_the_public_name_is_named() -> None:
    assert "card.example.com: 8.8.4.4)" in checked(proxy=[BY_NAME])["proxy"].message_en
    found = checked(proxy=[BY_NAME | {"answer": answer("BALANCER")}])["proxy"].message_en
    assert "A request to card.example.com is recorded with the balancer's address, 10.0.0.2:" in found


def test_an_app_that_is_down_is_no_fault_of_the_proxy() -> None:
    changed = containers(container("app", state="exited")) | {"proxy": [PROBE | {"status": 503, "answer": "{}"}]}
    assert differing(checked(**changed)) == {"containers": "FAIL", "proxy": "WARN"}


def test_lost_files_and_broken_modules_are_listed_up_to_five() -> None:
    names = tuple(f"part{number}.age" for number in range(9))
    results = checked(replace(SERVICE, database=replace(DATABASE, lost_files=names[:2]), broken=names))
    assert "part0.age, part1.age." in results["files"].message_en
    assert "part4.age, … (9)." in results["functions"].message_en


def test_the_console_which_reads_no_file_whole_leaves_their_digests_out() -> None:
    results = checked(replace(SERVICE, **database(compared_files=None)))
    assert "file-digests" not in results
    assert differing(results) == {}


def test_accounts_without_ceilings_and_expiring_tokens_are_named() -> None:
    found = ("console:alice", "shop:taobao")
    service = replace(SERVICE, database=replace(DATABASE, without_ceilings=found, expiring_tokens=("pdd 2026-12-01",)))
    results = checked(service)
    assert "Without ceilings: console:alice, shop:taobao." in results["ceilings"].message_en
    assert "or have expired: pdd 2026-12-01." in results["tokens"].message_en


def test_each_standby_is_named_with_its_lag() -> None:
    several = database(synchronous="*", standbys={"b:5432": 96, "c:5433": "timeout expired"})
    message = checked(replace(SERVICE, **several))["durability"].message_en
    assert message == "Replication is synchronous. b:5432: 96 bytes behind; c:5433: timeout expired"


def test_operators_without_one_time_codes_are_named_unless_only_certain_addresses_reach_the_console() -> None:
    service = replace(SERVICE, database=replace(DATABASE, operators={"alice": True, "bob": False, "carol": False}))
    assert "a password is enough for bob, carol:" in checked(service)["console"].message_en
    allowed = checked(service, **setting("KADUN_ADMIN_ALLOW", "203.0.113.7 2001:db8::/32"))
    assert differing(allowed) == {}
    assert "203.0.113.7 2001:db8::/32" in allowed["console"].message_en


def test_without_facts_of_the_host_only_the_service_is_checked() -> None:
    trial = replace(SERVICE, behind_proxy=False, database=replace(DATABASE, roles={"kadun": ["SUPERUSER"]}))
    results = run_checks(Facts(service_if_any=trial))
    assert set(results) == SERVICE_CHECKS
    assert differing(results) == {"roles": "WARN"}, "the trial has one role"
    exposed = replace(SERVICE, key_modes={"/keys": 0o755})
    assert differing(run_checks(Facts(service_if_any=exposed))) == {"permissions": "FAIL"}


def test_without_facts_of_the_service_only_the_host_is_checked() -> None:
    results = run_checks(Facts(host_facts()))
    assert differing(results) == {}
    assert {"containers", "ports", "permissions"} <= set(results)


@pytest.mark.parametrize("host", [{}, {"containers": []}, {"tls_handshake": None}, sockets(STRANGER)])
def test_every_result_is_one_line_in_each_language(host: dict[str, Any]) -> None:
    for result in checked(**host).values():
        assert not result.message_zh.isascii()
        assert result.message_en
        assert "\n" not in result.message_en
        assert not any("\u4e00" <= c <= "\u9fff" for c in result.message_en)


def test_both_ports_must_differ_where_both_are_set() -> None:
    settings = {"settings": {"KADUN_HTTP_PORT": "443", "KADUN_HTTPS_PORT": "443"}, "sockets": ""}
    assert differing(checked(**settings)) == {"env-values": "FAIL"}


def test_the_nearest_name_is_suggested_and_the_line_named() -> None:
    names = {"settings": {"KADUN_ADMIN_ALOW": "::1", "NOTE": "mine"}, "unreadable_lines": [3]}
    message = checked(**names)["env-names"].message_en
    assert message.endswith("in .env: line 3, KADUN_ADMIN_ALOW → KADUN_ADMIN_ALLOW")


def test_ports_of_another_compose_project_are_named_with_it() -> None:
    message = checked(**sockets(PUBLISHED.replace(":8080", ":8081")))["ports"].message_en
    assert message == "Only SSH and nginx listen for the world; ports of other Compose projects: 8081/tcp shop"


def test_the_facts_are_those_that_the_script_gathers(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "scripts/lib/hostfacts.py"
    done = subprocess.run(
        (sys.executable, "-B", "-E", "-s", script, tmp_path, "22 2222"), check=True, capture_output=True, text=True
    )
    facts = msgspec.json.decode(done.stdout, type=HostFacts)
    assert facts.ssh_ports == "22 2222"
    assert set(json.loads(done.stdout)) == set(HOST)


def test_the_disk_of_the_database_is_reported_where_it_is_one_of_its_own() -> None:
    assert "disk-database" not in checked(disks={"data": DISK, "backups": DISK})


def test_a_service_that_is_marked_as_moved_and_still_runs_is_a_fault() -> None:
    result = checked(moved_to="2026-11-25T12:00:00Z bundle kadun.tar.age")["containers"]
    assert result.status is Status.FAIL
    assert "the service still runs here" in result.message_en
    assert "only answers 503" not in result.message_en


def test_a_service_that_has_moved_is_not_to_be_started() -> None:
    stopped = containers(container("app", state="exited", health=None))
    result = checked(**stopped, moved_to="2026-11-25T12:00:00Z root@new:/srv/kadun")["containers"]
    assert result.status is Status.WARN
    assert "The service moved to root@new:/srv/kadun at 2026-11-25T12:00:00Z" in result.message_en
    assert "up -d" not in result.message_en + result.message_zh
