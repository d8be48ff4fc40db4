"""What a believed verdict tells the program, yes or no: times, reasons, notices and updates."""

import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kadun import (
    CardRejected,
    Client,
    CoreFunctionError,
    DownloadFailed,
    KadunError,
    RequestRefused,
    ServerUnreachable,
    UntrustedAnswer,
    UpdateRequired,
)
from kadun.responses import Response

from tests.support.client.customer_machine import MakeClient, at, refused, unplug
from tests.support.client.fake_server import CARD, HARDWARE, NOW, OPEN, REPORT, FakeServer, problem, reject, setting
from tests.support.tables import for_each

CODES = [
    *("CARD_NOT_FOUND", "CARD_FROZEN", "CARD_EXPIRED", "CARD_SPENT"),
    *("CLIENT_MISMATCH", "CLIENT_HAS_ANOTHER_CARD", "CLIENT_BLOCKED", "TOO_MANY_CHANGES", "UPDATE_REQUIRED"),
]
FAILURES = ["FUNCTION_NOT_FOUND", "FUNCTION_FAILED", "FUNCTION_TIMEOUT"]


@for_each("version", [None, "1", "2026.11.28", "1" * 32])
def test_each_request_has_exactly_the_fields_of_the_protocol(
    version: str | None, make_client: MakeClient, server: FakeServer, tmp_path: Path
) -> None:
    server.requests.clear()
    server.paths.clear()
    server.tweak = setting(result=1, files=[])
    client = make_client(card_id=f" \t{CARD}\n", version=version)
    client.open()
    verdict = client.report(REPORT)
    assert (verdict.function, verdict.data_key) == (REPORT, None)
    client.execute(REPORT, {})
    with pytest.raises(DownloadFailed, match=r"model\.bin"):
        client.download("model.bin", tmp_path / "model.bin")
    assert server.paths == ["/v1/verify", "/v1/verify", "/v1/execute", "/v1/files"]
    always = {"card_id", "hardware", "function", "nonce", *(["version"] if version else [])}
    more: list[set[str]] = [{"client_public_key"}, set(), {"arguments"}, set()]
    assert [set(request) for request in server.requests] == [always | names for names in more]
    opening = server.requests[0]
    assert (opening["card_id"], opening["hardware"], opening["function"]) == (CARD, HARDWARE, OPEN)
    assert opening.get("version") == version
    assert len(opening["client_public_key"]) == 43
    assert 16 <= len(opening["nonce"]) <= 64


def test_a_verdict_shows_the_servers_times(client: Client, server: FakeServer) -> None:
    server.tweak = setting(activated=True, offline_until=NOW + 3600)
    verdict = client.open()
    assert verdict.activated
    times = [verdict.issued_at, verdict.card_activated_at, verdict.card_expires_at, verdict.offline_until]
    assert [time and time.timestamp() for time in times] == [NOW, NOW - 86_400, NOW + 86_400, NOW + 3600]
    assert all(time and time.utcoffset() == timedelta(0) for time in times)
    assert verdict.reference == "REF45678"
    server.tweak = setting(card_expires_at=None)  # a permanent card
    assert client.open().card_expires_at is None


@for_each("language, reference", [("zh", "参考号 REF45678"), ("en", "reference REF45678")])
def test_each_signed_rejection_has_a_message_of_its_own_with_its_reference(
    language: str, reference: str, make_client: MakeClient, server: FakeServer
) -> None:
    messages = set()
    for code in (*CODES, *FAILURES):
        server.tweak = reject(code)
        with pytest.raises((CardRejected, CoreFunctionError)) as caught:
            make_client(language=language).report(REPORT)
        error = caught.value
        assert (error.code, error.reference) == (code, "REF45678")
        assert reference in error.message
        assert error.message.isascii() == (language == "en")
        assert str(error) == error.message
        messages.add(error.message)
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        assert (type(copy), vars(copy)) == (type(error), vars(error))
    assert len(messages) == len(CODES) + len(FAILURES)
    assert server.language == language
    server.tweak = reject("CARD_ON_HOLIDAY")  # a code younger than this release
    with pytest.raises(CardRejected, match=r"CARD_ON_HOLIDAY.*REF45678"):
        make_client(language=language).open()


def test_only_the_servers_own_refusals_are_recognised(client: Client, server: FakeServer) -> None:
    """Another page is a portal's; the customer would be told to check the card, and an offline start be lost."""
    for answer in (
        problem(400, "INVALID_REQUEST", content_type="Application/problem+JSON; charset=utf-8"),
        problem(404, "NOT_FOUND"),
        problem(405, "METHOD_NOT_ALLOWED"),
        problem(413, "BODY_TOO_LARGE"),
        problem(415, "UNSUPPORTED_MEDIA_TYPE"),
    ):
        server.script = [answer]
        refused(client, RequestRefused)
    server.tweak = setting(offline_until=NOW + 3600)
    client.open()
    for answer in (
        problem(400, "INVALID_REQUEST", content_type="text/html; application/problem+json"),
        problem(403, "CARD_FROZEN"),
        problem(400, ["INVALID_REQUEST"]),
        problem(200, "INVALID_REQUEST"),
        problem(302, "NOT_FOUND"),
    ):
        server.script = [answer] * 2
        with pytest.raises(UntrustedAnswer):
            client.report(REPORT)
        assert client.open().offline, answer


def test_invalid_settings_and_texts_are_refused_without_asking(make_client: MakeClient, server: FakeServer) -> None:
    for name in ("card_id", "hardware"):  # UTF-8 cannot write them
        assert name in refused(make_client(**{name: "\udcff"}), RequestRefused).detail
    with pytest.raises(ValueError, match="zh, en"):
        make_client(language="fr")
    for version in ("", " 1", "1.", ".1", "1..2", "v1", "1,4", "1.4\n", "\u0661.4", "1" * 33, 1.4):
        with pytest.raises(ValueError, match=r'dotted numbers such as "1\.4", at most 32 characters; not '):
            make_client(version=version)
    assert server.requests == []


@for_each("language", ["zh", "en"])
@for_each(
    "answer, error, detail",
    [
        (Response(500, b""), ServerUnreachable, "HTTP 500"),
        (Response(200, b""), UntrustedAnswer, "HTTP 200 without a verdict"),
        (ServerUnreachable("no route"), ServerUnreachable, "no route"),
        # Shortened, and without its control characters.
        (problem(400, "INVALID_REQUEST", "at most 64\x1b[2J\u202e"), RequestRefused, "at most 64?[2J?"),
        (problem(400, "INVALID_REQUEST", "x" * 1000), RequestRefused, "x" * 200),
    ],
)
def test_every_failure_has_a_message_in_the_customers_language_and_can_be_pickled(
    answer: Response | Exception,
    error: type[KadunError],
    detail: str,
    language: str,
    make_client: MakeClient,
    server: FakeServer,
) -> None:
    server.script = [answer]
    failure = refused(make_client(language=language), error)
    assert failure.message
    assert failure.message.isascii() == (language == "en")
    assert failure.detail == detail
    assert detail in str(failure)
    copy = pickle.loads(pickle.dumps(failure))  # noqa: S301 - our own bytes
    copy.speak(language)
    assert (type(copy), vars(copy)) == (error, vars(failure))


URL = "https://example.com/下载?v=2"
TOLD = {"notice": "今晚 22:00 维护\n请提前保存", "latest_version": "1.10", "update_url": URL}


@for_each("told", [TOLD, dict.fromkeys(TOLD)])
def test_a_verdict_carries_notice_and_update_online_and_offline(
    told: dict[str, str | None], start: MakeClient, server: FakeServer
) -> None:
    present = {name: text for name, text in told.items() if text is not None}
    server.script = []
    server.tweak = setting(offline_until=NOW + 3600, **present)
    assert not start().open().offline
    unplug(server)
    verdict = start().open()
    assert verdict.offline
    assert {name: getattr(verdict, name) for name in told} == told


@for_each("value", [None, "", [URL]])
@for_each("claim", TOLD)
def test_a_claim_of_another_type_is_untrusted(claim: str, value: Any, client: Client, server: FakeServer) -> None:
    for tweak in (setting(**{claim: value}), reject("UPDATE_REQUIRED", **{claim: value})):
        server.tweak = tweak
        assert claim in refused(client, UntrustedAnswer).detail


def test_a_required_update_is_an_error_of_its_own_and_ends_offline_starts_until_the_update(
    start: MakeClient, server: FakeServer
) -> None:
    server.tweak = at(NOW)
    start(version="1.4").open()
    for told in ({}, {"latest_version": "2.0", "update_url": URL}):
        server.tweak = reject("UPDATE_REQUIRED", **told)
        error = refused(start(version="1.4"), CardRejected)
        assert isinstance(error, UpdateRequired)
        assert (error.latest_version, error.update_url) == (told.get("latest_version"), told.get("update_url"))
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        assert vars(copy) == vars(error)
    unplug(server)
    refused(start(version="1.4"), ServerUnreachable)
    server.script = []
    server.tweak = at(NOW + 1)
    assert start(version="2.0").open().accepted
    unplug(server)
    assert start(version="2.0").open().offline
