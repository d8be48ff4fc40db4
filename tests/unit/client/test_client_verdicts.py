"""What a believed verdict tells the program, yes or no; and the key in it, what it opens and that it shows nowhere."""

import copy
import io
import pickle
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyrage
import pytest
from kadun import (
    CardRejected,
    Client,
    CoreFunctionError,
    DownloadFailed,
    KadunError,
    RequestRefused,
    Secret,
    ServerUnreachable,
    UnsealFailed,
    UntrustedAnswer,
    UpdateRequired,
)
from kadun.decoding import decode_base64url, encode_base64url, parse_json_object
from kadun.responses import Response
from kadun.tokens import Claims

from tests.support.client import fakes
from tests.support.client.fakes import CARD, CORE, NOW, REPORT, FakeServer, MakeClient, at, problem, reject, setting
from tests.support.tables import for_each

CODES = [
    *("CARD_NOT_FOUND", "CARD_FROZEN", "CARD_EXPIRED", "CARD_SPENT", "CLIENT_MISMATCH", "CLIENT_HAS_ANOTHER_CARD"),
    *("CLIENT_BLOCKED", "TOO_MANY_CHANGES", "UPDATE_REQUIRED"),
    *("FUNCTION_NOT_FOUND", "FUNCTION_FAILED", "FUNCTION_TIMEOUT"),
]
NOT_TEXT = b"half a secret \xff"
IDENTITY, OTHER = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
SEALED: bytes = pyrage.encrypt(CORE, [IDENTITY.to_public()])


def pickled(error: KadunError) -> Any:
    """A copy of the error, which must be equal."""
    made = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(made), vars(made)) == (type(error), vars(error))
    return made


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
    assert (opening["card_id"], opening["hardware"], opening["function"]) == (CARD, fakes.HARDWARE, fakes.OPEN)
    assert opening.get("version") == version
    assert len(opening["client_public_key"]) == 43
    assert 16 <= len(opening["nonce"]) <= 64


def test_a_verdict_shows_the_servers_times(client: Client, server: FakeServer) -> None:
    server.tweak = setting(activated=True, offline_until=NOW + 3600)
    verdict = client.open()
    assert (verdict.activated, verdict.reference) == (True, "REF45678")
    times = [verdict.issued_at, verdict.card_activated_at, verdict.card_expires_at, verdict.offline_until]
    assert [time and time.timestamp() for time in times] == [NOW, NOW - 86_400, NOW + 86_400, NOW + 3600]
    assert all(time and time.utcoffset() == timedelta(0) for time in times)
    server.tweak = setting(card_expires_at=None)  # a permanent card
    assert client.open().card_expires_at is None


@for_each("language, reference", [("zh", "参考号 REF45678"), ("en", "reference REF45678")])
def test_each_signed_rejection_has_a_message_of_its_own_with_its_reference(
    language: str, reference: str, make_client: MakeClient, server: FakeServer
) -> None:
    messages = set()
    for code in CODES:
        server.tweak = reject(code)
        with pytest.raises((CardRejected, CoreFunctionError)) as caught:
            make_client(language=language).report(REPORT)
        error = pickled(caught.value)
        assert (error.code, error.reference, str(error)) == (code, "REF45678", error.message)
        assert reference in error.message
        assert error.message.isascii() == (language == "en")
        messages.add(error.message)
    assert (len(messages), server.language) == (len(CODES), language)
    server.tweak = reject("CARD_ON_HOLIDAY")  # a code younger than this release
    with pytest.raises(CardRejected, match=r"CARD_ON_HOLIDAY.*REF45678"):
        make_client(language=language).open()


def test_only_the_servers_own_refusals_are_recognised(client: Client, server: FakeServer) -> None:
    """Another page is a portal's; the customer would be told to check the card, and an offline start be lost."""
    ours = [(404, "NOT_FOUND"), (405, "METHOD_NOT_ALLOWED"), (413, "BODY_TOO_LARGE"), (415, "UNSUPPORTED_MEDIA_TYPE")]
    kind = "Application/problem+JSON; charset=utf-8"
    for answer in (problem(400, "INVALID_REQUEST", content_type=kind), *(problem(*refusal) for refusal in ours)):
        server.script = [answer]
        fakes.refused(client, RequestRefused)
    server.tweak = setting(offline_until=NOW + 3600)
    client.open()
    portals = [(403, "CARD_FROZEN"), (400, ["INVALID_REQUEST"]), (200, "INVALID_REQUEST"), (302, "NOT_FOUND")]
    kind = "text/html; application/problem+json"
    for answer in (problem(400, "INVALID_REQUEST", content_type=kind), *(problem(*portal) for portal in portals)):
        server.script = [answer] * 2
        with pytest.raises(UntrustedAnswer):
            client.report(REPORT)
        assert client.open().offline, answer


def test_invalid_settings_and_texts_are_refused_without_asking(make_client: MakeClient, server: FakeServer) -> None:
    for name in ("card_id", "hardware"):  # UTF-8 cannot write them
        assert name in fakes.refused(make_client(**{name: "\udcff"}), RequestRefused).detail
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
    answer: object, error: type[KadunError], detail: str, language: str, make_client: MakeClient, server: FakeServer
) -> None:
    server.script = [answer]
    failure = fakes.refused(make_client(language=language), error)
    assert failure.message
    assert failure.message.isascii() == (language == "en")
    assert failure.detail == detail
    assert detail in str(failure)
    made = pickled(failure)
    made.speak(language)
    assert vars(made) == vars(failure)


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
    fakes.unplug(server)
    verdict = start().open()
    assert verdict.offline
    assert {name: getattr(verdict, name) for name in told} == told


def test_a_required_update_is_an_error_of_its_own_and_ends_offline_starts_until_the_update(
    start: MakeClient, server: FakeServer
) -> None:
    server.tweak = at(NOW)
    start(version="1.4").open()
    for told in ({}, {"latest_version": "2.0", "update_url": URL}):
        server.tweak = reject("UPDATE_REQUIRED", **told)
        error = pickled(fakes.refused(start(version="1.4"), UpdateRequired))
        assert (error.latest_version, error.update_url) == (told.get("latest_version"), told.get("update_url"))
    assert isinstance(error, CardRejected)
    fakes.unplug(server)
    fakes.refused(start(version="1.4"), ServerUnreachable)
    server.script = []
    server.tweak = at(NOW + 1)
    assert start(version="2.0").open().accepted
    fakes.unplug(server)
    assert start(version="2.0").open().offline


@pytest.fixture
def opened(client: Client, server: FakeServer) -> Client:
    server.data_key = str(IDENTITY)
    client.open()
    return client


def unseal_failure(client: Client) -> UnsealFailed:
    with pytest.raises(UnsealFailed) as caught:
        client.unseal(io.BytesIO(SEALED))
    return caught.value


def test_core_data_is_unsealed_from_a_file_and_from_a_stream_by_each_identity_of_the_key(
    opened: Client, server: FakeServer, tmp_path: Path
) -> None:
    path = tmp_path / "核心.age"
    path.write_bytes(SEALED)
    for source in (path, str(path), io.BytesIO(SEALED)):
        assert opened.unseal(source) == CORE
    with pytest.raises(FileNotFoundError):
        opened.unseal(tmp_path / "missing.age")
    server.data_key = f"# made by age-keygen\nAGE-SECRET-KEY-1MISTYPED\n{IDENTITY}\n{OTHER}\n"
    opened.open()
    for identity in (IDENTITY, OTHER):
        assert opened.unseal(io.BytesIO(pyrage.encrypt(CORE, [identity.to_public()]))) == CORE


def test_core_data_needs_an_opening_and_a_key_of_age(client: Client, server: FakeServer) -> None:
    client.report(REPORT)
    assert "call open() first" in unseal_failure(client).detail
    client.open()
    assert "no age identity; unseal with the vendor's own scheme" in unseal_failure(client).detail
    server.data_key = f"  自己的密钥 \n{OTHER}"
    key = client.open().data_key
    assert key is not None
    assert key.reveal() == server.data_key  # unchanged
    error = unseal_failure(client)
    assert "核心数据" in error.message
    assert error.detail.startswith("the core data does not decrypt: ")


@for_each("ask", [Client.open, lambda client: client.report(REPORT), lambda client: client.execute(REPORT, {})])
def test_only_a_signed_rejection_of_the_card_revokes_an_earlier_acceptance(
    ask: Callable[[Client], object], opened: Client, server: FakeServer
) -> None:
    server.tweak = setting()
    opened.open()
    # A forged rejection; then those where the card is good, and the running program goes on.
    for tweak in (reject("CARD_FROZEN", nonce="another"), reject("UPDATE_REQUIRED"), reject("FUNCTION_FAILED")):
        server.tweak = tweak
        with pytest.raises(KadunError):
            ask(opened)
        assert opened.unseal(io.BytesIO(SEALED)) == CORE
    server.tweak = reject("CARD_FROZEN")
    with pytest.raises(CardRejected):
        ask(opened)
    unseal_failure(opened)


def test_the_key_is_neither_shown_nor_copied(opened: Client) -> None:
    verdict = opened.open()
    for shown in (opened, verdict, verdict.data_key, vars(opened), vars(verdict)):
        assert str(IDENTITY) not in f"{shown!r} {shown}"
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        for holder in (verdict.data_key, verdict, opened):
            if way is copy.copy and not isinstance(holder, Secret):
                continue  # a shallow copy of its holder refers to the same secret
            with pytest.raises(TypeError):
                way(holder)
    with pytest.raises(TypeError):
        asdict(verdict)


def shown_by(work: Callable[[], object]) -> str:
    """All that a debugging tool could print of its error: each frame's local variables, and the errors behind it."""
    with pytest.raises(KadunError) as caught:
        work()
    text = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "self = <kadun.client.Client object" in text  # local variables are there to be seen
    return text


def test_no_traceback_shows_the_key_even_with_local_variables(opened: Client, server: FakeServer) -> None:
    other = pyrage.encrypt(CORE, [OTHER.to_public()])
    server.tweak = setting(nonce="another", KERNAL_DATA_KEY=str(IDENTITY))
    for failing in (lambda: opened.unseal(io.BytesIO(other)), opened.open, lambda: opened.report(REPORT)):
        assert str(IDENTITY) not in shown_by(failing)
    server.tweak = lambda claims: claims.update(
        KERNAL_DATA_KEY_SEALED=fakes.forger_for(server.requests[-1]).sealed(NOT_TEXT)
    )
    assert "half a secret" not in shown_by(opened.open)


def test_base64url_has_one_spelling() -> None:
    for raw in (b"a", b"ab", b"abc", b"\0\0\x17", bytes(range(256))):
        assert decode_base64url(encode_base64url(raw), "it") == raw
    for text in ("", "A", "AB", "AAB", "AA==", "AA=", "A+A", "A/A", "AA\n", " AA", "A.A", "ＡＡ", "AAAAA"):
        with pytest.raises(UntrustedAnswer, match="it is not canonical"):
            decode_base64url(text, "it")


@for_each(
    "raw",
    [
        *(b"", b"1", b"[]", b"null", b'{"a": 1, "a": 1}', b'{"b": {"a": 1, "a": 2}}', b'{"a": NaN}'),
        *(b'{"a": -Infinity}', b'{"a": "\xff"}', b"\xef\xbb\xbf{}", b'{"a": 1} {}', b'{"a":' * 100_000),
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
)
def test_ambiguous_json_is_refused(raw: bytes) -> None:
    with pytest.raises(UntrustedAnswer, match="it is not a JSON object"):
        parse_json_object(raw, "it")
    assert parse_json_object('{"a": ["卡", 1.5, null]}'.encode(), "it") == {"a": ["卡", 1.5, None]}


def test_a_number_that_no_calendar_has_is_no_time() -> None:
    for value in (-1, 10**18, 10**400, float("inf"), float("nan")):
        with pytest.raises(UntrustedAnswer, match="missing or not a time"):
            Claims({"c": value}).seconds("c")
