"""The key, what it opens and that it shows nowhere; and reading what strangers wrote."""

import copy
import io
import pickle
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pyrage
import pytest
from kadun import CardRejected, Client, KadunError, Secret, UnsealFailed, UntrustedAnswer
from kadun.decoding import decode_base64url, encode_base64url, parse_json_object
from kadun.tokens import Claims

from tests.support.client.customer_machine import CORE
from tests.support.client.fake_server import REPORT, FakeServer, forger_for, reject, setting
from tests.support.tables import for_each

NOT_TEXT = b"half a secret \xff"
IDENTITY, OTHER = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
SEALED: bytes = pyrage.encrypt(CORE, [IDENTITY.to_public()])


@pytest.fixture
def opened(client: Client, server: FakeServer) -> Client:
    server.data_key = str(IDENTITY)
    client.open()
    return client


def unseal_failure(client: Client) -> UnsealFailed:
    with pytest.raises(UnsealFailed) as caught:
        client.unseal(io.BytesIO(SEALED))
    return caught.value


def test_core_data_is_unsealed_from_a_file_and_from_a_stream(opened: Client, tmp_path: Path) -> None:
    path = tmp_path / "核心.age"
    path.write_bytes(SEALED)
    for source in (path, str(path), io.BytesIO(SEALED)):
        assert opened.unseal(source) == CORE
    with pytest.raises(FileNotFoundError):
        opened.unseal(tmp_path / "missing.age")


def test_each_identity_of_the_key_is_tried(client: Client, server: FakeServer) -> None:
    server.data_key = f"# made by age-keygen\nAGE-SECRET-KEY-1MISTYPED\n{IDENTITY}\n{OTHER}\n"
    client.open()
    for identity in (IDENTITY, OTHER):
        assert client.unseal(io.BytesIO(pyrage.encrypt(CORE, [identity.to_public()]))) == CORE


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


ASK: dict[str, Callable[[Client], object]] = {
    "open": Client.open,
    "report": lambda client: client.report(REPORT),
    "execute": lambda client: client.execute(REPORT, {}),
}


@for_each("ask", ASK)
def test_only_a_signed_rejection_of_the_card_revokes_an_earlier_acceptance(
    ask: str, opened: Client, server: FakeServer
) -> None:
    server.tweak = setting()
    opened.open()
    # A forged rejection; then those where the card is good, and the running program goes on.
    for tweak in (reject("CARD_FROZEN", nonce="another"), reject("UPDATE_REQUIRED"), reject("FUNCTION_FAILED")):
        server.tweak = tweak
        with pytest.raises(KadunError):
            ASK[ask](opened)
        assert opened.unseal(io.BytesIO(SEALED)) == CORE
    server.tweak = reject("CARD_FROZEN")
    with pytest.raises(CardRejected):
        ASK[ask](opened)
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
    server.tweak = lambda claims: claims.update(KERNAL_DATA_KEY_SEALED=forger_for(server.requests[-1]).sealed(NOT_TEXT))
    assert "half a secret" not in shown_by(opened.open)


def test_base64url_has_one_spelling() -> None:
    for raw in (b"a", b"ab", b"abc", b"\0\0\x17", bytes(range(256))):
        assert decode_base64url(encode_base64url(raw), "it") == raw
    for text in ("", "A", "AB", "AAB", "AA==", "AA=", "A+A", "A/A", "AA\n", " AA", "A.A", "ＡＡ", "AAAAA"):
        with pytest.raises(UntrustedAnswer, match="it is not canonical"):
            decode_base64url(text, "it")
    assert parse_json_object('{"a": ["卡", 1.5, null]}'.encode(), "it") == {"a": ["卡", 1.5, None]}


@for_each(
    "raw",
    [
        b"",
        b"1",
        b"[]",
        b"null",
        b'{"a": 1, "a": 1}',
        b'{"b": {"a": 1, "a": 2}}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a": 1} {}',
        b'{"a":' * 100_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
)
def test_ambiguous_json_is_refused(raw: bytes) -> None:
    with pytest.raises(UntrustedAnswer, match="it is not a JSON object"):
        parse_json_object(raw, "it")


def test_a_number_that_no_calendar_has_is_no_time() -> None:
    for value in (-1, 10**18, 10**400, float("inf"), float("nan")):
        with pytest.raises(UntrustedAnswer, match="missing or not a time"):
            Claims({"c": value}).seconds("c")
