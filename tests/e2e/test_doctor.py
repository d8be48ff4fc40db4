"""`cardctl doctor` on the real thing: each fault is planted, found in its own line and no other, and healed."""

import json
import socket
from collections.abc import Iterator
from subprocess import CompletedProcess

import pytest

from tests.support.doctor_faults import DOMAIN, FAULTS, Findings, mode, rewritten
from tests.support.stack import Stack, run

pytestmark = [pytest.mark.containers, pytest.mark.long, pytest.mark.timeout(900)]


class Report:
    """What doctor said: a status for each check, what it said of each, and how it ended."""

    def __init__(self, done: CompletedProcess[str]) -> None:
        lines = json.loads(done.stdout)
        assert all(set(line) == {"check", "status", "message_zh", "message_en"} for line in lines)
        self.said = {line["check"]: line["message_en"] for line in lines}
        self.findings: Findings = {line["check"]: line["status"] for line in lines}
        assert len(self.findings) == len(lines)
        assert done.returncode == ("FAIL" in self.findings.values())
        # Other programs of this machine come and go: their ports are the other test's matter.
        del self.findings["ports"]


def doctor(stack: Stack, *arguments: str, **environment: str) -> CompletedProcess[str]:
    command = (stack.folder / "scripts/cardctl", "doctor", *arguments)
    return run(*command, check=False, env=stack._environment | environment, cwd="/")  # noqa: SLF001  # as cardctl does


def report(stack: Stack, **environment: str) -> Report:
    return Report(doctor(stack, "--format", "json", **environment))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.init_anew(DOMAIN)
        stack.up()
        for script in ("backup.sh", "verify-backup.sh"):
            stack.script(script)
        yield stack
    finally:
        stack.remove()


@pytest.fixture(scope="module")
def well(stack: Stack) -> Findings:
    """The findings of the stack as it should be; what this machine lacks (UFW, a synchronised clock) is a warning."""
    found = report(stack).findings
    assert "FAIL" not in found.values(), found
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_changes_its_line_and_no_other(stack: Stack, well: Findings, fault: str) -> None:
    plant, expected = FAULTS[fault]
    with plant(stack):
        found = report(stack)
    # No other: the one of the test before is healed, too.
    assert found.findings == well | expected, found.said


def test_healed_of_the_last_fault_all_is_well_again(stack: Stack, well: Findings) -> None:
    assert report(stack).findings == well


def test_a_stranger_that_listens_for_the_world_is_named_unless_it_is_meant(stack: Stack) -> None:
    with socket.create_server(("0.0.0.0", 0)) as stranger, socket.create_server(("127.0.0.1", 0)) as local:  # noqa: S104
        port = stranger.getsockname()[1]
        said = report(stack).said["ports"]
        assert f"{port}/tcp" in said
        assert f"{local.getsockname()[1]}/tcp" not in said
        dotenv = stack.folder / ".env"
        with rewritten(dotenv, f"{dotenv.read_text()}\nKADUN_DOCTOR_PORTS=7/udp {port}\n"):
            assert f"{port}/tcp" not in report(stack).said["ports"]
    assert f"{stack.https_port}/tcp" not in said


def test_a_program_newer_than_the_running_one_is_said(stack: Stack, well: Findings) -> None:
    with rewritten(stack.folder / "app/clock.py", "# of tomorrow\n"):
        assert report(stack).findings == well | {"program": "WARN"}


def test_a_newer_image_that_no_container_took_up_is_said(stack: Stack, well: Findings) -> None:
    name = f"{stack.project}-app"
    before = stack.inspect("app")["Image"]
    run("docker", "tag", stack.inspect("nginx")["Image"], name)
    try:
        assert report(stack).findings == well | {"images": "WARN"}
    finally:
        run("docker", "tag", before, name)


def test_a_person_reads_a_line_for_each_check_in_both_languages(stack: Stack, well: Findings) -> None:
    done = doctor(stack)
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert {check: status for status, check, _ in lines if check != "ports"} == well
    assert all(" / " in text and not text.partition(" / ")[0].isascii() for _, _, text in lines)
    assert ("没有发现错误" if done.returncode == 0 else "发现问题") in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_in_crons_bare_environment_it_says_the_same(stack: Stack, well: Findings) -> None:
    bare = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "root"}
    done = run(stack.folder / "scripts/cardctl", "doctor", "--format", "json", check=False, env=bare, cwd="/", input="")
    assert Report(done).findings == well


def test_it_leaves_nothing_behind(stack: Stack) -> None:
    report(stack)
    assert [
        event for event in stack.cardctl("events", "--format", "json") if event["hardware"] == "cardctl doctor"
    ] == []
    containers = run(
        "docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={stack.project}"
    )
    assert len(containers.stdout.split()) == 5


def test_no_secret_leaves_the_host(stack: Stack) -> None:
    libraries = "for name in common stack provision-firewall hostfacts; do . $ROOT/scripts/lib/$name.sh; done"
    gather = f"set -euo pipefail; {libraries}; host_facts"
    told = run("bash", "-c", gather, env=stack._environment | {"ROOT": str(stack.folder)}, cwd="/").stdout  # noqa: SLF001
    json.loads(told)
    hidden = [file.read_text().strip() for file in (stack.folder / "secrets").iterdir()]
    hidden.append((stack.folder / "https_certificates/privkey.pem").read_text().splitlines()[1])
    hidden.append(json.loads((stack.folder / "data/keys/keyring.json").read_text())["keys"][0]["private"])
    said = told + doctor(stack).stdout
    assert [secret for secret in hidden if secret in said] == []


def test_a_stack_that_is_down_is_said_to_be_and_the_host_is_judged_all_the_same(stack: Stack, well: Findings) -> None:
    dotenv = stack.folder / ".env"
    stack.compose("stop", "--timeout", "1")
    try:
        with mode(stack.folder / "secrets", 0o755):
            found = report(stack)
        assert {"containers", "permissions"} == {check for check, status in found.findings.items() if status == "FAIL"}
        assert "database: exited" in found.said["containers"]
        assert "schema" not in found.findings, "what cannot be seen is not made up"
        with rewritten(dotenv, f"{dotenv.read_text()}\nKADUN_APP_IMAGE=kadun-nowhere\n"):
            done = doctor(stack)
        assert (done.returncode, "no image kadun-nowhere" in done.stdout) == (1, True)
    finally:
        stack.up()


def test_without_an_engine_one_line_says_so(stack: Stack) -> None:
    nowhere = {"DOCKER_HOST": "unix:///nonexistent.sock"}
    done = doctor(stack, **nowhere)
    assert (done.returncode, len(done.stdout.splitlines()), len(done.stderr.splitlines())) == (1, 1, 1)
    assert done.stdout.startswith("FAIL  containers  Docker")
    (line,) = json.loads(doctor(stack, "--format=json", **nowhere).stdout)
    assert (line["check"], line["status"]) == ("containers", "FAIL")


@pytest.mark.parametrize("arguments", [("--nonsense",), ("--format", "xml"), ("--format",), ("--host-facts", "-")])
def test_a_wrong_use_is_two(stack: Stack, arguments: tuple[str, ...]) -> None:
    done = doctor(stack, *arguments)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert doctor(stack, "--help").returncode == 0
