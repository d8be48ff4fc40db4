"""Trusted keys: the pinned keys, and those that a chain of endorsements connects to them."""
# Owns keys-chain.

import json
import random
import re
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from kadun import Client, ServerUnreachable, UntrustedAnswer
from kadun.keys import LONGEST_ENDORSEMENT, Floor, TrustedKeys
from kadun.responses import Response
from kadun_conformance.crypto import ABSENT, changed

from tests.support.client.customer_machine import UNKNOWN, MakeClient, Rotations
from tests.support.client.fake_server import ISSUER, REPORT, FakeServer, SigningKey, pinned
from tests.support.client.timing import SOON_SECONDS
from tests.support.tables import for_each

WAIT_SECONDS = 0.1  # for a step of another thread, which the lock must prevent


@pytest.fixture
def keys(signing_key: SigningKey) -> TrustedKeys:
    return TrustedKeys(pinned(signing_key))


def test_a_shuffled_chain_is_followed_and_learned_once(client: Client, server: FakeServer) -> None:
    server.rotate(5)
    random.Random(5).shuffle(server.endorsements)  # noqa: S311 - a fixed order, not a secret
    assert client.open().accepted
    assert client.report(REPORT).accepted
    assert server.paths.count("/.well-known/jwks.json") == 1


def test_a_pinned_key_leads_to_later_keys_and_to_no_older_ones(
    make_client: MakeClient, server: FakeServer, signing_key: SigningKey
) -> None:
    server.rotate(2)
    client = make_client(public_keys=pinned(server.key))
    server.rotate(2)
    assert client.open().accepted
    server.key = signing_key
    with pytest.raises(UntrustedAnswer, match=UNKNOWN):
        client.open()


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_chain_with_a_gap_is_not_trusted(missing: int, client: Client, server: FakeServer) -> None:
    server.rotate(3)
    del server.endorsements[missing]
    with pytest.raises(UntrustedAnswer, match=UNKNOWN):
        client.open()


def test_an_endorsement_may_omit_the_issuer_and_be_repeated(keys: TrustedKeys, signing_key: SigningKey) -> None:
    new, bare = SigningKey(), SigningKey()
    endorsements = [signing_key.endorse(new.jwk, **claims) for claims in ({}, {"iss": ISSUER}, {"iat": 1})]
    keys.add_endorsed(endorsements[:2])
    keys.add_endorsed(endorsements[2:])
    assert [*keys.steps.values()] == endorsements[:1]
    keys.add_endorsed([signing_key.endorse(changed(bare.jwk, {"use": ABSENT, "alg": ABSENT}))])
    assert bare.kid in keys


def test_endorsements_of_another_issuer_do_not_count(rotations: Rotations) -> None:
    """A server whose KADUN_ISSUER was changed keeps the endorsements of its former name."""
    rotations.rotate(3)
    former = [key.endorse(SigningKey().jwk, iss=iss) for key in rotations.keys for iss in ("former", "", None, 1)]
    rotations.server.endorsements = [*former, *rotations.server.endorsements]
    assert rotations.accepts()
    rotations.server.key = SigningKey()
    rotations.server.endorsements = [rotations.keys[-2].endorse(rotations.server.key.jwk, iss="former")]
    rotations.refuses(UNKNOWN)


def test_keys_learned_before_an_invalid_endorsement_stay(keys: TrustedKeys, signing_key: SigningKey) -> None:
    new = SigningKey()
    genuine = signing_key.endorse(new.jwk)
    with pytest.raises(UntrustedAnswer, match="typ"):
        keys.add_endorsed([genuine, new.endorse(SigningKey().jwk, header={"typ": "JWT"})])
    with pytest.raises(UntrustedAnswer, match="claim aud"):
        keys.add_endorsed([new.endorse(SigningKey().jwk, aud="kadun-archive")])
    assert new.kid in keys
    assert [*keys.steps.values()] == [genuine]


def test_an_endorsement_has_2048_characters_at_most(keys: TrustedKeys, signing_key: SigningKey) -> None:
    new = SigningKey()
    made = [
        signing_key.endorse(new.jwk, header={"pad": "x" * more}, pad="x" * size)
        for more in (0, 1)
        for size in range(1000, 1200)
    ]
    endorsements = {len(endorsement): endorsement for endorsement in made}
    keys.add_endorsed([endorsements[LONGEST_ENDORSEMENT + 1]])
    assert new.kid not in keys
    keys.add_endorsed([endorsements[LONGEST_ENDORSEMENT]])
    assert new.kid in keys


def test_no_thread_sees_a_chain_that_another_has_learned_by_half(
    server: FakeServer, keys: TrustedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would take the first new key as known and not go on from it, or meet endorsements that change."""
    server.rotate(2)
    kid, last = server.key.kid, server.endorsements[-1]
    halfway, released = threading.Event(), threading.Event()
    genuine = TrustedKeys._endorsed  # noqa: SLF001 - where the first thread is in the middle of it

    def pause(self: TrustedKeys, endorsement: str, endorser: Any) -> Mapping[str, Any] | None:
        if endorsement == last:
            halfway.set()
            released.wait(SOON_SECONDS)
        return genuine(self, endorsement, endorser)

    def learn() -> None:
        keys.add_endorsed(server.endorsements)

    monkeypatch.setattr(TrustedKeys, "_endorsed", pause)
    uses = [learn, lambda: kid in keys, lambda: keys[kid], lambda: keys.steps, lambda: keys.saw(kid, 0)]
    learner, *others = [threading.Thread(target=use) for use in (learn, *uses, lambda: keys.take_up(None, 0))]
    learner.start()
    assert halfway.wait(SOON_SECONDS)
    for thread in others:
        thread.start()
    for thread in others:
        thread.join(WAIT_SECONDS)
    assert all(thread.is_alive() for thread in others)
    released.set()
    for thread in (learner, *others):
        thread.join()
    assert kid in keys


def test_a_floor_at_a_key_is_taken_up_only_forwards() -> None:
    keys = [SigningKey() for _ in range(3)]
    trusted = TrustedKeys(pinned(*keys))
    trusted.take_up(Floor("unknown", 900.0, 0.0), 0.0)
    assert trusted.floor is None
    trusted.saw(keys[1].kid, 0.0)
    trusted.take_up(Floor(keys[0].kid, 900.0, 0.0), 0.0)
    trusted.saw(keys[0].kid, 0.0)
    assert trusted.floor == Floor(keys[1].kid, 900.0, 0.0)
    trusted.take_up(Floor(keys[1].kid, 60.0, 0.0), 30.0)
    assert trusted.floor == Floor(keys[1].kid, 30.0, 30.0)
    trusted.take_up(Floor(keys[2].kid, 60.0, 30.0), 30.0)
    assert trusted.floor == Floor(keys[2].kid, 60.0, 30.0)
    assert keys[0].kid in trusted
    trusted.take_up(Floor(keys[2].kid, 0.5, 30.0), 30.0)
    assert keys[0].kid in trusted
    trusted.take_up(None, 100.0)
    assert [key.kid in trusted for key in keys] == [False, False, True]


@pytest.mark.parametrize(
    ("status", "error", "waits"),
    [(302, UntrustedAnswer, 0), (404, UntrustedAnswer, 0), (503, ServerUnreachable, 2)],
)
def test_a_response_that_is_not_a_key_set_is_untrusted_and_a_busy_server_is_asked_again(
    status: int, error: type[Exception], waits: int, client: Client, server: FakeServer, pauses: list[float]
) -> None:
    server.key, server.key_set = SigningKey(), Response(status, b'{"code": "NOT_FOUND"}')
    with pytest.raises(error):
        client.open()
    assert len(pauses) == waits


def test_pinned_keys_may_be_json_text(make_client: MakeClient, signing_key: SigningKey) -> None:
    assert make_client(public_keys=json.dumps(pinned(SigningKey(), signing_key))).open().accepted


KEY = SigningKey().jwk
INVALID_PINS = {
    "public_keys is not a JSON object": ["no JSON", "\ud800", "[]"],
    'public_keys must be {"iss": …, "keys": […]}, as `cardctl key export` prints it': [
        {"keys": [KEY]},
        {"iss": "", "keys": [KEY]},
        {"iss": "kadun", "keys": []},
        {"iss": "kadun", "keys": {}},
    ],
    "public_keys: a key is not an Ed25519 key": [
        {"iss": "kadun", "keys": [key]}
        for key in ("key", {**KEY, "kty": "EC"}, {**KEY, "crv": "Ed448"}, {**KEY, "x": 1}, {**KEY, "x": "AAAA"})
    ],
    "public_keys: a key is not canonical base64url": [{"iss": "kadun", "keys": [{**KEY, "x": "="}]}],
    "public_keys: the kid of a key is not its thumbprint": [{"iss": "kadun", "keys": [{**KEY, "kid": "mine"}]}],
    "public_keys: a key is not for EdDSA signatures": [
        {"iss": "kadun", "keys": [{**KEY, **use}]} for use in ({"alg": "ES256"}, {"use": "enc"})
    ],
    "public_keys contains a PRIVATE key; never ship that: use `cardctl key export`": [
        {"iss": "kadun", "keys": [KEY, {**KEY, "d": "A" * 43}]}
    ],
}


@for_each(("problem", "pins"), [(problem, pins) for problem, invalid in INVALID_PINS.items() for pins in invalid])
def test_invalid_pinned_keys_are_a_value_error(problem: str, pins: Any) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        TrustedKeys(pins)
