"""The checks of `cardctl doctor`: which facts change which of them, and what their results say."""

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
from app.services.doctor import Facts, HostFacts, run_checks
from app.storage.catalog import CatalogDifference
from tests.support.doctor_cases import HOST_CASES, SERVICE_CASES
from tests.support.doctor_facts import (
    BY_NAME,
    DATABASE,
    DISK,
    HOST,
    NOW,
    PERMISSIONS,
    PROBE,
    SERVICE,
    SERVICE_CHECKS,
    STRANGER,
    checked,
    container,
    containers,
    database,
    differing,
    host_facts,
    setting,
    sockets,
)
from tests.support.tables import for_each

MOVED = {"moved_to": "2026-11-25T12:00:00Z root@new:/srv/kadun"}
STOPPED = containers(container("app", state="exited", health=None))
SERVED_BY_NGINX = ("certificate", "certificate-names", "certificate-chain", "certificate-file", "proxy")
NOT_SERVED: dict[str, Any] = {"tls_handshake": None, "proxy": []}
BUSY = {"proxy": [PROBE | {"status": 503, "answer": "{}"}]}
UNSEEN_KEYS = {"permissions": "\n".join(line for line in PERMISSIONS.splitlines() if "data/keys" not in line)}
NEVER = {"last_good": None, "last_verified": None, "last_away": None} | setting("KADUN_HOST", "web-1")
NEVER_FAULTS = {"backup": "FAIL", "backup-checksum": "WARN", "backup-away": "WARN", "backup-proof": "WARN"}


def jobs(host: str, backup: int, verify: int) -> dict[str, Any]:
    """What a host did so many hours ago."""
    hours = {"backup": backup, "verify": verify}
    return database(jobs={job: HostJob(host, NOW - timedelta(hours=ago)) for job, ago in hours.items()})


def foreign(what: str) -> dict[str, Any]:
    return database(catalog=CatalogDifference(foreign=(what,)), recorded={})


TOGETHER: list[tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = [
    ({}, {}, {}),
    # Without nginx, what it serves is not checked; a certificate is judged while nothing is served.
    (
        containers(container("nginx", state="exited")) | NOT_SERVED,
        *({}, dict.fromkeys(SERVED_BY_NGINX, "WARN") | {"containers": "FAIL"}),
    ),
    (NOT_SERVED, {}, dict.fromkeys(SERVED_BY_NGINX, "WARN") | {"certificate": "FAIL"}),
    # An app that is down excuses a 503, and of a database only one that can make the app fail.
    (containers(container("app", state="exited")) | BUSY, {}, {"containers": "FAIL", "proxy": "WARN"}),
    (BUSY, foreign("index card.mine"), {"catalog": "WARN", "proxy": "FAIL"}),
    (BUSY, foreign("trigger card.mine"), {"catalog": "FAIL", "proxy": "WARN"}),
    # Where the host may not look, the service checks the folder of the keys.
    (UNSEEN_KEYS, {}, {}),
    (UNSEEN_KEYS, {"key_modes": {"/keys": 0o700, "/keys/keyring.json": 0o644}}, {"permissions": "FAIL"}),
    # The backups of another host count, but not for ever, nor those of this host.
    (NEVER, jobs("web-2", 25, 7 * 24), {}),
    (NEVER, jobs("web-2", 27, 9 * 24), NEVER_FAULTS),
    (NEVER, jobs("web-1", 1, 1), NEVER_FAULTS),
    # A bucket is checked where one is set.
    ({}, {"bucket": True}, {}),
    ({}, {"bucket": Text("无法写入：…", "cannot write: …")}, {"bucket": "FAIL"}),
    # A password is enough where only certain addresses reach the console.
    (
        setting("KADUN_ADMIN_ALLOW", "203.0.113.7 2001:db8::/32"),
        *(database(operators={"alice": True, "bob": False}), {}),
    ),
]


@for_each(
    "host, service, expected",
    [
        *TOGETHER,
        *((host, {}, expected) for host, expected in HOST_CASES),
        *(({}, service, expected) for service, expected in SERVICE_CASES),
    ],
)
def test_facts_change_these_checks_alone(
    host: dict[str, Any], service: dict[str, Any], expected: dict[str, str]
) -> None:
    results = checked(replace(SERVICE, **service), **host)
    assert differing(results) == expected, results


def test_each_check_has_a_case_here_in_which_it_is_not_ok() -> None:
    tested = {check for _, expected in HOST_CASES + SERVICE_CASES for check in expected}
    assert tested == set(run_checks(Facts(host_facts(), SERVICE)))


def test_without_facts_of_the_host_or_of_the_service_the_other_is_checked() -> None:
    trial = replace(SERVICE, behind_proxy=False, database=replace(DATABASE, roles={"kadun": ["SUPERUSER"]}))
    results = run_checks(Facts(service_if_any=trial))
    assert set(results) == SERVICE_CHECKS
    assert differing(results) == {"roles": "WARN"}, "the trial has one role"
    exposed = replace(SERVICE, key_modes={"/keys": 0o755})
    assert differing(run_checks(Facts(service_if_any=exposed))) == {"permissions": "FAIL"}
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
    command = (sys.executable, "-B", "-E", "-s", "-S", script, tmp_path, "22 2222")
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    facts = msgspec.json.decode(done.stdout, type=HostFacts)
    assert facts.ssh_ports == "22 2222"
    assert set(json.loads(done.stdout)) == set(HOST)


COMPOSE_UP = "docker compose up -d --wait"


@for_each(
    "host, service, check, status, said",
    [
        (containers(container("app", state="paused")), {}, "containers", "FAIL", "run docker compose unpause app &&"),
        (
            containers(container("nginx", health="unhealthy")),
            *({}, "containers", "FAIL", f"then run docker compose restart nginx && {COMPOSE_UP}"),
        ),
        (containers(container("app", state="exited")), {}, "containers", "FAIL", f"then run {COMPOSE_UP}"),
        (MOVED, {}, "containers", "FAIL", "the service still runs here"),
        (STOPPED | MOVED, {}, "containers", "WARN", "The service moved to root@new:/srv/kadun at 2026-11-25T12:00:00Z"),
        (STOPPED | {"other_projects": ["shop"]}, {}, "containers", "FAIL", "containers of this folder, too: shop."),
        ({"proxy": [BY_NAME]}, {}, "proxy", "OK", "card.example.com: 8.8.4.4)"),
        ({}, database(lost_files=("a.age", "b.age")), "files", "FAIL", "a.age, b.age."),
        ({}, database(operators={"alice": True, "bob": False}), "console", "WARN", "is enough for bob:"),
        (
            *({}, database(synchronous="*", standbys={"b:5432": 96, "c:5433": "timeout expired"})),
            *("durability", "WARN", "b:5432: 96 bytes behind; c:5433: timeout expired"),
        ),
        ({}, {"broken": tuple(f"part{n}.age" for n in range(9))}, "functions", "FAIL", "part4.age, … (9)."),
    ],
)
def test_a_message_names_what_is_found_and_what_to_do(
    host: dict[str, Any], service: dict[str, Any], check: str, status: str, said: str
) -> None:
    found = checked(replace(SERVICE, **service), **host)[check]
    assert (found.status.value, said in found.message_en) == (status, True), found


def test_what_cannot_or_must_not_be_done_is_neither_checked_nor_advised() -> None:
    for host in (STOPPED | MOVED, STOPPED | {"other_projects": ["shop"]}):
        messages = [result.message_en + result.message_zh for result in checked(**host).values()]
        assert [message for message in messages if "up -d" in message or "compose up" in message] == []
    assert "disk-database" not in checked(disks={"data": DISK, "backups": DISK})
    without = replace(SERVICE, **database(lost_files=None, compared_files=None))
    assert "file-digests" not in checked(without), "the console reads no file whole"
    found = differing(checked(tls_handshake=None, certificate_key="invalid"))
    assert (found["certificate"], found["certificate-file"]) == ("FAIL", "FAIL")
    assert differing(checked(replace(SERVICE, database="connection refused"), **NEVER))["backup"] == "FAIL"
