"""The checks of `cardctl doctor`: which facts change which of them, and what all of their results have in common."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.services.doctor import Facts, HostFacts, run_checks
from tests.support.doctor_changes import STRANGER, checked, differing, sockets
from tests.support.doctor_facts import DATABASE, HOST, SERVICE, SERVICE_CHECKS, host_facts
from tests.support.doctor_host_cases import HOST_CASES
from tests.support.doctor_service_cases import SERVICE_CASES


def test_nothing_is_said_against_a_stack_as_it_should_be() -> None:
    assert differing(checked()) == {}


@pytest.mark.parametrize(("host", "expected"), HOST_CASES)
def test_a_fact_of_the_host_changes_its_own_check_only(host: dict[str, Any], expected: dict[str, str]) -> None:
    results = checked(**host)
    assert differing(results) == expected, results


@pytest.mark.parametrize(("service", "expected"), SERVICE_CASES)
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


@pytest.mark.parametrize("host", [{}, {"containers": []}, {"tls_handshake": None}, sockets(STRANGER)])
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
