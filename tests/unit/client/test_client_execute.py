"""Functions on the server: one question, one answer, and no second run by mistake."""

import socket
from typing import Any

import pytest
from kadun import (
    Client,
    CoreFunctionError,
    FunctionFailed,
    FunctionNotFound,
    FunctionTimeout,
    ServerUnreachable,
    UntrustedAnswer,
)
from kadun.responses import Response
from kadun.transport import HttpTransport

from tests.support.client.customer_machine import MakeClient
from tests.support.client.fake_server import OPEN, REPORT, FakeServer, SigningKey, reject, setting
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
DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]


@for_each(
    "arguments",
    [
        None,
        [],
        {"a": [{1: "one"}]},
        {"a": float("nan")},
        {"a": b"bytes"},
        {"a": "秘密\udcff"},
        {"\udcff": 1},
        CIRCLE,
        {"a": DEEP},
    ],
)
def test_arguments_that_are_no_json_object_are_refused_before_anything_is_sent(
    arguments: Any, client: Client, server: FakeServer
) -> None:
    with pytest.raises(ValueError, match="arguments") as caught:
        client.execute(FUNCTION, arguments)
    assert "秘密" not in str(caught.value)
    for ask in (lambda: client.execute(OPEN, {}), lambda: client.report(OPEN)):
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
            client.report(REPORT)
        assert len(local.seen) == (2 if caught.value.detail == "HTTP 504" else 4)


class Keyless(FakeServer):
    """Answers, but its key set cannot be reached: that is asked for on a connection of its own."""

    def exchange(self, path: str, body: bytes | None, language: str) -> Response:
        if body is None:
            raise not_connected()
        return super().exchange(path, body, language)


def test_a_function_whose_verdict_has_a_key_that_cannot_be_fetched_has_run(
    make_client: MakeClient, pauses: list[float]
) -> None:
    server = Keyless(SigningKey())  # rotated since the last start
    with pytest.raises(ServerUnreachable, match="refused") as caught:
        make_client(transport=server).execute(FUNCTION, {})
    assert (len(server.requests), len(pauses)) == (1, 2)
    assert caught.value.sent


def test_a_failed_connection_is_retried(client: Client, server: FakeServer, pauses: list[float]) -> None:
    server.tweak = setting(result="ran")
    server.script = [not_connected] * 2
    assert client.execute(FUNCTION, {}) == "ran"
    assert (len(pauses), len(server.requests)) == (2, 3)


def test_a_request_to_a_closed_port_or_an_unknown_name_was_not_sent(
    make_client: MakeClient, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_args: object, **_more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with closed_port() as address, pytest.raises(ServerUnreachable, match="ConnectionRefused") as caught:
        make_client(transport=HttpTransport(f"http://{address}")).execute(FUNCTION, {})
    assert (caught.value.sent, len(pauses)) == (False, 2)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # a name server may take longer than the client waits
    with pytest.raises(ServerUnreachable) as caught:
        make_client(transport=HttpTransport("http://card.invalid")).execute(FUNCTION, {})
    assert not caught.value.sent
