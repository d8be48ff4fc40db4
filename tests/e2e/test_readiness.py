"""Scripts judge the service by its own answer, not by what the engine says of a container's health."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.moving import Program, ship
from tests.support.service import wait_for
from tests.support.stack import Stack, run

pytestmark = [pytest.mark.containers, pytest.mark.long]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        stack.init_anew("kadun.test")
        stack.up()
        yield stack


@pytest.fixture(scope="module")
def program(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Program:
    program = ship(stack, tmp_path_factory.mktemp("program"), "a pc")
    program.open_on(stack)
    return program


@contextmanager
def health_checks(stack: Stack, **checks: dict[str, object]) -> Iterator[None]:
    """Change the health checks of services, so that a state shows within seconds that takes minutes otherwise."""
    override = stack.folder / "docker-compose.override.yml"
    override.write_text(json.dumps({"services": {name: {"healthcheck": check} for name, check in checks.items()}}))
    try:
        stack.compose("up", "--detach")
        yield
    finally:
        override.unlink()
        stack.up()


def health(stack: Stack, service: str) -> str:
    return str(stack.inspect(service)["State"]["Health"]["Status"])


def backup(stack: Stack) -> Path:
    stack.script("backup.sh")
    return max((stack.folder / "data/backups").glob("kadun-2*.tar.age"))


# Tests that count further checks want one more than makes a container unhealthy: one may have begun before the fault.
OFTEN = {"interval": "1s", "start_period": "1s", "retries": 3}  # one may be slow


def test_nginx_is_healthy_while_the_app_is_away(stack: Stack, program: Program) -> None:
    with health_checks(stack, nginx=OFTEN):
        wait_for(lambda: health(stack, "nginx") == "healthy", 120)
        stack.compose("stop", "--timeout", "1", "app")
        checked = len(stack.inspect("nginx")["State"]["Health"]["Log"])
        assert checked
        last = stack.inspect("nginx")["State"]["Health"]["Log"][-1]["End"]
        wait_for(lambda: sum(log["Start"] > last for log in stack.inspect("nginx")["State"]["Health"]["Log"]) >= 4, 120)
        assert health(stack, "nginx") == "healthy"
        stack.compose("up", "--detach", "--wait")  # what the docs tell people to run
        program.open_on(stack)


def test_the_app_is_healthy_while_the_database_is_away(stack: Stack, program: Program) -> None:
    with health_checks(stack, app=OFTEN):
        wait_for(lambda: health(stack, "app") == "healthy", 120)
        stack.compose("pause", "database")
        last = stack.inspect("app")["State"]["Health"]["Log"][-1]["End"]
        try:
            wait_for(
                lambda: sum(log["Start"] > last for log in stack.inspect("app")["State"]["Health"]["Log"]) >= 4, 120
            )
            assert health(stack, "app") == "healthy"
        finally:
            stack.compose("unpause", "database")
        wait_for(lambda: health(stack, "database") == "healthy", 120)
        program.open_on(stack)


def test_a_backup_is_restored_and_a_move_undone_although_containers_are_reported_unhealthy(
    stack: Stack, program: Program
) -> None:
    file = backup(stack)
    with health_checks(stack, nginx=OFTEN | {"test": ["CMD", "false"]}, app=OFTEN | {"test": ["CMD", "false"]}):
        wait_for(lambda: {health(stack, service) for service in ("app", "nginx")} == {"unhealthy"}, 120)
        stack.compose("exec", "-T", "database", "psql", "-qXU", "postgres", "kadun", "-c", "DROP TABLE usage CASCADE")
        restored = stack.script("restore.sh", file)
        assert "restored: " in restored.stdout
        program.open_on(stack)
        (stack.folder / "data/keys/moved-to").write_text("2026-01-01T00:00:00Z there:/srv\n")
        assert "This server serves again" in stack.script("migrate-to.sh", "--resume-here").stdout
        program.open_on(stack)


def test_what_does_not_work_is_named_with_its_reason(stack: Stack, program: Program) -> None:
    file, settings = backup(stack), (stack.folder / ".env").read_text()
    beside = stack.compose("run", "--detach", "--no-deps", "app", "sleep", "600").stdout.strip()
    (stack.folder / ".env").write_text(f"{settings}KADUN_TIMEZONE=Nowhere/Nothing\n")
    failed = stack.script("restore.sh", file, check=False)
    assert failed.returncode == 1
    assert "Waiting until it is ready, at the latest until " in failed.stderr
    assert "The service is not ready on what was restored: app: " in failed.stderr
    assert "KADUN_TIMEZONE" in failed.stderr
    assert "The old database is in place, but the service is not ready: app: " in failed.stderr
    run("docker", "rm", "--force", beside)
    (stack.folder / ".env").write_text(settings)
    stack.script("restore.sh", file)
    program.open_on(stack)
