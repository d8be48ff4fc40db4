"""Renewing and unbinding without the vendor: what the customer reads, and that nothing is decided by it."""

import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from kadun import (
    CardRejected,
    CardStatus,
    Client,
    RequestRefused,
    SelfServiceRefused,
    ServerUnreachable,
    UntrustedAnswer,
    messages,
)
from kadun.responses import Response

from tests.support.client.customer_machine import MakeClient, at, refused, unplug
from tests.support.client.fake_server import CARD, NOW, FakeServer, problem, reject
from tests.support.client.fake_server import card_status as says
from tests.support.tables import for_each

SECOND = "Z" * 32
CHINA = timezone(timedelta(hours=8))
EXPIRY = datetime(2026, 12, 25, 20, tzinfo=CHINA)
ACTIONS: dict[str, Callable[[Client], CardStatus]] = {
    "unbind": Client.unbind,
    "renew": lambda client: client.renew(SECOND),
}
REASONS = [key.removeprefix("renew_") for key in messages.TEXTS if key.startswith("renew_")]


def refused_action(client: Client, action: str) -> SelfServiceRefused:
    with pytest.raises(SelfServiceRefused) as caught:
        ACTIONS[action](client)
    return caught.value


def test_a_renewal_sends_both_cards_and_an_unbinding_one(client: Client, server: FakeServer) -> None:
    server.script = [says(expires_at="2026-12-25T20:00:00+08:00")]
    status = client.renew(f" {SECOND}\n")
    assert status == CardStatus("active", EXPIRY, bound=True, unbinds_left=1, next_unbind_at=None)
    assert status.expires_at
    assert status.expires_at.utcoffset() == timedelta(0)
    server.script = [says(unbinds_left=0, next_unbind_at="2026-12-01T00:00:00.250Z")]
    status = client.unbind()
    assert (status.expires_at, status.unbinds_left) == (None, 0)
    assert status.next_unbind_at == datetime(2026, 12, 1, 0, 0, 0, 250_000, tzinfo=UTC)
    assert server.requests == [{"card_id": CARD, "with_card_id": SECOND}, {"card_id": CARD}]
    assert server.paths == ["/v1/self/renew", "/v1/self/unbind"]


@for_each(
    "answer",
    [
        Response(200, b"<html>please sign in</html>"),
        Response(302, b""),
        problem(403, "PORTAL_LOGIN"),
        says(201),
        *[says(status=status) for status in (1, "\x1b[2J")],
        says(bound=1),
        *[says(unbinds_left=left) for left in (True, -1, 1.5)],
        *[says(expires_at=time) for time in (1_800_000_000, "soon", "2026-12-25T20:00:00")],
        *[says(next_unbind_at=time) for time in ([], "0001-01-01T00:00:00+08:00", "9999-12-31T23:59:59-08:00")],
    ],
)
def test_an_answer_of_another_form_is_untrusted(answer: Response, client: Client, server: FakeServer) -> None:
    server.script = [answer]
    with pytest.raises(UntrustedAnswer):
        client.unbind()


@for_each("language", ["zh", "en"])
@for_each(
    "status, code, reason, key",
    [
        (404, "NOT_FOUND", None, "self_service_off"),
        (404, "CARD_NOT_FOUND", None, "CARD_NOT_FOUND"),
        (404, "CARD_NOT_FOUND", "second_card_not_found", "renew_second_card_not_found"),  # not the customer's own
        (403, "CLIENT_BLOCKED", None, "CLIENT_BLOCKED"),
        *[(403, "RENEW_NOT_ALLOWED", reason, f"renew_{reason}") for reason in REASONS],
        *[
            (403, "RENEW_NOT_ALLOWED", odd, "renew_not_possible")
            for odd in ("", 7, ["same_card"], "x" * 1000, "\u202e")
        ],
    ],
)
def test_a_refusal_speaks_the_customers_language(
    language: str, status: int, code: str, reason: Any, key: str, make_client: MakeClient, server: FakeServer
) -> None:
    server.script = [problem(status, code, "Not\x1b[2J here.", reason=reason)]
    error = refused_action(make_client(language=language), "renew")
    assert (error.code, error.message, error.next_unbind_at) == (code, messages.text(key, language), None)
    assert error.message.isascii() == (language == "en")
    assert server.language == language
    assert error.reason == reason if reason in REASONS else len(error.reason) <= 200
    assert error.reason.isprintable()
    assert error.detail.startswith(error.reason or "Not?[2J here.")


@for_each("language", ["zh", "en"])
def test_a_refusal_to_unbind_says_from_when_on_it_is_possible(
    language: str, make_client: MakeClient, server: FakeServer
) -> None:
    client = make_client(language=language)
    server.script = [problem(403, "UNBIND_NOT_ALLOWED", next_unbind_at="2026-12-25T20:00:45+08:00")]
    error = refused_action(client, "unbind")
    possible_from = datetime(2026, 12, 25, 20, 0, 45, tzinfo=CHINA)
    assert error.next_unbind_at == possible_from
    assert f"{possible_from.astimezone():%Y-%m-%d %H:%M:%S %z}" in error.message
    assert "{" not in error.message
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    copy.speak(language)
    assert vars(copy) == vars(error)
    for time in (None, "", "soon", 7, "9999-12-31T23:59:59-08:00"):
        server.script = [problem(403, "UNBIND_NOT_ALLOWED", next_unbind_at=time)]
        error = refused_action(client, "unbind")
        assert (error.next_unbind_at, error.message) == (None, messages.text("unbind_not_possible", language))


def test_a_malformed_request_is_refused(client: Client, server: FakeServer) -> None:
    server.script = [problem(400, "INVALID_REQUEST", "with_card_id must be 1 to 64 characters.")]
    for card in (SECOND, "\udcff"):  # UTF-8 cannot write the other, which is not sent
        with pytest.raises(RequestRefused, match="with_card_id"):
            client.renew(card)
    assert len(server.requests) == 1


@for_each("action", ACTIONS)
def test_only_a_request_that_was_not_carried_out_is_sent_again(
    action: str, client: Client, server: FakeServer, pauses: list[float]
) -> None:
    for failure in (ServerUnreachable("cut off", passing=True), Response(503, b"")):
        server.requests.clear()
        server.script = [failure]
        with pytest.raises(ServerUnreachable) as caught:
            ACTIONS[action](client)
        assert caught.value.sent
        assert (len(server.requests), pauses) == (1, [])
    server.script = [ServerUnreachable("not connected", passing=True, sent=False), says()]
    ACTIONS[action](client)
    assert len(pauses) == 1
    pauses.clear()


def test_an_unbinding_forgets_the_verdict_for_offline_starts_and_a_refused_or_lost_one_does_not(
    start: MakeClient, server: FakeServer, folder: Path
) -> None:
    for client in (start(), start(state_dir=None)):
        server.script = [says(bound=False)]
        assert not client.unbind().bound
    assert not folder.exists()  # where nothing was stored, nothing is
    server.tweak = at(NOW)
    client = start()
    client.open()
    server.script = [problem(403, "UNBIND_NOT_ALLOWED"), Response(503, b""), Response(200, b"<html>"), says()]
    refused_action(client, "unbind")
    for error in (ServerUnreachable, UntrustedAnswer):
        with pytest.raises(error):
            client.unbind()
    client.renew(SECOND)
    unplug(server)
    assert start().open().offline
    server.script = [says()]
    client.unbind()
    unplug(server)
    refused(start(), ServerUnreachable)
    refused(client, ServerUnreachable)
    server.script = []
    start().open()
    server.tweak = reject("CARD_FROZEN")
    refused(start(), CardRejected)
    server.script = [says()]
    start().unbind()  # keeps the stored rejection
    unplug(server)
    refused(start(), ServerUnreachable)


def test_the_answers_decide_nothing(client: Client, server: FakeServer) -> None:
    """A forged success opens nothing, and a forged refusal closes nothing."""
    server.script = [says()]
    client.renew(SECOND)
    server.tweak = reject("CARD_EXPIRED")
    with pytest.raises(CardRejected, match="过期"):
        client.open()
    server.tweak = at(NOW)
    server.script = [problem(404, "CARD_NOT_FOUND")]
    refused_action(client, "renew")
    assert client.open().accepted
