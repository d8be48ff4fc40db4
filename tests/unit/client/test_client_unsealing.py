"""The key and what it opens; and that the key shows nowhere."""

from __future__ import annotations

import copy
import io
import pickle
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING

import pyrage
import pytest
from kadun import Client, KadunError, Secret, UnsealFailed, UntrustedAnswer

from tests.support.client.fake_server import REPORT, FakeServer, forger_for, reject, setting
from tests.support.client.offline import CORE
from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOT_TEXT = b"half a secret \xff"


@pytest.fixture
def identity() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.generate()


@pytest.fixture
def sealed(identity: pyrage.x25519.Identity) -> bytes:
    return bytes(pyrage.encrypt(CORE, [identity.to_public()]))


@pytest.fixture
def opened(client: Client, server: FakeServer, identity: pyrage.x25519.Identity) -> Client:
    server.data_key = str(identity)
    client.open()
    return client


def unseal_failure(client: Client, sealed: bytes) -> UnsealFailed:
    with pytest.raises(UnsealFailed) as caught:
        client.unseal(io.BytesIO(sealed))
    return caught.value


def test_core_data_is_unsealed_from_a_file_and_from_a_stream(opened: Client, sealed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "核心.age"
    path.write_bytes(sealed)
    for source in (path, str(path), io.BytesIO(sealed)):
        assert opened.unseal(source) == CORE
    with pytest.raises(FileNotFoundError):
        opened.unseal(tmp_path / "missing.age")


@for_each("newline", ["\n", "\r\n"])
def test_each_identity_of_the_key_is_tried(newline: str, client: Client, server: FakeServer) -> None:
    identities = [pyrage.x25519.Identity.generate() for _ in range(3)]
    mistyped = "AGE-SECRET-KEY-1MISTYPED"
    server.data_key = newline.join(["# made by age-keygen", mistyped, *map(str, identities), ""])
    client.open()
    for identity in identities:
        assert client.unseal(io.BytesIO(pyrage.encrypt(CORE, [identity.to_public()]))) == CORE


def test_a_vendors_own_key_is_returned_unchanged(client: Client, server: FakeServer) -> None:
    server.data_key = "  自己的密钥 \n"
    key = client.open().data_key
    assert key is not None
    assert key.reveal() == "  自己的密钥 \n"
    told = unseal_failure(client, b"whatever").detail
    assert told == "KERNAL_DATA_KEY contains no age identity; unseal with the vendor's own scheme"


def test_core_data_that_is_damaged_or_for_another_key_fails_clearly(opened: Client, sealed: bytes) -> None:
    other = pyrage.encrypt(CORE, [pyrage.x25519.Identity.generate().to_public()])
    for damaged in (b"", b"no age file", sealed[:-1], other):
        error = unseal_failure(opened, damaged)
        assert "核心数据" in error.message
        assert error.detail.startswith("the core data does not decrypt: ")


def test_unsealing_requires_an_opening(client: Client, sealed: bytes) -> None:
    client.report(REPORT)
    assert "open" in unseal_failure(client, sealed).detail


ASK: dict[str, Callable[[Client], object]] = {
    "open": Client.open,
    "report": lambda client: client.report(REPORT),
    "execute": lambda client: client.execute(REPORT, {}),
}


@for_each("ask", ASK)
@for_each(
    "code, revoked",
    [
        ("CARD_FROZEN", True),
        ("CARD_EXPIRED", True),
        ("UPDATE_REQUIRED", False),  # the card is good, and the running program goes on
        ("FUNCTION_FAILED", False),
    ],
)
def test_a_signed_rejection_of_the_card_revokes_an_earlier_acceptance(
    ask: str, code: str, opened: Client, server: FakeServer, sealed: bytes, *, revoked: bool
) -> None:
    server.tweak = setting()
    opened.open()
    server.tweak = reject(code)
    with pytest.raises(KadunError, match="REF45678"):
        ASK[ask](opened)
    if revoked:
        unseal_failure(opened, sealed)
    else:
        assert opened.unseal(io.BytesIO(sealed)) == CORE


def test_a_forged_response_does_not_end_it(opened: Client, server: FakeServer, sealed: bytes) -> None:
    server.header = {"typ": "JWT"}
    with pytest.raises(UntrustedAnswer):
        opened.report(REPORT)
    assert opened.unseal(io.BytesIO(sealed)) == CORE


def test_the_key_is_neither_shown_nor_copied(opened: Client, identity: pyrage.x25519.Identity) -> None:
    verdict = opened.open()
    for shown in (opened, verdict, verdict.data_key, vars(opened), vars(verdict)):
        assert str(identity) not in f"{shown!r} {shown}"
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


def test_no_traceback_shows_the_key_even_with_local_variables(
    opened: Client, server: FakeServer, identity: pyrage.x25519.Identity
) -> None:
    other = pyrage.encrypt(CORE, [pyrage.x25519.Identity.generate().to_public()])
    server.tweak = setting(nonce="another", KERNAL_DATA_KEY=str(identity))
    for failing in (lambda: opened.unseal(io.BytesIO(other)), opened.open, lambda: opened.report(REPORT)):
        assert str(identity) not in shown_by(failing)
    server.tweak = lambda claims: claims.update(KERNAL_DATA_KEY_SEALED=forger_for(server.requests[-1]).sealed(NOT_TEXT))
    assert "half a secret" not in shown_by(opened.open)
