"""The SDK against the running service: offline starts, updates that the vendor requires, renewing and unbinding.

tests/unit/client has what the client does with each answer, each clock and each state.
"""

from __future__ import annotations

import io
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pyrage
import pytest
from kadun import CardStatus, Client, SelfServiceRefused, ServerUnreachable, UpdateRequired
from kadun.retries import RetryPolicy

from tests.support.http_exchange import quiet_port
from tests.support.service import Service, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., Client]

DAY = 86_400
CORE = "汇率表".encode()
URL = "https://example.com/下载?v=1.10"


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """A vendor who allows offline starts. One process, so that terms are in force once an answer shows them."""
    with Service(tmp_path, database_url, KADUN_OFFLINE_GRACE="7d", KADUN_WORKERS="1") as running:
        yield running


@pytest.fixture
def start(service: Service, tmp_path: Path) -> Start:
    """Start the program once; with `port`, another one than the server's, or with a clock that was set back."""
    keys = service.cardctl("key", "export").stdout  # what this release of the program ships
    (card,) = service.issue()

    def client(version: str | None = "1.9", port: int = service.port, *, set_back_by: float = 0) -> Client:
        return Client(
            f"http://127.0.0.1:{port}",
            keys,
            card,
            hardware="machine-1",
            version=version,
            state_dir=tmp_path / "state",
            retry_policy=RetryPolicy(sleep=lambda _seconds: None),
            clock=lambda: time.time() - set_back_by,
        )

    return client


def test_a_program_starts_without_the_server_for_as_long_as_the_vendor_allows_whatever_key_signed(
    service: Service, start: Start
) -> None:
    online = start().open()
    assert (online.offline, online.activated) == (False, True)
    assert online.offline_until is not None
    assert (online.offline_until - online.issued_at).days == 7
    service.stop()  # the server itself is gone, not only the way to it
    client = start()
    offline = client.open()
    assert (offline.offline, offline.activated, offline.reference) == (True, False, online.reference)
    identity = pyrage.x25519.Identity.from_str(service.environment["KERNAL_DATA_KEY"])
    assert client.unseal(io.BytesIO(pyrage.encrypt(CORE, [identity.to_public()]))) == CORE
    for set_back_by in (-7 * DAY - 1, 0):  # setting the clock back does not help
        with pytest.raises(ServerUnreachable) as caught:
            start(set_back_by=set_back_by).open()
        assert "ended at" in caught.value.detail
    for _ in range(3):
        service.cardctl("key", "rotate", "--force")
    service.start()
    assert not start().open().offline  # signed by a key that this release never pinned
    assert start(port=quiet_port()).open().offline


def required(client: Client) -> UpdateRequired | None:
    try:
        client.open()
    except UpdateRequired as error:
        return error
    return None


def test_a_version_that_is_too_old_does_not_start_and_a_running_one_goes_on(service: Service, start: Start) -> None:
    running = start("1.9")
    assert running.open().offline_until
    service.cardctl("terms", "set", "minimum_version=1.10", "latest_version=1.10", f"update_url={URL}")
    wait_for(lambda: required(start("1.9")) is not None)
    error = required(start("1.9.9"))
    assert error
    assert (error.latest_version, error.update_url) == ("1.10", URL)
    assert required(start(None))
    assert running.report("心跳").accepted
    with pytest.raises(UpdateRequired):
        running.execute("汇率换算", {})
    with pytest.raises(ServerUnreachable):  # an acceptance from before does not help either
        start("1.9", quiet_port()).open()
    assert start("1.10.0").open().accepted
    assert start("1.10", quiet_port()).open().offline


def in_turn(ask: Callable[[], CardStatus]) -> CardStatus:
    """Ask until the server has time: each address may ask about once a second."""

    def answered() -> CardStatus | None:
        try:
            return ask()
        except ServerUnreachable:
            return None

    status = wait_for(answered)
    assert isinstance(status, CardStatus)
    return status


def refusal(ask: Callable[[], CardStatus]) -> SelfServiceRefused:
    with pytest.raises(SelfServiceRefused) as caught:
        in_turn(ask)
    return caught.value


def test_a_customer_renews_and_unbinds_where_the_terms_allow_it(service: Service, start: Start) -> None:
    client = start("1.9")
    expiry = client.open().card_expires_at
    assert expiry
    assert refusal(client.unbind).code == "NOT_FOUND"
    service.cardctl("terms", "set", "self_service=on", "self_unbind_per_30_days=1")
    (other,) = service.issue(validity="1d")

    def renew() -> SelfServiceRefused | None:
        error = refusal(lambda: client.renew(other))
        return error if error.code != "NOT_FOUND" else None  # the terms are not in force yet

    assert wait_for(renew).reason == "not_allowed"
    service.cardctl("terms", "set", "self_renew=any")
    wait_for(lambda: refusal(lambda: client.renew("0" * 32)).reason == "second_card_not_found")
    renewed = in_turn(lambda: client.renew(other))
    assert (renewed.status, renewed.bound, renewed.unbinds_left) == ("active", True, 1)
    assert client.report("续费").card_expires_at == renewed.expires_at == expiry + timedelta(days=1)
    assert refusal(lambda: client.renew(other)).reason == "second_card_spent"

    unbound = in_turn(client.unbind)
    assert (unbound.bound, unbound.unbinds_left) == (False, 0)
    assert unbound.next_unbind_at
    with pytest.raises(ServerUnreachable):
        start("1.9", quiet_port()).open()
    assert start("1.9").open().accepted  # verified again, and bound again
    again = refusal(client.unbind)
    assert (again.code, again.next_unbind_at) == ("UNBIND_NOT_ALLOWED", unbound.next_unbind_at)
