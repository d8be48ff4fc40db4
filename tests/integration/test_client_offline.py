"""Offline starts and learned keys of the SDK against the running service. Only the client's clock is ours.

tests/unit/client has what the client does with each clock and each state.
"""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

import pyrage
import pytest
from kadun import Client, ServerUnreachable
from kadun.retries import RetryPolicy

from tests.support.http_exchange import quiet_port
from tests.support.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = 86_400
CORE = "汇率表".encode()


@pytest.fixture
def generous(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """The service of a vendor who allows offline starts for a week."""
    with Service(tmp_path, database_url, KADUN_OFFLINE_GRACE="7d") as service:
        yield service


def test_a_program_starts_without_the_server_for_as_long_as_the_vendor_allows_whatever_key_signed(
    generous: Service, tmp_path: Path
) -> None:
    keys = generous.cardctl("key", "export").stdout  # what this release of the program ships
    (card,) = generous.issue()

    def start(*, set_back_by: float = 0, port: int = generous.port) -> Client:
        return Client(
            f"http://127.0.0.1:{port}",
            keys,
            card,
            hardware="machine-1",
            state_dir=tmp_path / "state",
            retry_policy=RetryPolicy(sleep=lambda _seconds: None),
            clock=lambda: time.time() - set_back_by,
        )

    online = start().open()
    assert (online.offline, online.activated) == (False, True)
    assert online.offline_until is not None
    assert (online.offline_until - online.issued_at).days == 7
    generous.stop()  # the server itself is gone, not only the way to it
    client = start()
    offline = client.open()
    assert (offline.offline, offline.activated, offline.reference) == (True, False, online.reference)
    identity = pyrage.x25519.Identity.from_str(generous.environment["KERNAL_DATA_KEY"])
    assert client.unseal(io.BytesIO(pyrage.encrypt(CORE, [identity.to_public()]))) == CORE
    for set_back_by in (-7 * DAY - 1, 0):  # setting the clock back does not help
        with pytest.raises(ServerUnreachable) as caught:
            start(set_back_by=set_back_by).open()
        assert "ended at" in caught.value.detail
    for _ in range(3):
        generous.cardctl("key", "rotate", "--force")
    generous.start()
    assert not start().open().offline  # signed by a key that this release never pinned
    assert start(port=quiet_port()).open().offline
