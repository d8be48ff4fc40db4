"""The checks of `cardctl doctor`: which facts change which of them, and what all of their results have in common."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from app.domain.hosts import HostJob
from app.domain.texts import Text
from app.services.doctor import Facts, HostFacts, Status, run_checks
from app.storage.bucket_blobs import Probe
from tests.support.doctor_cases import HOST_CASES, SERVICE_CASES
from tests.support.doctor_facts import (
    DATABASE,
    HOST,
    NOW,
    SERVICE,
    SERVICE_CHECKS,
    STRANGER,
    checked,
    database,
    differing,
    host_facts,
    setting,
    sockets,
)
from tests.support.tables import for_each


@for_each("host, expected", [({}, {}), *HOST_CASES])
def test_a_fact_of_the_host_changes_its_own_check_only(host: dict[str, Any], expected: dict[str, str]) -> None:
    results = checked(**host)
    assert differing(results) == expected, results


@for_each("service, expected", SERVICE_CASES)
def test_a_fact_of_the_service_changes_its_own_check_only(service: dict[str, Any], expected: dict[str, str]) -> None:
    results = checked(replace(SERVICE, **service))
    assert differing(results) == expected, results


def test_each_check_has_a_case_here_in_which_it_is_not_ok() -> None:
    tested = {check for _, expected in HOST_CASES + SERVICE_CASES for check in expected}
    assert tested == set(run_checks(Facts(host_facts(), SERVICE)))


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


@for_each("host", [{}, {"containers": []}, {"tls_handshake": None}, sockets(STRANGER)])
def test_every_result_is_one_line_in_each_language(host: dict[str, Any]) -> None:
    for result in checked(**host).values():
        assert not result.message_zh.isascii()
        assert result.message_en
        assert "\n" not in result.message_en
        assert not any("\u4e00" <= c <= "\u9fff" for c in result.message_en)


def test_the_facts_are_those_that_the_script_gathers(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "scripts/lib/hostfacts.py"
    done = subprocess.run(
        (sys.executable, "-B", "-E", "-s", "-S", script, tmp_path, "22 2222"),
        check=True,
        capture_output=True,
        text=True,
    )
    facts = msgspec.json.decode(done.stdout, type=HostFacts)
    assert facts.ssh_ports == "22 2222"
    assert set(json.loads(done.stdout)) == set(HOST)


NEVER = {"last_good": None, "last_verified": None, "last_away": None} | setting("KADUN_HOST", "web-1")
NEVER_FAULTS = {"backup": "FAIL", "backup-checksum": "WARN", "backup-away": "WARN", "backup-proof": "WARN"}
LONG_AGO = {name: f"2026-11-01T03:30:00Z {HOST[name].partition(' ')[2]}" for name in ("last_good", "last_verified")}


@for_each(
    "host, jobs, expected",
    [
        (NEVER, {"backup": ("web-2", 25), "verify": ("web-2", 7 * 24)}, {}),
        (LONG_AGO, {"backup": ("web-2", 25), "verify": ("web-2", 7 * 24)}, {}),
        (NEVER, {"verify": ("web-2", 1)}, NEVER_FAULTS | {"backup-proof": "OK"}),
        (NEVER, {"backup": ("web-2", 27), "verify": ("web-2", 9 * 24)}, NEVER_FAULTS),
        (NEVER, {"backup": ("web-2", -1), "verify": ("web-2", -1)}, NEVER_FAULTS),
        (NEVER, {"backup": ("web-1", 1), "verify": ("web-1", 1)}, NEVER_FAULTS),
        (NEVER | setting("KADUN_HOST", None), {"backup": ("unnamed", 1), "verify": ("unnamed", 1)}, NEVER_FAULTS),
        ({"backup_bytes": None}, {"backup": ("web-2", 1)}, {"backup": "FAIL", "backup-checksum": "WARN"}),
    ],
)
def test_the_backups_of_another_host_count(
    host: dict[str, Any], jobs: dict[str, tuple[str, int]], expected: dict[str, str]
) -> None:
    done = {job: HostJob(name, NOW - timedelta(hours=hours)) for job, (name, hours) in jobs.items()}
    results = checked(replace(SERVICE, **database(jobs=done)), **host)
    assert differing(results) == {check: status for check, status in expected.items() if status != "OK"}
    unseen = checked(replace(SERVICE, database="connection refused"), **NEVER)
    assert unseen["backup"].status is Status.FAIL


@for_each(
    "probe, status",
    [
        *((Probe(None, offset), "OK") for offset in (0.0, None)),
        (Probe(None, -4.0), "WARN"),
        (Probe(None, 31.0), "FAIL"),
        (Probe(Text("无法写入：…", "cannot write: …"), None), "FAIL"),
    ],
)
def test_a_bucket_is_checked_where_one_is_set(probe: Probe, status: str) -> None:
    assert checked(replace(SERVICE, bucket=probe))["bucket"].status == status
    assert "bucket" not in checked(SERVICE)


@for_each(
    "found, check, said",
    [
        ({"lost_files": ("a.age", "b.age")}, "files", "a.age, b.age."),
        ({"lost_files": None, "compared_files": None}, "files", "Not checked: the bucket is unavailable"),
        ({"without_ceilings": ("console:alice", "shop:taobao")}, "ceilings", "console:alice, shop:taobao."),
        ({"expiring_tokens": ("pdd 2026-12-01",)}, "tokens", "or have expired: pdd 2026-12-01."),
        ({"operators": {"alice": True, "bob": False, "carol": False}}, "console", "is enough for bob, carol:"),
        (
            {"synchronous": "*", "standbys": {"b:5432": 96, "c:5433": "timeout expired"}},
            "durability",
            "Replication is synchronous. b:5432: 96 bytes behind; c:5433: timeout expired",
        ),
    ],
)
def test_what_is_concerned_is_named(found: dict[str, Any], check: str, said: str) -> None:
    results = checked(replace(SERVICE, **database(**found)))
    assert said in results[check].message_en
    assert ("file-digests" in results) is ("compared_files" not in found), "the console reads no file whole"


def test_a_password_is_enough_where_only_certain_addresses_reach_the_console() -> None:
    service = replace(SERVICE, **database(operators={"alice": True, "bob": False}))
    allowed = checked(service, **setting("KADUN_ADMIN_ALLOW", "203.0.113.7 2001:db8::/32"))
    assert differing(allowed) == {}
    assert "203.0.113.7 2001:db8::/32" in allowed["console"].message_en
    broken = checked(replace(SERVICE, broken=tuple(f"part{number}.age" for number in range(9))))["functions"]
    assert "part4.age, … (9)." in broken.message_en, "up to five"
