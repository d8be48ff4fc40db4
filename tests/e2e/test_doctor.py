"""`cardctl doctor` on a running stack: each fault is found by its own check only."""

import contextlib
import hashlib
import json
import socket
import sys
from collections.abc import Iterator
from subprocess import CompletedProcess

import pytest

from tests.support.doctor_faults import DOMAIN, FAULTS, Statuses
from tests.support.http_exchange import quiet_port
from tests.support.stack import Stack, run
from tests.support.stack_changes import mode, rewritten

pytestmark = [pytest.mark.containers, pytest.mark.long]


class Report:
    """The report of `doctor`: the status and the message of each check."""

    def __init__(self, done: CompletedProcess[str]) -> None:
        lines = json.loads(done.stdout)
        assert all(set(line) == {"check", "status", "message_zh", "message_en"} for line in lines)
        self.messages = {line["check"]: line["message_en"] for line in lines}
        self.statuses: Statuses = {line["check"]: line["status"] for line in lines}
        assert len(self.statuses) == len(lines)
        assert done.returncode == ("FAIL" in self.statuses.values())
        # Other programs of this machine come and go.
        del self.statuses["ports"]


def doctor(stack: Stack, *arguments: str, **environment: str) -> CompletedProcess[str]:
    command = (stack.folder / "scripts/cardctl", "doctor", *arguments)
    return run(*command, check=False, env=stack._environment | environment, cwd="/")  # noqa: SLF001  # as cardctl does


def report(stack: Stack, **environment: str) -> Report:
    return Report(doctor(stack, "--format", "json", **environment))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        stack.init_anew(DOMAIN)
        stack.up()
        for script in ("backup.sh", "verify-backup.sh"):
            stack.script(script)
        digest = hashlib.sha256((stack.folder / "secrets/backup_identity").read_bytes()).hexdigest()
        stack.script("backup.sh", "--copied", digest)
        yield stack


@pytest.fixture(scope="module")
def healthy(stack: Stack) -> Statuses:
    """The statuses of the healthy stack; what this machine lacks (UFW, a synchronised clock) is a warning."""
    found = report(stack).statuses
    assert "FAIL" not in found.values(), found
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_changes_its_own_check_only(stack: Stack, healthy: Statuses, fault: str) -> None:
    plant, expected = FAULTS[fault]
    with plant(stack):
        found = report(stack)
    assert found.statuses == healthy | expected, found.messages


def test_the_last_fault_is_healed(stack: Stack, healthy: Statuses) -> None:
    assert report(stack).statuses == healthy


def test_another_open_port_is_named_unless_it_is_expected(stack: Stack) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as local:  # noqa: S104
        port = listener.getsockname()[1]
        messages = report(stack).messages["ports"]
        assert f"{port}/tcp" in messages
        assert f"{local.getsockname()[1]}/tcp" not in messages
        dotenv = stack.folder / ".env"
        with rewritten(dotenv, f"{dotenv.read_text()}\nKADUN_DOCTOR_PORTS=7/udp {port}\n"):
            assert f"{port}/tcp" not in report(stack).messages["ports"]
    assert f"{stack.https_port}/tcp" not in messages


OTHER = ("--label", "com.docker.compose.project=kadun-test-shop", "--label")


@pytest.mark.parametrize(
    ("options", "is_theirs"),
    [
        ((*OTHER, "com.docker.compose.service=web", "--publish", "{port}:80"), True),
        ((*OTHER, "com.docker.compose.service=nginx", "--network", "host", "--env", "KADUN_HTTPS_PORT={port}"), True),
        ((*OTHER, "com.docker.compose.service=redis", "--network", "host", "--env", "KADUN_HTTPS_PORT={port}"), False),
        (("--publish", "{port}:80"), False),
    ],
)
def test_a_port_of_another_compose_project_is_no_fault(
    stack: Stack, options: tuple[str, ...], *, is_theirs: bool
) -> None:
    port = quiet_port()
    command = ("docker", "run", "--detach", "--rm", *(option.format(port=port) for option in options))
    container = run(*command, stack.inspect("nginx")["Config"]["Image"], "sleep", "600").stdout.strip()
    try:
        with contextlib.ExitStack() as listening:
            if "host" in options:
                listening.enter_context(socket.create_server(("0.0.0.0", port)))  # noqa: S104
            message = report(stack).messages["ports"]
    finally:
        run("docker", "rm", "--force", container)
    exposed, _, others = message.partition("ports of other Compose projects")
    assert (f"{port}/tcp" in exposed) != is_theirs, message
    assert not others or (f"{port}/tcp kadun-test-shop" in others) == is_theirs


def test_a_program_newer_than_the_running_one_is_found(stack: Stack, healthy: Statuses) -> None:
    with rewritten(stack.folder / "app/clock.py", "# newer\n"):
        assert report(stack).statuses == healthy | {"program": "WARN"}


def test_a_newer_image_that_no_container_uses_is_found(stack: Stack, healthy: Statuses) -> None:
    name = f"{stack.project}-app"
    before = stack.inspect("app")["Image"]
    run("docker", "tag", stack.inspect("nginx")["Image"], name)
    try:
        assert report(stack).statuses == healthy | {"images": "WARN"}
    finally:
        run("docker", "tag", before, name)


def test_the_text_report_has_a_line_for_each_check_in_both_languages(stack: Stack, healthy: Statuses) -> None:
    done = doctor(stack)
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert {check: status for status, check, _ in lines if check != "ports"} == healthy
    assert all(" / " in text and not text.partition(" / ")[0].isascii() for _, _, text in lines)
    assert ("没有发现错误" if done.returncode == 0 else "发现问题") in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_environment_of_cron_is_enough(stack: Stack, healthy: Statuses) -> None:
    bare = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "root"}
    done = run(stack.folder / "scripts/cardctl", "doctor", "--format", "json", check=False, env=bare, cwd="/", input="")
    assert Report(done).statuses == healthy


def test_no_journal_entry_and_no_container_is_left(stack: Stack) -> None:
    report(stack)
    assert [
        event for event in stack.cardctl("events", "--format", "json") if event["hardware"] == "cardctl doctor"
    ] == []
    containers = run(
        "docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={stack.project}"
    )
    assert len(containers.stdout.split()) == len(("database", "migrate", "functions", "webhooks", "app", "nginx"))


def test_no_secret_leaves_the_host(stack: Stack) -> None:
    gather = (sys.executable, stack.folder / "scripts/lib/hostfacts.py", stack.folder, "22")
    facts = run(*gather, env=stack._environment, cwd="/").stdout  # noqa: SLF001  # as cardctl does
    json.loads(facts)
    hidden = [file.read_text().strip() for file in (stack.folder / "secrets").iterdir()]
    hidden.append((stack.folder / "https_certificates/privkey.pem").read_text().splitlines()[1])
    hidden.append(json.loads((stack.folder / "data/keys/keyring.json").read_text())["keys"][0]["private"])
    printed = facts + doctor(stack).stdout
    assert [secret for secret in hidden if secret in printed] == []


def test_the_host_is_checked_when_the_stack_is_down(stack: Stack, healthy: Statuses) -> None:
    dotenv = stack.folder / ".env"
    stack.compose("stop", "--timeout", "1")
    try:
        with mode(stack.folder / "secrets", 0o755):
            found = report(stack)
        assert {"containers", "permissions"} == {check for check, status in found.statuses.items() if status == "FAIL"}
        assert "database: exited" in found.messages["containers"]
        assert "schema" not in found.statuses
        with rewritten(dotenv, f"{dotenv.read_text()}\nKADUN_APP_IMAGE=kadun-nowhere\n"):
            done = doctor(stack)
        assert (done.returncode, "no image kadun-nowhere" in done.stdout) == (1, True)
        with rewritten(dotenv, "COMPOSE_PROJECT_NAME=kad"):
            printed = doctor(stack).stdout
        assert f"project {stack.project}: start nothing" in printed
        assert "compose up" not in printed
        with rewritten(dotenv, f"COMPOSE_PROJECT_NAME={stack.project}"):
            done = doctor(stack)
        assert (done.returncode, ".env is missing or incomplete" in done.stdout) == (1, True)
    finally:
        stack.up()


def test_without_docker_one_line_says_so(stack: Stack) -> None:
    nowhere = {"DOCKER_HOST": "unix:///nonexistent.sock"}
    done = doctor(stack, **nowhere)
    assert (done.returncode, len(done.stdout.splitlines()), len(done.stderr.splitlines())) == (1, 1, 1)
    assert done.stdout.startswith("FAIL  containers  Docker")
    (line,) = json.loads(doctor(stack, "--format=json", **nowhere).stdout)
    assert (line["check"], line["status"]) == ("containers", "FAIL")


@pytest.mark.parametrize("arguments", [("--nonsense",), ("--format", "xml"), ("--format",), ("--host-facts", "-")])
def test_wrong_usage_exits_with_2(stack: Stack, arguments: tuple[str, ...]) -> None:
    done = doctor(stack, *arguments)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert doctor(stack, "--help").returncode == 0
