"""Offline starts: when the last accepted verdict is used, and what ends that."""

from __future__ import annotations

import io
import traceback
from typing import TYPE_CHECKING, Any

import pyrage
import pytest
from kadun import CardRejected, FunctionFailed, RequestRefused, ServerUnreachable, UnsealFailed
from kadun.responses import Response
from kadun.store import CachedVerdict, StateStore

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
from tests.support.tables import for_each

if TYPE_CHECKING:
    from pathlib import Path

IDENTITIES = [pyrage.x25519.Identity.generate() for _ in range(2)]


@pytest.fixture
def start(make_client: MakeClient, server: FakeServer, clock: Clock) -> MakeClient:
    """Make a client, as each new start of the program does."""
    server.data_key = "\n".join(map(str, IDENTITIES))
    server.tweak = at(NOW)
    return lambda **changes: make_client(clock=clock, **changes)


@pytest.fixture
def unplugged(start: MakeClient, server: FakeServer) -> MakeClient:
    """The same after an opening; the server cannot be reached any more."""
    start().open()
    unplug(server)
    return start


def cached_in(state_home: Path) -> CachedVerdict:
    cached = StateStore(state_home / "kadun", "kadun", "kadun", CARD).load(HARDWARE).cached
    assert cached is not None
    return cached


def test_the_last_accepted_verdict_is_used_while_the_server_cannot_be_reached(
    start: MakeClient, server: FakeServer
) -> None:
    server.tweak = setting(offline_until=NOW + GRACE, activated=True)
    online = start().open()
    assert (online.offline, online.activated) == (False, True)
    unplug(server)
    client = start()
    verdict = client.open()
    assert (verdict.offline, verdict.accepted, verdict.reference) == (True, True, online.reference)
    assert verdict.card_expires_at == online.card_expires_at
    assert not verdict.activated  # an activation is reported once
    for identity in IDENTITIES:  # any of several
        sealed = pyrage.encrypt(CORE, [identity.to_public()])
        assert client.unseal(io.BytesIO(sealed)) == CORE


@for_each(
    "answer",
    [
        no_network,
        Response(503, b'{"code": "UNAVAILABLE"}', "60"),
        Response(429, b'{"code": "TOO_MANY_REQUESTS"}', "60"),
        Response(502, b"<html>"),
        Response(200, b"<html>please sign in</html>"),  # a captive portal
        Response(302, b""),  # a redirect to one
        lambda request: verdict_response(SigningKey().token(claims_for(request))),  # another server
        lambda request: verdict_response(SigningKey().token({**claims_for(request), "code": "CARD_FROZEN"})),
    ],
)
def test_it_is_used_for_every_answer_that_is_not_genuine(answer: Any, start: MakeClient, server: FakeServer) -> None:
    plug_in(server)
    assert not start().open().offline
    unplug(server, answer)
    assert start().open().offline


def test_a_replayed_rejection_erases_nothing(start: MakeClient, server: FakeServer) -> None:
    """A signed no to somebody else's question is none to ours."""
    server.tweak = reject("CARD_FROZEN")
    refused(start(card_id="F" * 32), CardRejected)
    other = server.genuine(server.requests[-1])
    server.tweak = at(NOW)
    start().open()
    unplug(server, other)
    assert start().open().offline


def test_a_report_needs_the_server(unplugged: MakeClient) -> None:
    client = unplugged()
    client.open()
    with pytest.raises(ServerUnreachable):
        client.report("导出报表")


@pytest.mark.parametrize("permitted_openings_before", [0, 1])
def test_without_the_vendors_permission_nothing_is_stored(
    permitted_openings_before: int, start: MakeClient, server: FakeServer, state_home: Path
) -> None:
    for _ in range(permitted_openings_before):
        start().open()
    server.tweak = setting()
    start().open()
    assert [path for path in state_home.rglob("*") if path.is_file() and path.name != "lock"] == []
    unplug(server)
    assert refused(start()).detail == "no route"


@for_each("code", ["CARD_NOT_FOUND", "CARD_FROZEN", "CARD_EXPIRED", "CLIENT_MISMATCH", "CARD_ON_HOLIDAY"])
@for_each("question", ["open", "report"])
def test_a_signed_rejection_is_final(question: str, code: str, start: MakeClient, server: FakeServer) -> None:
    plug_in(server)
    server.tweak = at(NOW)
    client = start()
    client.open()
    server.tweak = reject(code)
    with pytest.raises(CardRejected):
        client.open() if question == "open" else client.report("导出报表")
    unplug(server)
    refused(start())
    refused(client)
    with pytest.raises(UnsealFailed):
        client.unseal(io.BytesIO(b""))


def test_neither_a_failed_function_nor_a_refused_request_rejects_the_card(
    start: MakeClient, server: FakeServer
) -> None:
    start().open()
    server.tweak = reject("FUNCTION_FAILED")
    with pytest.raises(FunctionFailed):
        start().execute("汇率换算", {})
    unplug(server, problem(400, "INVALID_REQUEST", "nonce"))
    refused(start(), RequestRefused)  # and does not start offline itself
    unplug(server)
    assert start().open().offline


def test_it_is_used_for_this_card_program_machine_and_keys_only(unplugged: MakeClient, signing_key: SigningKey) -> None:
    for change in (
        {"hardware": "machine-2"},
        {"card_id": "F" * 32},
        {"program": "another"},
        {"state_dir": None},
        {"public_keys": pinned(SigningKey())},
    ):
        refused(unplugged(**change))
    assert unplugged(public_keys=pinned(SigningKey(), signing_key)).open().offline


@for_each(("card_ends", "last"), [(NOW + DAY, NOW + DAY - 1), (None, NOW + GRACE - 1)])
def test_it_ends_with_the_card_or_by_the_vendors_limit(
    card_ends: int | None, last: int, start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    plug_in(server)
    server.tweak = setting(offline_until=NOW + GRACE, card_expires_at=card_ends)
    clock.now = NOW
    start().open()
    unplug(server)
    clock.now = last
    assert start().open().offline
    clock.now = last + 1
    refused(start())


@pytest.mark.usefixtures("unplugged")
def test_no_secret_is_on_disk_in_clear(state_home: Path) -> None:
    (file,) = state_home.rglob("*.state")
    content = file.read_bytes() + file.name.encode()
    header = cached_in(state_home).token.partition(".")[0]
    for clear in (*map(str, IDENTITIES), CARD, "envelope", "KERNAL", header):
        assert clear.encode() not in content


def test_no_secret_is_shown_by_a_failed_offline_start(unplugged: MakeClient, clock: Clock, state_home: Path) -> None:
    client = unplugged()
    verdict = client.open()
    clock.now = YEAR_2100
    with pytest.raises(ServerUnreachable) as caught:
        client.open()
    kept = cached_in(state_home)
    text = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    text += f"{verdict!r} {vars(client)!r} {kept!r}"
    assert "self = <kadun.client.Client object" in text
    for secret in (*map(str, IDENTITIES), kept.key_pair.reveal()):
        assert secret not in text
