"""Trusted keys: the pinned keys, and those that a chain of endorsements connects to them."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest
from kadun import Client, ServerUnreachable, UntrustedAnswer
from kadun.keys import LONGEST_ENDORSEMENT, TrustedKeys
from kadun.responses import Response
from kadun_conformance.crypto import ABSENT, changed

from tests.support.client.fake_server import REPORT, FakeServer, SigningKey, pinned
from tests.support.tables import for_each

MakeClient = Callable[..., Client]


@pytest.mark.parametrize("rotations", [1, 2, 3, 4, 5])
def test_a_key_is_learned_after_any_number_of_rotations(rotations: int, client: Client, server: FakeServer) -> None:
    server.rotate(rotations)
    assert client.open().accepted
    assert server.paths == ["/v1/verify", "/.well-known/jwks.json"]


def test_a_learned_key_is_remembered(client: Client, server: FakeServer) -> None:
    server.rotate(2)
    client.open()
    client.report(REPORT)
    assert server.paths.count("/.well-known/jwks.json") == 1


def test_the_order_of_the_endorsements_does_not_matter(client: Client, server: FakeServer) -> None:
    server.rotate(5)
    random.Random(5).shuffle(server.endorsements)  # noqa: S311 - a fixed order, not a secret
    assert client.open().accepted


def test_a_pinned_key_in_the_middle_of_the_chain_is_enough(make_client: MakeClient, server: FakeServer) -> None:
    server.rotate(2)
    middle = server.key
    server.rotate(2)
    assert make_client(public_keys=pinned(middle)).open().accepted


def test_a_newer_pinned_key_does_not_make_older_keys_trusted(
    make_client: MakeClient, server: FakeServer, signing_key: SigningKey
) -> None:
    server.rotate(2)
    newest, server.key = server.key, signing_key
    with pytest.raises(UntrustedAnswer, match="neither pinned nor endorsed"):
        make_client(public_keys=pinned(newest)).open()


def test_an_endorsement_may_omit_the_issuer_and_be_repeated(
    client: Client, server: FakeServer, signing_key: SigningKey
) -> None:
    server.key = SigningKey()
    without_issuer, with_issuer = (signing_key.endorse(server.key.jwk, **more) for more in ({}, {"iss": "kadun"}))
    server.endorsements = [without_issuer, with_issuer]
    assert client.open().accepted


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_chain_with_a_gap_is_not_trusted(missing: int, client: Client, server: FakeServer) -> None:
    server.rotate(3)
    del server.endorsements[missing]
    with pytest.raises(UntrustedAnswer, match="neither pinned nor endorsed"):
        client.open()


# The other forged endorsements are cases of the conformance kit; these checks go beyond the protocol.
@pytest.mark.parametrize(
    ("endorsement", "problem"),
    [
        (lambda old, new: old.endorse({**new.jwk, "use": "enc"}), "not for EdDSA"),
        (lambda old, new: old.endorse({**new.jwk, "alg": "ES256"}), "not for EdDSA"),
    ],
)
def test_an_endorsement_of_a_key_for_another_use_is_refused(
    endorsement: Callable[[SigningKey, SigningKey], str],
    problem: str,
    client: Client,
    server: FakeServer,
    signing_key: SigningKey,
) -> None:
    server.key = SigningKey()
    server.endorsements = [endorsement(signing_key, server.key)]
    with pytest.raises(UntrustedAnswer, match=problem):
        client.open()


def test_a_key_without_use_and_alg_is_accepted(client: Client, server: FakeServer, signing_key: SigningKey) -> None:
    server.key = SigningKey()
    server.endorsements = [signing_key.endorse(changed(server.key.jwk, {"use": ABSENT, "alg": ABSENT}))]
    assert client.open().accepted


def test_keys_learned_before_an_invalid_endorsement_stay(signing_key: SigningKey) -> None:
    keys, new = TrustedKeys(pinned(signing_key)), SigningKey()
    genuine = signing_key.endorse(new.jwk)
    with pytest.raises(UntrustedAnswer, match="typ"):
        keys.add_endorsed([genuine, new.endorse(SigningKey().jwk, header={"typ": "JWT"})])
    assert new.kid in keys
    assert keys.endorsements == (genuine,)


def test_an_endorsement_of_the_longest_length_counts(signing_key: SigningKey) -> None:
    keys, new = TrustedKeys(pinned(signing_key)), SigningKey()
    made = [
        signing_key.endorse(new.jwk, header={"pad": "x" * more}, pad="x" * size)
        for more in (0, 1)
        for size in range(1200)
    ]
    endorsements = {len(endorsement): endorsement for endorsement in made}
    keys.add_endorsed([endorsements[LONGEST_ENDORSEMENT + 1]])
    assert new.kid not in keys
    keys.add_endorsed([endorsements[LONGEST_ENDORSEMENT]])
    assert new.kid in keys


WAIT_SECONDS = 0.3  # for a step of another thread, which the lock must prevent


def test_two_threads_that_learn_at_once_both_learn_the_whole_chain(
    server: FakeServer, signing_key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lock the second thread sees the first new key as known, and does not go on from it."""
    server.rotate(2)
    keys, newest = TrustedKeys(pinned(signing_key)), server.key.kid
    both, one_is_done = threading.Barrier(2), threading.Event()
    trusted: list[bool] = []
    genuine = TrustedKeys._endorsed  # noqa: SLF001 - where the threads meet

    def meet(self: TrustedKeys, endorsement: str, endorser: Any) -> Mapping[str, Any] | None:
        if endorsement == server.endorsements[0]:
            with suppress(threading.BrokenBarrierError):
                both.wait(WAIT_SECONDS)
        else:
            one_is_done.wait(WAIT_SECONDS)
        return genuine(self, endorsement, endorser)

    def learn() -> None:
        keys.add_endorsed(server.endorsements)
        trusted.append(newest in keys)
        one_is_done.set()

    monkeypatch.setattr(TrustedKeys, "_endorsed", meet)
    threads = [threading.Thread(target=learn) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trusted == [True, True]


def test_a_key_is_judged_while_another_thread_learns(server: FakeServer, signing_key: SigningKey) -> None:
    keys = TrustedKeys(pinned(signing_key))
    server.rotate(3)
    keys.add_endorsed(server.endorsements[:2])
    keys.saw(signing_key.kid, 0)
    _, second = next(iter(keys.steps))
    learner = threading.Thread(target=keys.add_endorsed, args=(server.endorsements,))

    class Steps(dict[Any, str]):
        def __iter__(self) -> Iterator[Any]:
            for step in super().__iter__():
                if not learner.ident:
                    learner.start()
                    learner.join(WAIT_SECONDS)
                yield step

    keys._endorsements = Steps(keys._endorsements)  # noqa: SLF001 - no other way to be in the middle of it
    assert second in keys
    learner.join()
    assert server.key.kid in keys


@pytest.mark.parametrize("key_set", [Response(302, b""), Response(404, b'{"code": "NOT_FOUND"}')])
def test_a_response_that_is_not_a_key_set_is_untrusted(key_set: Response, client: Client, server: FakeServer) -> None:
    server.key, server.key_set = SigningKey(), key_set
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


def keys_of(key: SigningKey, **changes: Any) -> dict[str, Any]:
    return {"iss": "kadun", "keys": [{**key.jwk, **changes}]}


NO_OBJECT = "public_keys is not a JSON object"
NOT_EXPORTED = 'public_keys must be {"iss": …, "keys": […]}, as `cardctl key export` prints it'
NOT_ED25519 = "public_keys: a key is not an Ed25519 key"


@for_each(
    ("spoil", "problem"),
    [
        (lambda _key: "no JSON", NO_OBJECT),
        (lambda _key: "\ud800", NO_OBJECT),
        (lambda _key: "[]", NO_OBJECT),
        (lambda key: {"keys": [key.jwk]}, NOT_EXPORTED),
        (lambda key: {"iss": "", "keys": [key.jwk]}, NOT_EXPORTED),
        (lambda _key: {"iss": "kadun", "keys": []}, NOT_EXPORTED),
        (lambda _key: {"iss": "kadun", "keys": {}}, NOT_EXPORTED),
        (lambda _key: {"iss": "kadun", "keys": ["key"]}, NOT_ED25519),
        (lambda key: keys_of(key, kty="EC"), NOT_ED25519),
        (lambda key: keys_of(key, crv="Ed448"), NOT_ED25519),
        (lambda key: keys_of(key, x=1), NOT_ED25519),
        (lambda key: keys_of(key, x="AAAA"), NOT_ED25519),
        (lambda key: keys_of(key, x="="), "public_keys: a key is not canonical base64url"),
        (lambda key: keys_of(key, kid="mine"), "public_keys: the kid of a key is not its thumbprint"),
        (lambda key: keys_of(key, alg="ES256"), "public_keys: a key is not for EdDSA signatures"),
        (lambda key: keys_of(key, use="enc"), "public_keys: a key is not for EdDSA signatures"),
        (
            lambda key: keys_of(key, d="A" * 43),
            "public_keys contains a PRIVATE key; never ship that: use `cardctl key export`",
        ),
    ],
)
def test_invalid_pinned_keys_are_a_value_error(
    spoil: Callable[[SigningKey], Any], problem: str, signing_key: SigningKey
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        TrustedKeys(spoil(signing_key))
