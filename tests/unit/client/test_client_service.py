"""What the server does for a customer beside verdicts: functions run once, cards renewed and unbound by themselves."""

import pickle
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from kadun import (
    CardRejected,
    CardStatus,
    Client,
    CoreFunctionError,
    FunctionFailed,
    FunctionNotFound,
    FunctionTimeout,
    RequestRefused,
    SelfServiceRefused,
    ServerUnreachable,
    UntrustedAnswer,
    messages,
)
from kadun.responses import Response
from kadun.transport import HttpTransport

from tests.support.client import fakes
from tests.support.client.fakes import CARD, NOW, FakeServer, MakeClient, problem, refused, reject, setting, unplug
from tests.support.client.fakes import card_status as says
from tests.support.client.local_http import LONG, Handler, Respond, closed_port, send, serving
from tests.support.tables import for_each

FUNCTION = "汇率换算"
FAILURES = {
    "FUNCTION_NOT_FOUND": FunctionNotFound,
    "FUNCTION_FAILED": FunctionFailed,
    "FUNCTION_TIMEOUT": FunctionTimeout,
    "FUNCTION_ON_HOLIDAY": CoreFunctionError,  # a code younger than this release
}


def not_connected(_request: object = None) -> ServerUnreachable:
    return ServerUnreachable("connection refused", passing=True, sent=False)


@for_each("result", [{"CNY": 712.5, "备注": None}, [1, "二"], "文本", 0, False, None])
def test_the_result_comes_back_as_it_was_signed(result: Any, client: Client, server: FakeServer) -> None:
    server.tweak = setting(result=result)
    for arguments in ({"amount": 100, "to": ["人民币", None], "exact": True}, {}):
        assert client.execute(FUNCTION, arguments) == result
        request = server.requests[-1]
        assert (request["function"], request["arguments"]) == (FUNCTION, arguments)
    assert set(server.paths) == {"/v1/execute"}


CIRCLE: dict[str, Any] = {}
CIRCLE["self"] = CIRCLE
ODD = (None, [], {"a": [{1: "one"}]}, {"a": float("nan")}, {"a": b"bytes"}, {"a": "秘密\udcff"}, {"\udcff": 1}, CIRCLE)


@for_each("arguments", ODD)
def test_arguments_that_are_no_json_object_are_refused_before_anything_is_sent(
    arguments: Any, client: Client, server: FakeServer
) -> None:
    with pytest.raises(ValueError, match="arguments") as caught:
        client.execute(FUNCTION, arguments)
    assert "秘密" not in str(caught.value)
    for ask in (lambda: client.execute(fakes.OPEN, {}), lambda: client.report(fakes.OPEN)):
        with pytest.raises(ValueError, match="open"):
            ask()
    assert server.paths == []


@for_each("activated", [False, True])  # a card may be activated by a function that then fails
@for_each("code", FAILURES)
def test_a_function_that_gave_no_result_is_a_clear_error_and_asked_once(
    code: str, client: Client, server: FakeServer, *, activated: bool
) -> None:
    server.requests.clear()
    server.tweak = reject(code, activated=activated)
    with pytest.raises(CoreFunctionError, match="REF45678") as caught:  # no CardRejected: the card is good
        client.execute(FUNCTION, {})
    assert (type(caught.value), caught.value.code) == (FAILURES[code], code)
    assert len(server.requests) == 1


def test_an_accepted_verdict_without_a_result_is_untrusted(client: Client) -> None:
    """Somebody on the way might ask /v1/verify in place of /v1/execute: a genuine verdict, but no result."""
    with pytest.raises(UntrustedAnswer, match="result"):
        client.execute(FUNCTION, {})


def test_a_new_key_is_learned_without_running_the_function_again(client: Client, server: FakeServer) -> None:
    server.tweak = setting(result=1)
    server.rotate()
    assert client.execute(FUNCTION, {}) == 1
    assert server.paths == ["/v1/execute", "/.well-known/jwks.json"]
    server.key, server.key_set = fakes.SigningKey(), not_connected()
    with pytest.raises(ServerUnreachable, match="refused") as caught:
        client.execute(FUNCTION, {})
    assert (caught.value.sent, len(server.requests)) == (True, 2)  # the function has run


def busy(status: int) -> Respond:
    return lambda handler, _body: handler.send(status, b"{}", Retry_After="1")


@for_each("respond", [send(b""), send(b"", Handler.reset), send(LONG + b'{"token":'), busy(429), busy(502), busy(504)])
def test_a_function_that_may_have_run_is_not_run_again(
    respond: Respond, make_client: MakeClient, pauses: list[float]
) -> None:
    pauses.clear()
    with serving(respond) as local:
        client = make_client(transport=HttpTransport(local.url))
        with pytest.raises(ServerUnreachable) as caught:
            client.execute(FUNCTION, {})
        assert (len(local.seen), pauses) == (1, [])
        assert caught.value.sent
        assert caught.value.retry_after == (1 if caught.value.detail.startswith("HTTP") else None)
        with pytest.raises(ServerUnreachable):  # whereas a report may be asked again
            client.report(fakes.REPORT)
        assert len(local.seen) == (2 if caught.value.detail == "HTTP 504" else 4)


def test_a_connection_that_failed_is_retried_as_nothing_was_sent(
    make_client: MakeClient, server: FakeServer, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_args: object, **_more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    server.tweak, server.script = setting(result="ran"), [not_connected] * 2
    assert make_client().execute(FUNCTION, {}) == "ran"
    assert (len(pauses), len(server.requests)) == (2, 3)
    with closed_port() as address, pytest.raises(ServerUnreachable, match="ConnectionRefused") as caught:
        make_client(transport=HttpTransport(f"http://{address}")).execute(FUNCTION, {})
    assert (caught.value.sent, len(pauses)) == (False, 4)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # a name server may take longer than the client waits
    with pytest.raises(ServerUnreachable) as caught:
        make_client(transport=HttpTransport("http://card.invalid")).execute(FUNCTION, {})
    assert not caught.value.sent


SECOND = "Z" * 32
CHINA = timezone(timedelta(hours=8))
NOON = datetime(2026, 12, 25, 20, tzinfo=CHINA)  # in UTC
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
    assert status == CardStatus("active", NOON, bound=True, unbinds_left=1, next_unbind_at=None)
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
        *(Response(200, b"<html>please sign in</html>"), Response(302, b""), problem(403, "PORTAL_LOGIN"), says(201)),
        *[says(status=status) for status in (1, "\x1b[2J")],
        *[says(unbinds_left=left) for left in (True, -1, 1.5)],
        *(says(bound=1), *[says(expires_at=time) for time in (1_800_000_000, "soon", "2026-12-25T20:00:00")]),
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
    possible_from = NOON + timedelta(seconds=45)
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
    pauses.clear()
    for failure in (ServerUnreachable("cut off", passing=True), Response(503, b"")):
        server.requests.clear()
        server.script = [failure]
        with pytest.raises(ServerUnreachable) as caught:
            ACTIONS[action](client)
        assert caught.value.sent
        assert (len(server.requests), pauses) == (1, [])
    server.script = [not_connected, says()]
    ACTIONS[action](client)
    assert len(pauses) == 1


def test_an_unbinding_forgets_the_verdict_for_offline_starts_and_a_refused_or_lost_one_does_not(
    start: MakeClient, server: FakeServer, folder: Path
) -> None:
    for client in (start(), start(state_dir=None)):
        server.script = [says(bound=False)]
        assert not client.unbind().bound
    assert not folder.exists()  # where nothing was stored, nothing is
    server.tweak = fakes.at(NOW)
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
    refused(start())
    refused(client)
    server.script = []
    start().open()
    server.tweak = reject("CARD_FROZEN")
    refused(start(), CardRejected)
    server.script = [says()]
    start().unbind()  # keeps the stored rejection
    unplug(server)
    refused(start())


def test_the_answers_decide_nothing(client: Client, server: FakeServer) -> None:
    """A forged success opens nothing, and a forged refusal closes nothing."""
    server.script = [says()]
    client.renew(SECOND)
    server.tweak = reject("CARD_EXPIRED")
    refused(client, CardRejected)
    server.tweak = fakes.at(NOW)
    server.script = [problem(404, "CARD_NOT_FOUND")]
    refused_action(client, "renew")
    assert client.open().accepted
