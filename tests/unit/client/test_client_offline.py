"""Offline starts: when the last accepted verdict is used, and what ends that."""

from __future__ import annotations

import io
import traceback
from typing import TYPE_CHECKING, Any

import pyrage
import pytest
from kadun import CardRejected, FunctionFailed, RequestRefused, ServerUnreachable, UnsealFailed
from kadun.responses import Response
from kadun.store import StateStore

from tests.support.client.fake_server import (
    CARD,
    HARDWARE,
    NOW,
    FakeServer,
    SigningKey,
    claims_for,
    pinned,
    problem,
    reject,
    setting,
    verdict_response,
)

if TYPE_CHECKING:
    from pathlib import Path

from tests.support.client.offline import (
    CORE,
    DAY,
    GRACE,
    YEAR_2100,
    Clock,
    MakeClient,
    at,
    no_network,
    plug_in,
    refused,
    unplug,
)


@pytest.fixture
def identities() -> list[pyrage.x25519.Identity]:
    return [pyrage.x25519.Identity.generate() for _ in range(2)]


@pytest.fixture
def start(
    make_client: MakeClient, server: FakeServer, clock: Clock, identities: list[pyrage.x25519.Identity]
) -> MakeClient:
    """Make a client, as each new start of the program does."""
    server.data_key = "\n".join(map(str, identities))
    server.tweak = at(NOW)
    return lambda **changes: make_client(clock=clock, **changes)


@pytest.mark.parametrize("place", [0, 1])
def test_the_last_accepted_verdict_is_used_while_the_server_cannot_be_reached(
    place: int, start: MakeClient, server: FakeServer, identities: list[pyrage.x25519.Identity]
) -> None:
    online = start().open()
    assert not online.offline
    unplug(server)
    client = start()
    verdict = client.open()
    assert (verdict.offline, verdict.accepted, verdict.reference) == (True, True, online.reference)
    assert verdict.card_expires_at == online.card_expires_at
    sealed = pyrage.encrypt(CORE, [identities[place].to_public()])  # any of several identities
    assert client.unseal(io.BytesIO(sealed)) == CORE


def test_an_activation_is_reported_once(start: MakeClient, server: FakeServer) -> None:
    server.tweak = setting(offline_until=NOW + GRACE, activated=True)
    assert start().open().activated
    unplug(server)
    assert not start().open().activated


def signed_by_nobody(request: dict[str, Any]) -> Response:
    return verdict_response(SigningKey().token(claims_for(request)))


NOT_THE_SERVER: dict[str, Any] = {
    "no network": no_network,
    "a busy server": Response(503, b'{"code": "UNAVAILABLE"}', "60"),
    "too many requests": Response(429, b'{"code": "TOO_MANY_REQUESTS"}', "60"),
    "a broken gateway": Response(502, b"<html>"),
    "a captive portal": Response(200, b"<html>please sign in</html>"),
    "a redirect to one": Response(302, b""),
    "another server": signed_by_nobody,
    "a false no": lambda request: verdict_response(SigningKey().token({**claims_for(request), "code": "CARD_FROZEN"})),
}


@pytest.mark.parametrize("what", NOT_THE_SERVER)
def test_it_is_used_for_every_answer_that_is_not_genuine(what: str, start: MakeClient, server: FakeServer) -> None:
    start().open()
    unplug(server, NOT_THE_SERVER[what])
    assert start().open().offline
    plug_in(server)
    assert not start().open().offline


def test_a_replayed_rejection_erases_nothing(start: MakeClient, server: FakeServer) -> None:
    """A signed no to somebody else's question is none to ours."""
    server.tweak = reject("CARD_FROZEN")
    refused(start(card_id="F" * 32), CardRejected)
    other = server.genuine(server.requests[-1])
    server.tweak = at(NOW)
    start().open()
    unplug(server, other)
    assert start().open().offline


def test_a_report_needs_the_server(start: MakeClient, server: FakeServer) -> None:
    start().open()
    unplug(server)
    client = start()
    client.open()
    with pytest.raises(ServerUnreachable):
        client.report("导出报表")


def test_without_the_vendors_permission_nothing_is_stored(
    start: MakeClient, server: FakeServer, state_home: Path
) -> None:
    server.tweak = setting()
    start().open()
    assert [path for path in state_home.rglob("*") if path.is_file()] == []
    unplug(server)
    assert refused(start()).detail == "no route"


def test_a_withdrawn_permission_ends_with_the_next_opening(start: MakeClient, server: FakeServer) -> None:
    start().open()
    server.tweak = setting()
    start().open()
    unplug(server)
    refused(start())


@pytest.mark.parametrize(
    "code", ["CARD_NOT_FOUND", "CARD_FROZEN", "CARD_EXPIRED", "CLIENT_MISMATCH", "CARD_ON_HOLIDAY"]
)
@pytest.mark.parametrize("question", ["open", "report"])
def test_a_signed_rejection_is_final(question: str, code: str, start: MakeClient, server: FakeServer) -> None:
    start().open()
    server.tweak = reject(code)
    client = start()
    with pytest.raises(CardRejected):
        client.open() if question == "open" else client.report("导出报表")
    unplug(server)
    refused(start())
    refused(client)
    with pytest.raises(UnsealFailed):
        client.unseal(io.BytesIO(b""))


def test_a_failed_server_function_does_not_reject_the_card(start: MakeClient, server: FakeServer) -> None:
    start().open()
    server.tweak = reject("FUNCTION_FAILED")
    with pytest.raises(FunctionFailed):
        start().execute("汇率换算", {})
    unplug(server)
    assert start().open().offline


def test_a_refused_request_does_not_start_offline(start: MakeClient, server: FakeServer) -> None:
    start().open()
    unplug(server, problem(400, "INVALID_REQUEST", "nonce"))
    refused(start(), RequestRefused)
    unplug(server)
    assert start().open().offline


@pytest.mark.parametrize(
    "change",
    [{"hardware": "machine-2"}, {"card_id": "F" * 32}, {"program": "another"}, {"state_dir": None}],
    ids=lambda change: next(iter(change)),
)
def test_it_is_used_for_this_card_program_and_machine_only(
    change: dict[str, Any], start: MakeClient, server: FakeServer
) -> None:
    start().open()
    unplug(server)
    refused(start(**change))
    assert start().open().offline


def test_a_program_with_other_pinned_keys_does_not_use_it(
    start: MakeClient, server: FakeServer, signing_key: SigningKey
) -> None:
    start().open()
    unplug(server)
    refused(start(public_keys=pinned(SigningKey())))
    assert start(public_keys=pinned(SigningKey(), signing_key)).open().offline


def test_it_ends_with_the_card_even_if_the_server_promised_longer(
    start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    server.tweak = setting(offline_until=NOW + GRACE, card_expires_at=NOW + DAY)
    start().open()
    unplug(server)
    clock.now = NOW + DAY - 1
    assert start().open().offline
    clock.now = NOW + DAY
    refused(start())


def test_a_permanent_card_has_the_vendors_limit_only(start: MakeClient, server: FakeServer, clock: Clock) -> None:
    server.tweak = setting(offline_until=NOW + GRACE, card_expires_at=None)
    start().open()
    unplug(server)
    clock.now = NOW + GRACE - 1
    assert start().open().offline


def test_no_secret_is_on_disk_in_clear(
    start: MakeClient, server: FakeServer, state_home: Path, identities: list[pyrage.x25519.Identity]
) -> None:
    start().open()
    files = list(state_home.rglob("*.state"))
    assert len(files) == 1
    content = files[0].read_bytes() + files[0].name.encode()
    cached = StateStore(state_home / "kadun", "kadun", "kadun", CARD).load(HARDWARE).cached
    assert cached is not None
    header = cached.token.partition(".")[0]
    for clear in (*map(str, identities), CARD, "envelope", "KERNAL", header):
        assert clear.encode() not in content


def test_no_secret_is_shown_by_a_failed_offline_start(
    start: MakeClient,
    server: FakeServer,
    clock: Clock,
    state_home: Path,
    identities: list[pyrage.x25519.Identity],
) -> None:
    start().open()
    unplug(server)
    client = start()
    verdict = client.open()
    clock.now = YEAR_2100
    with pytest.raises(ServerUnreachable) as caught:
        client.open()
    kept = StateStore(state_home / "kadun", "kadun", "kadun", CARD).load(HARDWARE).cached
    assert kept is not None
    text = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    text += f"{verdict!r} {vars(client)!r} {kept!r}"
    assert "self = <kadun.client.Client object" in text
    for secret in (*map(str, identities), kept.key_pair.reveal()):
        assert secret not in text
