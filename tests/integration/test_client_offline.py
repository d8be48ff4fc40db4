"""Offline starts and learned keys of the SDK against the running service. Only the client's clock is ours."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

import pyrage
import pytest
from kadun import CardRejected, Client, ServerUnreachable
from kadun.retries import RetryPolicy

from tests.support.http_exchange import quiet_port
from tests.support.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


DAY = 86_400
CORE = "汇率表".encode()
AT_ONCE = RetryPolicy(sleep=lambda _seconds: None)


class Machine:
    """A customer's machine: a clock that can be set, a folder for state, and a network that can be unplugged.

    tests/unit/client has what the client does with each clock and each state; here the service is real.
    """

    def __init__(self, service: Service, folder: Path, card_id: str) -> None:
        self.keys = service.cardctl("key", "export").stdout  # what this release of the program ships
        self.card_id = card_id
        self.folder = folder
        self.address = self.genuine = f"http://127.0.0.1:{service.port}"
        self.set_back_by: float = 0

    def start(self) -> Client:
        return Client(
            self.address,
            self.keys,
            self.card_id,
            hardware="machine-1",
            state_dir=self.folder,
            retry_policy=AT_ONCE,
            clock=lambda: time.time() - self.set_back_by,
        )

    def unplug(self) -> None:
        self.address = f"http://127.0.0.1:{quiet_port()}"

    def plug_in(self) -> None:
        self.address = self.genuine


@pytest.fixture
def generous(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """The service of a vendor who allows offline starts for a week."""
    with Service(tmp_path, database_url, KADUN_OFFLINE_GRACE="7d") as service:
        yield service


@pytest.fixture
def machine(generous: Service, tmp_path: Path) -> Machine:
    (card_id,) = generous.issue()
    return Machine(generous, tmp_path / "state", card_id)


def refused(start: Callable[[], Client]) -> str:
    with pytest.raises(ServerUnreachable) as caught:
        start().open()
    return caught.value.detail


def test_a_program_starts_without_the_server_for_as_long_as_the_vendor_allows(
    generous: Service, machine: Machine
) -> None:
    online = machine.start().open()
    assert (online.offline, online.activated) == (False, True)
    assert online.offline_until is not None
    assert (online.offline_until - online.issued_at).days == 7
    generous.stop()  # the server itself is gone, not only the way to it
    client = machine.start()
    offline = client.open()
    assert (offline.offline, offline.activated, offline.reference) == (True, False, online.reference)
    identity = pyrage.x25519.Identity.from_str(generous.environment["KERNAL_DATA_KEY"])
    assert client.unseal(io.BytesIO(pyrage.encrypt(CORE, [identity.to_public()]))) == CORE
    machine.set_back_by = -7 * DAY - 1
    assert "ended at" in refused(machine.start)
    machine.set_back_by = 0
    assert "ended at" in refused(machine.start)
    generous.start()
    assert not machine.start().open().offline
    machine.unplug()
    assert machine.start().open().offline


def test_a_frozen_card_is_over_once_the_no_was_heard(generous: Service, machine: Machine) -> None:
    machine.start().open()
    generous.cardctl("card", "freeze", machine.card_id)
    machine.unplug()
    assert machine.start().open().offline  # what nobody has heard cannot count
    machine.plug_in()
    with pytest.raises(CardRejected) as caught:
        machine.start().open()
    assert caught.value.code == "CARD_FROZEN"
    machine.unplug()
    refused(machine.start)
    generous.cardctl("card", "unfreeze", machine.card_id)
    machine.plug_in()
    machine.start().open()
    machine.unplug()
    assert machine.start().open().offline


def test_keys_learned_through_rotations_are_kept_for_offline_starts(generous: Service, machine: Machine) -> None:
    for _ in range(3):
        generous.cardctl("key", "rotate", "--force")
    generous.stop()
    generous.start()  # rather than to wait until the running workers look
    machine.start().open()
    machine.unplug()
    assert machine.start().open().offline  # signed by a key that this release never pinned
