"""On a machine of one processor and 1 GB: what it takes, and that it comes back by itself, with nothing lost."""

import http.client
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from typing import Self

import pytest

from tests.support.service import question, wait_for
from tests.support.stack import SERVICES, Stack, run

pytestmark = pytest.mark.containers

THREADS = 4
CARDS = 6_000
MIB = 1 << 20
# One processor among them all, and no swap, so that the memory limits of docker-compose.yml are all there is.
SMALL_MACHINE = """
services:
  database: {cpus: 0.45, memswap_limit: 416m}
  app: {cpus: 0.45, memswap_limit: 320m}
  functions: {cpus: 0.1}
  nginx: {cpus: 0.1, memswap_limit: 160m}
"""


class Customers:
    """Threads that activate fresh cards over HTTPS, one after the other, and remember which were acknowledged."""

    def __init__(self, stack: Stack, cards: Iterator[str]) -> None:
        self.acknowledged: list[str] = []
        self.refused = 0
        self._stack, self._cards = stack, cards
        self._lock, self._end = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._activate) for _ in range(THREADS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int) -> None:
        """Waits until so many more have been acknowledged."""
        wanted = len(self.acknowledged) + count
        wait_for(lambda: len(self.acknowledged) >= wanted, 90)

    def _activate(self) -> None:
        connection = self._stack.connection()
        while not self._end.is_set():
            with self._lock:
                card = next(self._cards)
            body = json.dumps(question(card, f"pc of {card}"))
            try:
                connection.request("POST", "/v1/verify", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                accepted = answer.status == http.client.OK and json.loads(answer.read())["code"] == "OK"
            except (OSError, http.client.HTTPException):
                accepted = False
                connection.close()
            if accepted:
                self.acknowledged.append(card)
            else:
                self.refused += 1
                self._end.wait(0.05)  # as an SDK waits before it tries again
        connection.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        stack.init_anew()
        settings = (stack.folder / ".env").read_text()
        # All the customers come from one address here.
        settings = re.sub(r"KADUN_RATE=\d+\nKADUN_BURST=\d+", "KADUN_RATE=5000\nKADUN_BURST=5000", settings)
        (stack.folder / ".env").write_text(settings)
        (stack.folder / "docker-compose.override.yml").write_text(SMALL_MACHINE)
        stack.up()
        yield stack


@pytest.fixture(scope="module")
def cards(stack: Stack) -> Iterator[str]:
    issued = stack.cardctl("card", "issue", "--validity", "30d", "--count", str(CARDS), "--format", "json")
    return iter([str(card["id"]) for card in issued])


def memory(stack: Stack, service: str) -> float:
    """What a container uses in MiB, as `docker stats` has it: without the pages of files that nobody needs."""
    name = stack.inspect(service)["Id"]
    shown = run("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", name).stdout.split()[0]
    number, unit = re.fullmatch(r"([\d.]+)(KiB|MiB|GiB)", shown).groups()  # type: ignore[union-attr]
    return float(number) * {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024}[unit]


def is_well(stack: Stack) -> bool:
    """Every container runs and is healthy."""
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


def test_the_idle_stack_takes_less_than_350_mb(stack: Stack) -> None:
    used = {service: memory(stack, service) for service in SERVICES}
    assert sum(used.values()) * MIB < 350e6, used


def kill(stack: Stack, *services: str) -> None:
    """What the kernel does when memory runs out: the main processes die, by no command of the engine's."""
    for pid in [stack.inspect(service)["State"]["Pid"] for service in services]:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("services", [("database",), SERVICES, ("app",)], ids=["database", "all", "app"])
def test_killed_under_load_it_comes_back_by_itself_and_no_acknowledged_activation_is_missing(
    stack: Stack, cards: Iterator[str], services: tuple[str, ...]
) -> None:
    wait_for(lambda: is_well(stack), 240)
    before = {service: stack.inspect(service) for service in SERVICES}
    with Customers(stack, cards) as customers:
        customers.wait_for_more(100)
        assert customers.refused == 0
        kill(stack, *services)
        for service in services:
            wait_for(
                lambda name=service: stack.inspect(name)["State"]["StartedAt"] != before[name]["State"]["StartedAt"]
            )
        customers.wait_for_more(100)
    assert customers.refused > 0, "the blow was felt"
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


def test_after_all_that_it_still_fits(stack: Stack) -> None:
    used = {service: memory(stack, service) for service in SERVICES}
    assert sum(used.values()) < 500, used
    assert [service for service in SERVICES if stack.inspect(service)["State"]["OOMKilled"]] == []
