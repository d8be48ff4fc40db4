"""`cardctl doctor` on a running stack: what it gathers, and that each fault is found by its own check only."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.doctor import (
    broken_module,
    expired_certificate,
    gateways_address,
    lost_backup,
    no_daily_backup,
    older_schema,
)
from tests.support.hosts.stack import Stack, rewritten, run

pytestmark = pytest.mark.xdist_group("serving")

Statuses = dict[str, str]
UNKNOWN = ("hosts", "files", "console", "sealing-key", "proxy")
"""What is not checked in a database that the service refuses."""


@contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


def report(stack: Stack) -> tuple[Statuses, dict[str, str]]:
    """Return the status and the message of each check, in the environment of cron, which is enough."""
    bare = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "root"}
    done = run(stack.folder / "scripts/cardctl", "doctor", "--format", "json", check=False, env=bare, cwd="/", input="")
    lines = json.loads(done.stdout)
    statuses = {line["check"]: line["status"] for line in lines}
    assert len(statuses) == len(lines)
    assert done.returncode == ("FAIL" in statuses.values())
    return statuses, {line["check"]: line["message_en"] for line in lines}


@pytest.fixture(scope="module")
def healthy(stack: Stack) -> Statuses:
    """The statuses of the healthy stack; what this machine lacks (a synchronised clock) is a warning."""
    if not (stack.folder / "data/backups/last-verified").exists():
        stack.script("backup.sh")
        stack.script("backup.sh", "--verify")
    found, messages = report(stack)
    assert "FAIL" not in found.values(), messages
    return found


def test_faults_of_nginx_the_functions_and_the_modes_of_files_change_their_own_checks_only(
    stack: Stack, healthy: Statuses
) -> None:
    with (
        expired_certificate(stack),
        gateways_address(stack),
        broken_module(stack),
        mode(stack.folder / "data/keys/keyring.json", 0o644),
    ):
        found, messages = report(stack)
    faults = ("certificate", "proxy", "functions", "permissions")
    assert found == healthy | dict.fromkeys(faults, "FAIL"), messages


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
        found, messages = report(stack)
    faults = dict.fromkeys(("env-names", "backup", "cron-jobs", "schema"), "FAIL")
    assert found == healthy | dict.fromkeys(UNKNOWN, "WARN") | faults, messages
    assert report(stack)[0] == healthy, "all is healed"


def test_it_tells_no_secret_and_leaves_nothing(stack: Stack, healthy: Statuses) -> None:
    probes = "SELECT count(*) FROM event WHERE hardware = 'cardctl doctor'"
    before = stack.sql("owner", probes)
    shown = stack.script("cardctl", "doctor", check=False).stdout
    assert stack.sql("owner", probes) == before
    shown += run(sys.executable, stack.folder / "scripts/lib/hostfacts.py", stack.folder, cwd="/").stdout
    hidden = [file.read_text().strip() for file in (stack.folder / "secrets").iterdir()]
    hidden.append((stack.folder / "https_certificates/privkey.pem").read_text().splitlines()[1])
    ring = json.loads((stack.folder / "data/keys/keyring.json").read_text())["keys"]
    hidden += [key["private"] for key in ring if key["private"]]  # another test may have rotated them
    assert [secret for secret in hidden if secret in shown] == []
    containers = run("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={stack.project}")
    assert len(containers.stdout.split()) == len(("database", "migrate", "functions", "webhooks", "app", "nginx"))


def test_the_host_is_checked_when_the_stack_is_down(stack: Stack, healthy: Statuses) -> None:
    stack.compose("stop", "--timeout", "1")
    try:
        with mode(stack.folder / "secrets", 0o755):
            found, messages = report(stack)
        assert {"containers", "permissions"} == {check for check, status in found.items() if status == "FAIL"}
        assert "database: exited" in messages["containers"]
        assert "schema" not in found
    finally:
        stack.up()
