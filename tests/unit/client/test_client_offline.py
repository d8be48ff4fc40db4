"""Offline starts: when the last accepted verdict is used, and what ends that."""

from __future__ import annotations

import io
import traceback
from typing import TYPE_CHECKING, Any

import pyrage
import pytest
from kadun import CardRejected, FunctionFailed, RequestRefused, ServerUnreachable, UnsealFailed
from kadun.responses import Response

from tests.support.client.fake_server import (
    CARD,
    NOW,
    SigningKey,
    claims_for,
    pinned,
    problem,
    reject,
    setting,
    verdict_response,
)
from tests.support.client.offline import CORE, DAY, GRACE, YEAR_2100, at, no_network, unplug
from tests.support.tables import for_each

if TYPE_CHECKING:
    from tests.support.client.customer_machine import Machine

IDENTITIES = [pyrage.x25519.Identity.generate() for _ in range(2)]


def test_the_last_accepted_verdict_is_used_while_the_server_cannot_be_reached(machine: Machine) -> None:
    machine.server.data_key = "\n".join(map(str, IDENTITIES))
    machine.server.tweak = setting(offline_until=NOW + GRACE, activated=True)
    online = machine.open()
    assert (online.offline, online.activated) == (False, True)
    unplug(machine.server)
    client = machine.run()
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
def test_it_is_used_for_every_answer_that_is_not_genuine(answer: Any, machine: Machine) -> None:
    assert not machine.open().offline
    assert machine.starts_offline(answer=answer)


def test_a_replayed_rejection_erases_nothing(machine: Machine) -> None:
    """A signed no to somebody else's question is none to ours."""
    machine.rejects(machine.run(card_id="F" * 32))
    other = machine.server.genuine(machine.server.requests[-1])
    machine.server.tweak = at(NOW)
    machine.open()
    assert machine.starts_offline(answer=other)


def test_a_report_needs_the_server(machine: Machine) -> None:
    machine.open()
    unplug(machine.server)
    client = machine.run()
    client.open()
    with pytest.raises(ServerUnreachable):
        client.report("导出报表")


@pytest.mark.parametrize("permitted_openings_before", [0, 1])
def test_without_the_vendors_permission_nothing_is_stored(permitted_openings_before: int, machine: Machine) -> None:
    for _ in range(permitted_openings_before):
        machine.open()
    machine.server.tweak = setting()
    machine.open()
    assert machine.files == []
    assert machine.fails_offline().detail == "no route"


@for_each("code", ["CARD_NOT_FOUND", "CARD_FROZEN", "CARD_EXPIRED", "CLIENT_MISMATCH", "CARD_ON_HOLIDAY"])
@for_each("question", ["open", "report"])
def test_a_signed_rejection_is_final(question: str, code: str, machine: Machine) -> None:
    machine.server.tweak = at(NOW)
    client = machine.run()
    client.open()
    path, accepted = machine.file, machine.file.read_bytes()
    machine.server.tweak = reject(code)
    with pytest.raises(CardRejected):
        client.open() if question == "open" else client.report("导出报表")
    assert not machine.starts_offline()
    path.write_bytes(accepted)  # as it was, if the file could not be erased: the running program knows better
    assert not machine.starts_offline(client)
    with pytest.raises(UnsealFailed, match=r"call open\(\) first"):
        client.unseal(io.BytesIO(b""))


def test_neither_a_failed_function_nor_a_refused_request_rejects_the_card(machine: Machine) -> None:
    machine.open()
    machine.server.tweak = reject("FUNCTION_FAILED")
    with pytest.raises(FunctionFailed):
        machine.run().execute("汇率换算", {})
    machine.fails_offline(RequestRefused, problem(400, "INVALID_REQUEST", "nonce"))  # but does not start offline
    assert machine.starts_offline()


def test_it_is_used_for_this_card_program_machine_and_keys_only(machine: Machine, signing_key: SigningKey) -> None:
    machine.open()
    for change in (
        {"hardware": "machine-2"},
        {"card_id": "F" * 32},
        {"program": "another"},
        {"state_dir": None},
        {"public_keys": pinned(SigningKey())},
    ):
        machine.fails_offline(**change)
    assert machine.starts_offline(public_keys=pinned(SigningKey(), signing_key))


@for_each(("card_ends", "last"), [(NOW + DAY, NOW + DAY - 1), (None, NOW + GRACE - 1)])
def test_it_ends_with_the_card_or_by_the_vendors_limit(card_ends: int | None, last: int, machine: Machine) -> None:
    machine.server.tweak = setting(offline_until=NOW + GRACE, card_expires_at=card_ends)
    machine.now = NOW
    machine.open()
    for machine.now, starts in ((last, True), (last + 1, False)):
        assert machine.starts_offline() is starts


def test_no_secret_is_on_disk_in_clear_or_shown_by_a_failed_offline_start(machine: Machine) -> None:
    machine.server.data_key = "\n".join(map(str, IDENTITIES))
    machine.open()
    content = machine.file.read_bytes() + machine.file.name.encode()
    header = machine.cached.token.partition(".")[0]
    for clear in (*map(str, IDENTITIES), CARD, "envelope", "KERNAL", header):
        assert clear.encode() not in content
    unplug(machine.server)
    client = machine.run()
    verdict = client.open()
    machine.now = YEAR_2100
    with pytest.raises(ServerUnreachable) as caught:
        client.open()
    text = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    text += f"{verdict!r} {vars(client)!r} {machine.cached!r}"
    assert "self = <kadun.client.Client object" in text
    for secret in (*map(str, IDENTITIES), machine.cached.key_pair.reveal()):
        assert secret not in text
