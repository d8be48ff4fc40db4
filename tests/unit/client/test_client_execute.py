"""Functions on the server: one question, one answer, and no second run by mistake."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from kadun import (
    CardRejected,
    Client,
    CoreFunctionError,
    FunctionFailed,
    FunctionNotFound,
    FunctionTimeout,
    KadunError,
    ServerUnreachable,
    UntrustedAnswer,
)
from kadun.transport import HttpTransport

from tests.support.client.fake_server import OPEN, REPORT, FakeServer, SigningKey, problem, reject, setting
from tests.support.client.local_http import Handler, forged, serving
from tests.support.client.ports import closed_port
from tests.support.client.raw_responses import LONG, send
from tests.support.tables import for_each

if TYPE_CHECKING:
    from kadun.responses import Response

    from tests.support.client.local_http import Respond
    from tests.support.client.offline import MakeClient

FUNCTION = "汇率换算"
FAILURES = {
    "FUNCTION_NOT_FOUND": (404, FunctionNotFound),
    "FUNCTION_FAILED": (502, FunctionFailed),
    "FUNCTION_TIMEOUT": (504, FunctionTimeout),
    "FUNCTION_ON_HOLIDAY": (503, CoreFunctionError),  # a code younger than this release
}


@for_each("result", [{"CNY": 712.5, "备注": None}, [1, "二"], "文本", 0, False, None])
def test_the_result_comes_back_as_it_was_signed(result: Any, make_client: MakeClient, server: FakeServer) -> None:
    server.requests.clear()
    server.tweak = setting(result=result)
    with serving(forged(server)) as local:
        client = make_client(transport=HttpTransport(local.url))
        for arguments in ({"amount": 100, "to": ["人民币", None], "exact": True}, {}):
            assert client.execute(FUNCTION, arguments) == result
            request = server.requests[-1]
            assert (request["function"], request["arguments"]) == (FUNCTION, arguments)
    assert set(request) == {"card_id", "hardware", "function", "nonce", "arguments"}
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
        "{}",
        {1: "one"},
        {"a": [{True: 1}]},
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": object()},
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
    assert server.paths == []
    assert "秘密" not in str(caught.value)


def test_open_can_be_neither_executed_nor_reported(client: Client, server: FakeServer) -> None:
    for ask in (lambda: client.execute(OPEN, {}), lambda: client.report(OPEN)):
        with pytest.raises(ValueError, match="open"):
            ask()
    assert server.paths == []


@for_each("activated", [False, True])  # a card may be activated by a function that then fails
@for_each("code", FAILURES)
def test_a_function_that_gave_no_result_is_a_clear_error_and_asked_once(
    code: str, make_client: MakeClient, server: FakeServer, *, activated: bool
) -> None:
    status, error = FAILURES[code]
    server.tweak = reject(code, activated=activated)

    def respond(handler: Handler, body: bytes) -> None:
        handler.send(status, server.exchange(handler.path, body, "").body, Content_Type="application/json")

    for language, reference in (("zh", "（参考号 REF45678）"), ("en", "(reference REF45678)")):
        with serving(respond) as local, pytest.raises(error) as caught:
            make_client(transport=HttpTransport(local.url), language=language).execute(FUNCTION, {})
        assert type(caught.value) is error
        assert isinstance(caught.value, CoreFunctionError)
        assert not isinstance(caught.value, CardRejected)  # the card is good
        assert (caught.value.code, caught.value.reference) == (code, "REF45678")
        assert reference in caught.value.message
        assert caught.value.message.isascii() == (language == "en")
        assert len(local.seen) == 1


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


@for_each(
    "respond",
    [send(b""), send(b"", Handler.reset), send(LONG + b'{"token":'), busy(429), busy(502), busy(503), busy(504)],
)
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


class Keyless:
    """Has the question answered, and cannot reach the key set: it is asked on a connection of its own."""

    def __init__(self, server: FakeServer, dead: str) -> None:
        self.server = server
        self.dead = HttpTransport(dead)

    def exchange(self, path: str, body: bytes | None, language: str) -> Response:
        return (self.dead if body is None else self.server).exchange(path, body, language)


def test_a_function_whose_verdict_has_a_key_that_cannot_be_fetched_has_run(
    make_client: MakeClient, server: FakeServer, pauses: list[float]
) -> None:
    server.key = SigningKey()  # rotated since the last start
    with closed_port() as address:
        client = make_client(transport=Keyless(server, f"http://{address}"))
        with pytest.raises(ServerUnreachable, match="ConnectionRefused") as caught:
            client.execute(FUNCTION, {})
    assert (len(server.requests), len(pauses)) == (1, 2)
    assert caught.value.sent


class LateServer:
    """Nobody listens at first, and then the server does."""

    def __init__(self, dead: str, alive: str, refusals: int) -> None:
        self.ways = [HttpTransport(dead)] * refusals + [HttpTransport(alive)] * 9

    def exchange(self, path: str, body: bytes | None, language: str) -> Response:
        return self.ways.pop(0).exchange(path, body, language)


def test_a_failed_connection_is_retried(make_client: MakeClient, server: FakeServer, pauses: list[float]) -> None:
    server.tweak = setting(result="ran")
    with closed_port() as address, serving(forged(server)) as local:
        dead = f"http://{address}"
        client = make_client(transport=LateServer(dead, local.url, refusals=2))
        assert client.execute(FUNCTION, {}) == "ran"
        assert (len(pauses), len(local.seen)) == (2, 1)
        with pytest.raises(ServerUnreachable, match="ConnectionRefused") as caught:
            make_client(transport=LateServer(dead, local.url, refusals=3)).execute(FUNCTION, {})
    assert not caught.value.sent
    assert len(local.seen) == 1


def test_a_request_to_an_unknown_name_was_not_sent(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: object, **_more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # a name server may take longer than the client waits
    with pytest.raises(ServerUnreachable) as caught:
        make_client(transport=HttpTransport("http://card.invalid")).execute(FUNCTION, {})
    assert not caught.value.sent


def test_arguments_are_not_shown_in_errors(client: Client, server: FakeServer) -> None:
    server.script = [problem(400, "INVALID_REQUEST", "arguments")]
    with pytest.raises(KadunError, match=r"INVALID_REQUEST|arguments") as caught:
        client.execute(FUNCTION, {"password": "hush-hush"})
    assert "hush-hush" not in f"{caught.value!r} {caught.value}"
