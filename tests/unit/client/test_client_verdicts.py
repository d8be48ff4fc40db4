"""What a believed verdict tells the program, yes or no."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from kadun import CardRejected, Client, FunctionFailed, KadunError, RequestRefused, ServerUnreachable, UntrustedAnswer
from kadun.errors import printable
from kadun.responses import Response

from tests.support.client.fake_server import CARD, HARDWARE, NOW, OPEN, FakeServer, problem, reject, setting
from tests.support.tables import for_each

MakeClient = Callable[..., Client]
CODES = ["CARD_NOT_FOUND", "CARD_FROZEN", "CARD_EXPIRED", "CLIENT_MISMATCH", "CLIENT_HAS_ANOTHER_CARD"]


def test_an_opening_sends_exactly_the_fields_of_the_protocol(client: Client, server: FakeServer) -> None:
    client.open()
    (request,) = server.requests
    assert set(request) == {"card_id", "hardware", "function", "nonce", "client_public_key"}
    assert (request["card_id"], request["hardware"], request["function"]) == (CARD, HARDWARE, OPEN)
    assert len(request["client_public_key"]) == 43
    assert 16 <= len(request["nonce"]) <= 64


def test_a_report_asks_for_no_key(client: Client, server: FakeServer) -> None:
    verdict = client.report("导出报表")
    assert "client_public_key" not in server.requests[0]
    assert (verdict.function, verdict.data_key) == ("导出报表", None)


def test_a_verdict_shows_the_servers_times(client: Client, server: FakeServer) -> None:
    server.tweak = setting(activated=True, offline_until=NOW + 3600)
    verdict = client.open()
    assert verdict.activated
    times = [verdict.issued_at, verdict.card_activated_at, verdict.card_expires_at, verdict.offline_until]
    assert [time and time.timestamp() for time in times] == [NOW, NOW - 86_400, NOW + 86_400, NOW + 3600]
    assert all(time and time.utcoffset() == timedelta(0) for time in times)
    assert verdict.reference == "REF45678"


def test_a_permanent_card_has_no_expiry(client: Client, server: FakeServer) -> None:
    server.tweak = setting(card_expires_at=None)
    assert client.open().card_expires_at is None


def test_a_function_that_failed_may_have_activated_the_card(client: Client, server: FakeServer) -> None:
    server.tweak = reject("FUNCTION_FAILED", activated=True)
    with pytest.raises(FunctionFailed):
        client.report("导出报表")


@for_each("code", CODES)
@for_each("language", ["zh", "en"])
def test_a_signed_rejection_has_a_message_with_its_reference(
    code: str, language: str, make_client: MakeClient, server: FakeServer
) -> None:
    server.tweak = reject(code)
    with pytest.raises(CardRejected) as caught:
        make_client(language=language).open()
    error = caught.value
    assert (error.code, error.reference) == (code, "REF45678")
    assert ("参考号 REF45678" if language == "zh" else "reference REF45678") in error.message
    assert error.message.isascii() == (language == "en")
    assert str(error) == error.message
    assert server.language == language


def test_each_code_has_its_own_message(client: Client, server: FakeServer) -> None:
    messages = set()
    for code in CODES:
        server.tweak = reject(code)
        with pytest.raises(CardRejected) as caught:
            client.open()
        messages.add(caught.value.message)
    assert len(messages) == len(CODES)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_an_unknown_code_is_shown_unchanged(language: str, make_client: MakeClient, server: FakeServer) -> None:
    server.tweak = reject("CARD_ON_HOLIDAY")
    with pytest.raises(CardRejected, match=r"CARD_ON_HOLIDAY.*REF45678"):
        make_client(language=language).open()


def test_unsigned_text_and_status_do_not_matter(client: Client, server: FakeServer) -> None:
    def contradict(request: dict[str, Any]) -> Response:
        answer = server.genuine(request)
        return Response(403, answer.body.replace(b'"code": "OK"', b'"code": "CARD_FROZEN"', 1))

    server.script = [contradict, lambda request: Response(503, server.genuine(request).body)]
    assert client.open().accepted
    assert client.open().accepted
    server.tweak = reject("CARD_FROZEN")
    with pytest.raises(CardRejected) as caught:  # the body beside this token says OK, with 200
        client.open()
    assert "unsigned" not in caught.value.message


def test_white_space_around_the_card_is_removed(make_client: MakeClient, server: FakeServer) -> None:
    assert make_client(card_id=f" \t{CARD}\n").open().accepted
    assert server.requests[0]["card_id"] == CARD


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_refused_request_says_why_without_its_control_characters(
    language: str, make_client: MakeClient, server: FakeServer
) -> None:
    server.script = [problem(400, "INVALID_REQUEST", "card_id: at most 64\x1b[2J\u202e")]
    with pytest.raises(RequestRefused) as caught:
        make_client(language=language).open()
    assert caught.value.code == "INVALID_REQUEST"
    assert caught.value.detail == "card_id: at most 64?[2J?"
    assert caught.value.message.isascii() == (language == "en")


@pytest.mark.parametrize(
    "answer",
    [
        problem(400, "INVALID_REQUEST", content_type="application/problem+json; charset=utf-8"),
        problem(404, "NOT_FOUND", content_type="Application/Problem+JSON"),
        problem(405, "METHOD_NOT_ALLOWED"),
        problem(413, "BODY_TOO_LARGE"),
        problem(415, "UNSUPPORTED_MEDIA_TYPE"),
    ],
)
def test_each_refusal_of_the_server_is_recognised(answer: Response, client: Client, server: FakeServer) -> None:
    server.script = [answer]
    with pytest.raises(RequestRefused):
        client.open()


@for_each(
    "answer",
    [
        Response(400, b'{"code": "INVALID_REQUEST"}'),
        problem(400, "INVALID_REQUEST", content_type="application/json"),
        problem(400, "INVALID_REQUEST", content_type="text/html; application/problem+json"),
        problem(403, "PORTAL_LOGIN"),
        problem(403, "CARD_FROZEN"),
        problem(400, "invalid_request"),
        problem(400, ["INVALID_REQUEST"]),
        problem(200, "INVALID_REQUEST"),
        problem(302, "NOT_FOUND"),
    ],
)
def test_a_json_page_of_another_server_is_untrusted(answer: Response, client: Client, server: FakeServer) -> None:
    """A portal's; the customer would be told to check the card, and an offline start be lost."""
    server.tweak = setting(offline_until=NOW + 3600)
    client.open()
    server.script = [answer]
    with pytest.raises(UntrustedAnswer):
        client.report("导出报表")
    server.script = [answer]
    assert client.open().offline


@pytest.mark.parametrize("name", ["card_id", "hardware"])
def test_text_that_utf8_cannot_write_is_refused_without_asking(
    name: str, make_client: MakeClient, server: FakeServer
) -> None:
    with pytest.raises(RequestRefused, match=name):
        make_client(**{name: "\udcff"}).open()
    assert server.requests == []


def test_open_cannot_be_reported(client: Client) -> None:
    with pytest.raises(ValueError, match="open"):
        client.report(OPEN)


def test_an_unknown_language_is_refused(make_client: MakeClient) -> None:
    with pytest.raises(ValueError, match="zh, en"):
        make_client(language="fr")


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Response(500, b""), ServerUnreachable),
        (Response(200, b""), UntrustedAnswer),
        (ServerUnreachable("no route"), ServerUnreachable),
    ],
)
def test_every_failure_has_a_message_in_the_customers_language(
    answer: Response | Exception,
    error: type[KadunError],
    language: str,
    make_client: MakeClient,
    server: FakeServer,
) -> None:
    server.script = [answer]
    with pytest.raises(error) as caught:
        make_client(language=language).open()
    assert caught.value.message
    assert caught.value.message.isascii() == (language == "en")
    assert caught.value.detail in str(caught.value)


@for_each(
    "error",
    [
        CardRejected("CARD_FROZEN", "冻结", "REF45678"),
        ServerUnreachable("HTTP 503", 7, passing=True, busy=True),
        UntrustedAnswer("the nonce"),
        RequestRefused("INVALID_REQUEST", "card_id"),
    ],
)
def test_an_error_can_be_pickled(error: KadunError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)


def test_untrusted_text_is_shortened() -> None:
    assert printable("x" * 1000) == "x" * 200
