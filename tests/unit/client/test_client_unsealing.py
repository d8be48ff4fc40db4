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
from kadun import CardRejected, Client, KadunError, Secret, UnsealFailed

from tests.support.client.customer_machine import CORE
from tests.support.client.fake_server import REPORT, FakeServer, forger_for, reject, setting
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


def test_each_identity_of_the_key_is_tried(client: Client, server: FakeServer) -> None:
    identities = [pyrage.x25519.Identity.generate() for _ in range(2)]
    server.data_key = "\n".join(["# made by age-keygen", "AGE-SECRET-KEY-1MISTYPED", *map(str, identities), ""])
    client.open()
    for identity in identities:
        assert client.unseal(io.BytesIO(pyrage.encrypt(CORE, [identity.to_public()]))) == CORE


def test_core_data_needs_an_opening_and_a_key_of_age(client: Client, server: FakeServer, sealed: bytes) -> None:
    client.report(REPORT)
    assert "call open() first" in unseal_failure(client, sealed).detail
    client.open()
    assert "no age identity; unseal with the vendor's own scheme" in unseal_failure(client, sealed).detail
    server.data_key = f"  自己的密钥 \n{pyrage.x25519.Identity.generate()}"
    key = client.open().data_key
    assert key is not None
    assert key.reveal() == server.data_key  # unchanged
    error = unseal_failure(client, sealed)
    assert "核心数据" in error.message
    assert error.detail.startswith("the core data does not decrypt: ")


ASK: dict[str, Callable[[Client], object]] = {
    "open": Client.open,
    "report": lambda client: client.report(REPORT),
    "execute": lambda client: client.execute(REPORT, {}),
}


@for_each("ask", ASK)
def test_only_a_signed_rejection_of_the_card_revokes_an_earlier_acceptance(
    ask: str, opened: Client, server: FakeServer, sealed: bytes
) -> None:
    server.tweak = setting()
    opened.open()
    # A forged rejection; then those where the card is good, and the running program goes on.
    for tweak in (reject("CARD_FROZEN", nonce="another"), reject("UPDATE_REQUIRED"), reject("FUNCTION_FAILED")):
        server.tweak = tweak
        with pytest.raises(KadunError):
            ASK[ask](opened)
        assert opened.unseal(io.BytesIO(sealed)) == CORE
    server.tweak = reject("CARD_FROZEN")
    with pytest.raises(CardRejected):
        ASK[ask](opened)
    unseal_failure(opened, sealed)


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
