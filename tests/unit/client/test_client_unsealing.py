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
from kadun import CardRejected, Client, KadunError, Secret, UnsealFailed, UntrustedAnswer

from tests.support.client.fake_server import FakeServer, forger_for, reject, setting

if TYPE_CHECKING:
    from pathlib import Path

CORE = "汇率表".encode()
NOT_TEXT = b"half a secret \xff"


@pytest.fixture
def identity() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.generate()


@pytest.fixture
def sealed(identity: pyrage.x25519.Identity) -> bytes:
    return pyrage.encrypt(CORE, [identity.to_public()])


@pytest.fixture
def opened(client: Client, server: FakeServer, identity: pyrage.x25519.Identity) -> Client:
    server.data_key = str(identity)
    client.open()
    return client


def test_core_data_is_unsealed_from_a_file_and_from_a_stream(opened: Client, sealed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "核心.age"
    path.write_bytes(sealed)
    assert opened.unseal(path) == CORE
    assert opened.unseal(str(path)) == CORE
    assert opened.unseal(io.BytesIO(sealed)) == CORE


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_each_identity_of_the_key_is_tried(place: int, newline: str, client: Client, server: FakeServer) -> None:
    identities = [pyrage.x25519.Identity.generate() for _ in range(3)]
    server.data_key = newline.join(["# made by age-keygen", *map(str, identities), ""])
    client.open()
    sealed = pyrage.encrypt(CORE, [identities[place].to_public()])
    assert client.unseal(io.BytesIO(sealed)) == CORE


def test_a_mistyped_identity_does_not_keep_the_others_from_being_tried(
    client: Client, server: FakeServer, identity: pyrage.x25519.Identity, sealed: bytes
) -> None:
    server.data_key = f"AGE-SECRET-KEY-1MISTYPED\n{identity}"
    client.open()
    assert client.unseal(io.BytesIO(sealed)) == CORE


def test_a_vendors_own_key_is_returned_unchanged(client: Client, server: FakeServer) -> None:
    server.data_key = "  自己的密钥 \n"
    key = client.open().data_key
    assert key is not None
    assert key.reveal() == "  自己的密钥 \n"
    with pytest.raises(UnsealFailed) as caught:
        client.unseal(io.BytesIO(b"whatever"))
    assert caught.value.detail == "KERNAL_DATA_KEY contains no age identity; unseal with the vendor's own scheme"


@pytest.mark.parametrize("damage", [b"", b"no age file", None])
def test_damaged_core_data_fails_clearly(damage: bytes | None, opened: Client, sealed: bytes) -> None:
    with pytest.raises(UnsealFailed) as caught:
        opened.unseal(io.BytesIO(sealed[:-1] if damage is None else damage))
    assert "核心数据" in caught.value.message


def test_core_data_for_another_key_fails_clearly(opened: Client) -> None:
    other = pyrage.encrypt(CORE, [pyrage.x25519.Identity.generate().to_public()])
    with pytest.raises(UnsealFailed) as caught:
        opened.unseal(io.BytesIO(other))
    assert caught.value.detail.startswith("the core data does not decrypt: ")


def test_a_missing_file_is_an_os_error(opened: Client, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        opened.unseal(tmp_path / "missing.age")


def test_unsealing_requires_an_opening(client: Client, sealed: bytes) -> None:
    client.report("导出报表")
    with pytest.raises(UnsealFailed, match="open"):
        client.unseal(io.BytesIO(sealed))


@pytest.mark.parametrize("code", ["CARD_FROZEN", "CARD_EXPIRED"])
@pytest.mark.parametrize("function", ["open", "report"])
def test_a_signed_rejection_revokes_an_earlier_acceptance(
    function: str, code: str, opened: Client, server: FakeServer, sealed: bytes
) -> None:
    server.tweak = reject(code)
    with pytest.raises(CardRejected):
        opened.open() if function == "open" else opened.report("导出报表")
    with pytest.raises(UnsealFailed):
        opened.unseal(io.BytesIO(sealed))


def test_a_forged_response_does_not_end_it(opened: Client, server: FakeServer, sealed: bytes) -> None:
    server.header = {"typ": "JWT"}
    with pytest.raises(UntrustedAnswer):
        opened.report("导出报表")
    assert opened.unseal(io.BytesIO(sealed)) == CORE


def test_the_key_is_not_shown_by_anything_that_holds_it(opened: Client, identity: pyrage.x25519.Identity) -> None:
    verdict = opened.open()
    for holder in (opened, verdict, verdict.data_key, vars(opened), vars(verdict)):
        assert str(identity) not in f"{holder!r} {holder}"


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_the_key_is_not_copied(way: object, opened: Client) -> None:
    verdict = opened.open()
    for holder in (verdict.data_key, verdict, opened):
        if way is copy.copy and not isinstance(holder, Secret):
            continue  # a shallow copy of its holder refers to the same secret
        with pytest.raises(TypeError):
            way(holder)  # type: ignore[operator]
    with pytest.raises(TypeError):
        asdict(verdict)


def shown(error: BaseException) -> str:
    """All that a debugging tool could print: each frame's local variables, and the errors behind it."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def test_no_traceback_shows_the_key_even_with_local_variables(
    opened: Client, server: FakeServer, identity: pyrage.x25519.Identity
) -> None:
    other = pyrage.encrypt(CORE, [pyrage.x25519.Identity.generate().to_public()])
    server.tweak = setting(nonce="another", KERNAL_DATA_KEY=str(identity))
    for failing in (lambda: opened.unseal(io.BytesIO(other)), opened.open, lambda: opened.report("导出报表")):
        with pytest.raises(KadunError) as caught:
            failing()
        text = shown(caught.value)
        assert "self = <kadun.client.Client object" in text  # local variables are there to be seen
        assert str(identity) not in text


def test_no_traceback_shows_a_key_that_is_not_text(client: Client, server: FakeServer) -> None:
    server.tweak = lambda claims: claims.update(KERNAL_DATA_KEY_SEALED=forger_for(server.requests[-1]).sealed(NOT_TEXT))
    with pytest.raises(UntrustedAnswer) as caught:
        client.open()
    text = shown(caught.value)
    assert "half a secret" not in text
