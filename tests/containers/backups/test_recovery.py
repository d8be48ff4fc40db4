"""On a machine of 1 GB: what the stack takes, and that it comes back by itself, with nothing lost."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.hosts.backups import Backups
from tests.support.hosts.servers import Program
from tests.support.hosts.stack import SERVICES, Stack
from tests.support.licence.customers import Customers
from tests.support.services.service import wait_for

pytestmark = pytest.mark.xdist_group("serving")

MIB = 1 << 20
# Tests that count further checks want one more than makes a container unhealthy: one may have begun before the fault.
OFTEN = {"interval": "1s", "start_period": "1s", "retries": 3}  # one may be slow
UNHEALTHY = OFTEN | {"test": ["CMD", "false"]}


def is_well(stack: Stack) -> bool:
    states = [stack.inspect(service)["State"] for service in SERVICES]
    return all(state["Running"] and state["Health"]["Status"] == "healthy" for state in states)


def test_the_limits_fit_together_into_1_gb(stack: Stack) -> None:
    limits = {service: stack.inspect(service)["HostConfig"]["Memory"] for service in SERVICES}
    assert all(limits.values())
    extra, sending = limits.pop("functions"), limits.pop("webhooks")
    assert sum(limits.values()) <= 896 * MIB, "the system, and the engine itself, want the rest"
    # What vendors' functions take comes on top while a call takes it, and is what the kernel takes back first.
    assert extra <= 256 * MIB
    assert sending <= 64 * MIB, "so is what sends webhooks"
    for service, limit in (("functions", extra), ("webhooks", sending)):
        host = stack.inspect(service)["HostConfig"]
        assert (host["MemorySwap"], host["OomScoreAdj"]) == (limit, 800)


@pytest.mark.parametrize(
    "services",
    [
        pytest.param(SERVICES, id="all"),
        pytest.param(("database",), id="database", marks=pytest.mark.nightly),
        pytest.param(("app",), id="app", marks=pytest.mark.nightly),
    ],
)
def test_killed_under_load_it_comes_back_by_itself_and_no_acknowledged_activation_is_missing(
    stack: Stack, services: tuple[str, ...]
) -> None:
    wait_for(lambda: is_well(stack), 240)
    before = {service: stack.inspect(service) for service in SERVICES}
    with Customers(stack, count=3_000, threads=4) as customers:
        customers.wait_for_more(100)
        assert (customers.failures, set(customers.statuses)) == ([], {200})
        # What the kernel does when memory runs out: the main processes die, by no command of the engine's.
        for service in services:
            os.kill(before[service]["State"]["Pid"], signal.SIGKILL)
        for service in services:
            wait_for(
                lambda name=service: stack.inspect(name)["State"]["StartedAt"] != before[name]["State"]["StartedAt"]
            )
        customers.wait_for_more(100)
    assert customers.failures or set(customers.statuses) != {200}, "the blow was felt"
    wait_for(lambda: is_well(stack), 240)
    for service, then in before.items():
        now = stack.inspect(service)
        assert now["Id"] == then["Id"], "nobody made it anew"
        assert now["RestartCount"] - then["RestartCount"] == (service in services)
        assert not now["State"]["OOMKilled"]
    listed = "SELECT card.id FROM card JOIN client ON client.card_id = card.id WHERE is_activated"
    assert set(customers.acknowledged) - set(stack.sql("backup", listed).split()) == set()
    journalled = stack.sql("backup", "SELECT card_id FROM event WHERE kind = 'activated'").split()
    assert set(customers.acknowledged) - set(journalled) == set()
    assert len(journalled) == len(set(journalled)), "none twice"


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


def wait_for_checks(stack: Stack, service: str, count: int) -> None:
    """Wait until so many checks of a container's health have begun from now on."""

    def ended() -> list[dict[str, str]]:
        found: list[dict[str, str]] = stack.inspect(service)["State"]["Health"]["Log"]
        return found

    last = wait_for(ended)[-1]["End"]
    wait_for(lambda: sum(check["Start"] > last for check in ended()) >= count, 120)


@pytest.mark.parametrize(
    ("service", "behind", "stop", "start"),
    [
        # The docs tell people to start it so.
        pytest.param("nginx", "app", ("stop", "--timeout", "1"), ("up", "--detach", "--wait"), id="nginx"),
        pytest.param("app", "database", ("pause",), ("unpause",), id="app", marks=pytest.mark.nightly),
    ],
)
def test_a_service_is_healthy_while_the_one_behind_it_is_away(
    stack: Stack, program: Program, service: str, behind: str, stop: tuple[str, ...], start: tuple[str, ...]
) -> None:
    with health_checks(stack, **{service: OFTEN}):
        wait_for(lambda: health(stack, service) == "healthy", 120)
        stack.compose(*stop, behind)
        try:
            wait_for_checks(stack, service, 4)
            assert health(stack, service) == "healthy"
        finally:
            stack.compose(*start, behind)
        wait_for(lambda: health(stack, behind) == "healthy", 120)
        program.open_on(stack)


@pytest.mark.nightly
def test_a_backup_is_restored_and_a_move_undone_although_containers_are_reported_unhealthy(
    stack: Stack, program: Program
) -> None:
    """Scripts judge the service by its own answer, not by what the engine says of a container's health."""
    file = Backups(stack).take()
    with health_checks(stack, nginx=UNHEALTHY, app=UNHEALTHY):
        wait_for(lambda: {health(stack, service) for service in ("app", "nginx")} == {"unhealthy"}, 120)
        stack.execute("database", "psql", "-qU", "postgres", "kadun", "-c", "DROP TABLE schema_migration")
        restored = stack.script("restore.sh", "--no-safety-dump", file)
        assert "restored: " in restored.stdout
        program.open_on(stack)
        assert "kadun_before_restore_" in stack.script("restore.sh", "--drop-old").stdout
        (stack.folder / "data/keys/moved-to").write_text("2026-01-01T00:00:00Z there:/srv\n")
        assert "This server serves again" in stack.script("migrate-to.sh", "--resume-here").stdout
        program.open_on(stack)
