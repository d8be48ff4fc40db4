"""`cardctl doctor` on a running stack: what it gathers, and that each fault is found by its own check only."""

import json
import sys
from subprocess import CompletedProcess

import pytest

from tests.support.doctor import (
    broken_module,
    expired_certificate,
    gateways_address,
    lost_backup,
    no_daily_backup,
    older_schema,
)
from tests.support.hosts.stack import Stack, run
from tests.support.hosts.stack_changes import mode, rewritten

pytestmark = pytest.mark.xdist_group("serving")

Statuses = dict[str, str]
UNKNOWN = ("hosts", "files", "console", "sealing-key", "proxy")
"""What is not checked in a database that the service refuses."""


class Report:
    """The report of `doctor`: the status and the message of each check."""

    def __init__(self, done: CompletedProcess[str]) -> None:
        lines = json.loads(done.stdout)
        assert all(set(line) == {"check", "status", "message_zh", "message_en"} for line in lines)
        self.messages = {line["check"]: line["message_en"] for line in lines}
        self.statuses: Statuses = {line["check"]: line["status"] for line in lines}
        assert len(self.statuses) == len(lines)
        assert done.returncode == ("FAIL" in self.statuses.values())


def report(stack: Stack) -> Report:
    """In the environment of cron, which is enough."""
    bare = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "root"}
    done = run(stack.folder / "scripts/cardctl", "doctor", "--format", "json", check=False, env=bare, cwd="/", input="")
    return Report(done)


@pytest.fixture(scope="module")
def healthy(stack: Stack) -> Statuses:
    """The statuses of the healthy stack; what this machine lacks (a synchronised clock) is a warning."""
    if not (stack.folder / "data/backups/last-verified").exists():
        stack.script("backup.sh")
        stack.script("backup.sh", "--verify")
    found = report(stack)
    assert "FAIL" not in found.statuses.values(), found.messages
    return found.statuses


def test_faults_of_nginx_the_functions_and_the_modes_of_files_change_their_own_checks_only(
    stack: Stack, healthy: Statuses
) -> None:
    keys = stack.folder / "data/keys/keyring.json"
    with (
        expired_certificate(stack),
        gateways_address(stack),
        broken_module(stack),
        mode(keys, 0o644),
    ):
        found = report(stack)
    faults = ("certificate", "proxy", "functions", "permissions")
    assert found.statuses == healthy | dict.fromkeys(faults, "FAIL"), found.messages
    assert report(stack).statuses == healthy, "all is healed"


def test_faults_of_the_settings_the_backups_and_the_database_change_their_own_checks_only(
    stack: Stack, healthy: Statuses
) -> None:
    dotenv = stack.folder / ".env"
    with (
        rewritten(dotenv, f"{dotenv.read_text()}\nKADUN_ADMIN_ALOW=203.0.113.7\n"),
        lost_backup(stack),
        no_daily_backup(stack),
        older_schema(stack),
    ):
        found = report(stack)
    faults = dict.fromkeys(("env-names", "backup", "cron-jobs", "schema"), "FAIL")
    assert found.statuses == healthy | dict.fromkeys(UNKNOWN, "WARN") | faults, found.messages


def probes(stack: Stack) -> str:
    return stack.sql("owner", "SELECT count(*) FROM event WHERE hardware = 'cardctl doctor'")


def test_the_text_has_a_line_for_each_check_in_both_languages_and_no_secret_and_nothing_is_left(
    stack: Stack, healthy: Statuses
) -> None:
    before = probes(stack)
    done = stack.script("cardctl", "doctor", check=False)
    assert probes(stack) == before
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert {check: status for status, check, _ in lines} == healthy
    assert all(" / " in text and not text.partition(" / ")[0].isascii() for _, _, text in lines)
    assert ("没有发现错误" if done.returncode == 0 else "发现问题") in done.stderr
    assert len(done.stderr.splitlines()) == 1

    facts = run(sys.executable, stack.folder / "scripts/lib/hostfacts.py", stack.folder, cwd="/").stdout
    json.loads(facts)
    hidden = [file.read_text().strip() for file in (stack.folder / "secrets").iterdir()]
    hidden.append((stack.folder / "https_certificates/privkey.pem").read_text().splitlines()[1])
    ring = json.loads((stack.folder / "data/keys/keyring.json").read_text())["keys"]
    hidden += [key["private"] for key in ring if key["private"]]  # another test may have rotated them
    assert [secret for secret in hidden if secret in facts + done.stdout] == []

    label = f"label=com.docker.compose.project={stack.project}"
    containers = run("docker", "ps", "--all", "--quiet", "--filter", label)
    assert len(containers.stdout.split()) == len(("database", "migrate", "functions", "webhooks", "app", "nginx"))


def test_the_host_is_checked_when_the_stack_is_down(stack: Stack, healthy: Statuses) -> None:
    stack.compose("stop", "--timeout", "1")
    try:
        with mode(stack.folder / "secrets", 0o755):
            found = report(stack)
        assert {"containers", "permissions"} == {check for check, status in found.statuses.items() if status == "FAIL"}
        assert "database: exited" in found.messages["containers"]
        assert "schema" not in found.statuses
    finally:
        stack.up()
