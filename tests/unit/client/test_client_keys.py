"""Which keys a client believes: the pinned, and what a chain of endorsements reaches from them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from kadun import Client, ServerUnreachable, UntrustedAnswer
from kadun.keys import TrustedKeys
from kadun.responses import Response

from tests.support.client.forge import FakeServer, SigningKey, pinned

MakeClient = Callable[..., Client]


def chain_of(first: SigningKey, length: int) -> tuple[list[SigningKey], list[str]]:
    keys = [first, *(SigningKey() for _ in range(length))]
    return keys, [keys[age].endorse(keys[age + 1]) for age in range(length)]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_a_key_is_learned_through_any_number_of_rotations_slept_through(
    length: int, client: Client, server: FakeServer, signing_key: SigningKey
) -> None:
    keys, server.endorsements = chain_of(signing_key, length)
    server.key = keys[-1]
    assert client.open().accepted
    assert server.paths == ["/v1/verify", "/.well-known/jwks.json"]


def test_a_learned_key_is_remembered(client: Client, server: FakeServer, signing_key: SigningKey) -> None:
    keys, server.endorsements = chain_of(signing_key, 2)
    server.key = keys[-1]
    client.open()
    client.report("导出报表")
    assert server.paths.count("/.well-known/jwks.json") == 1


def test_the_order_of_the_endorsements_does_not_matter(
    client: Client, server: FakeServer, signing_key: SigningKey
) -> None:
    keys, server.endorsements = chain_of(signing_key, 5)
    random.Random(5).shuffle(server.endorsements)  # noqa: S311 - a fixed order, not a secret
    server.key = keys[-1]
    assert client.open().accepted


def test_a_pinned_key_in_the_middle_of_the_chain_suffices(
    make_client: MakeClient, server: FakeServer, signing_key: SigningKey
) -> None:
    keys, server.endorsements = chain_of(signing_key, 4)
    server.key = keys[-1]
    assert make_client(public_keys=pinned(keys[2])).open().accepted


def test_a_newer_pinned_key_does_not_believe_older_ones(
    make_client: MakeClient, server: FakeServer, signing_key: SigningKey
) -> None:
    keys, server.endorsements = chain_of(signing_key, 2)
    server.key = keys[0]
    with pytest.raises(UntrustedAnswer, match="vouches"):
        make_client(public_keys=pinned(keys[2])).open()


def test_a_key_that_only_the_network_knows_is_never_believed(client: Client, server: FakeServer) -> None:
    server.key = SigningKey()  # in the key set, endorsed by nobody
    with pytest.raises(UntrustedAnswer, match="vouches"):
        client.open()


def test_a_key_that_endorses_itself_is_never_believed(client: Client, server: FakeServer) -> None:
    server.key = SigningKey()
    server.endorsements = [server.key.endorse(server.key)]
    with pytest.raises(UntrustedAnswer, match="vouches"):
        client.open()


def test_an_endorsement_need_not_name_the_issuer_and_may_come_twice(
    client: Client, server: FakeServer, signing_key: SigningKey
) -> None:
    server.key = SigningKey()
    claims = {"aud": "kadun-client", "jwk": server.key.jwk}
    server.endorsements = [signing_key.sign(claims, {"typ": "key+jwt"}), signing_key.endorse(server.key)]
    assert client.open().accepted


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_chain_with_a_gap_is_not_followed(
    missing: int, client: Client, server: FakeServer, signing_key: SigningKey
) -> None:
    keys, server.endorsements = chain_of(signing_key, 3)
    del server.endorsements[missing]
    server.key = keys[-1]
    with pytest.raises(UntrustedAnswer, match="vouches"):
        client.open()


def as_verdict(old: SigningKey, new: SigningKey) -> str:
    return old.sign({"iss": "kadun", "aud": "kadun-client", "jwk": new.jwk})


def by_a_stranger(old: SigningKey, new: SigningKey) -> str:
    claims = {"iss": "kadun", "aud": "kadun-client", "jwk": new.jwk}
    return SigningKey().sign(claims, {"typ": "key+jwt", "kid": old.kid})


def renamed(new: SigningKey, **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**new.jwk, **changes}.items() if value is not None}


FALSE_ENDORSEMENTS: dict[str, Callable[[SigningKey, SigningKey], Any]] = {
    "signed by a stranger in the pinned key's name": by_a_stranger,
    "of the type of a verdict": as_verdict,
    "for another audience": lambda old, new: old.endorse(new, aud="kadun-files"),
    "of another issuer": lambda old, new: old.endorse(new, iss="other"),
    "without a key": lambda old, new: old.endorse(new, jwk=None),
    "with a key that is text": lambda old, new: old.endorse(new, jwk=new.jwk["x"]),
    "under a kid that is not the thumbprint": lambda old, new: old.endorse(new, jwk=renamed(new, kid="new")),
    "under the kid of the pinned key": lambda old, new: old.endorse(new, jwk=renamed(new, kid=old.kid)),
    "without a kid": lambda old, new: old.endorse(new, jwk=renamed(new, kid=None)),
    "without x": lambda old, new: old.endorse(new, jwk=renamed(new, x=None)),
    "with x too short": lambda old, new: old.endorse(new, jwk=renamed(new, x="AA")),
    "with a key for encryption": lambda old, new: old.endorse(new, jwk=renamed(new, use="enc")),
    "with a key of another curve": lambda old, new: old.endorse(new, jwk=renamed(new, crv="X25519")),
    "that is no token": lambda _old, _new: "endorsed",
    "that is no text": lambda _old, new: new.jwk,
}


@pytest.mark.parametrize("lie", FALSE_ENDORSEMENTS)
def test_a_false_endorsement_is_not_believed(
    lie: str, client: Client, server: FakeServer, signing_key: SigningKey
) -> None:
    server.key = SigningKey()
    server.endorsements = [FALSE_ENDORSEMENTS[lie](signing_key, server.key)]
    with pytest.raises(UntrustedAnswer):
        client.open()


@pytest.mark.parametrize(
    "key_set",
    [
        Response(200, b"<html>"),
        Response(200, b"{}"),
        Response(200, b'{"keys": [], "endorsements": {}}'),
        Response(302, b""),
        Response(404, b'{"code": "NOT_FOUND"}'),
    ],
    ids=lambda answer: f"{answer.status} {answer.body!r}",
)
def test_a_strange_key_set_is_not_believed(key_set: Response, client: Client, server: FakeServer) -> None:
    server.key = SigningKey()
    server.key_set = key_set
    with pytest.raises(UntrustedAnswer):
        client.open()


def test_a_busy_server_at_the_key_set_is_unreachable_not_untrusted(
    client: Client, server: FakeServer, pauses: list[float]
) -> None:
    server.key = SigningKey()
    server.key_set = Response(503, b'{"code": "UNAVAILABLE"}')
    with pytest.raises(ServerUnreachable):
        client.open()
    assert len(pauses) == 2


def test_pinned_keys_may_be_json_text(make_client: MakeClient, signing_key: SigningKey) -> None:
    assert make_client(public_keys=json.dumps(pinned(SigningKey(), signing_key))).open().accepted


def private(key: SigningKey) -> dict[str, Any]:
    return {"iss": "kadun", "keys": [{**key.jwk, "d": "A" * 43}]}


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda _key: "no JSON", "JSON"),
        (lambda _key: "\ud800", "JSON"),
        (lambda _key: "[]", "JSON"),
        (lambda key: {"keys": [key.jwk]}, "iss"),
        (lambda key: {"iss": "", "keys": [key.jwk]}, "iss"),
        (lambda _key: {"iss": "kadun", "keys": []}, "cardctl key export"),
        (lambda _key: {"iss": "kadun", "keys": ["key"]}, "Ed25519"),
        (lambda key: {"iss": "kadun", "keys": [renamed(key, kid="mine")]}, "thumbprint"),
        (lambda key: {"iss": "kadun", "keys": [renamed(key, alg="ES256")]}, "EdDSA"),
        (private, "PRIVATE"),
    ],
)
def test_wrong_pinned_keys_are_the_vendors_mistake_and_said_at_once(
    spoil: Callable[[SigningKey], Any], complaint: str, signing_key: SigningKey
) -> None:
    with pytest.raises(ValueError, match=complaint):
        TrustedKeys(spoil(signing_key))
