"""Verdicts by keys that nobody pinned, beside key sets and endorsements that try to make them trusted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Callable

from kadun.hostile.forging import ABSENT, SigningKey, by_secret, changed, compact
from kadun.hostile.world import Forger, Reply, Scenario, World, key_set, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

_GROUP = "密钥 keys"
_FLOOD = 2_000
Endorse = Callable[[World], "list[Any]"]


def _by_stranger(forger: Forger) -> Reply:
    return verdict(forger.token(key=forger.world.stranger))


def _by_newest(forger: Forger) -> Reply:
    return verdict(forger.token(key=forger.world.newest))


def _vouched(**changes: Any) -> Endorse:  # noqa: ANN401 - any JSON
    """An endorsement with the genuine signature of a pinned key, changed as told."""
    return lambda world: [world.current.endorse(world.stranger.jwk, **changes)]


def _forged_by(signer: Callable[[World], SigningKey]) -> Endorse:
    """An endorsement in the pinned key's name, by another."""
    return lambda world: [signer(world).endorse(world.stranger.jwk, header={"kid": world.current.kid})]


def _unsigned(alg: str) -> Endorse:
    def endorse(world: World) -> list[Any]:
        header = {"alg": alg, "typ": "key+jwt", "kid": world.current.kid}
        return [compact(header, {"aud": "kadun-client", "iat": 1, "jwk": world.stranger.jwk}, lambda _signed: b"")]

    return endorse


def _hs256(world: World) -> list[Any]:
    header = {"alg": "HS256", "typ": "key+jwt", "kid": world.current.kid}
    claims = {"aud": "kadun-client", "iat": 1, "jwk": world.stranger.jwk}
    return [compact(header, claims, by_secret(world.current.raw, "sha256"))]


def _in_a_circle(world: World) -> list[Any]:
    return [world.stranger.endorse(world.newest.jwk), world.newest.endorse(world.stranger.jwk)]


def _flood(world: World) -> list[Any]:
    return [world.stranger.endorse(world.stranger.jwk)] * _FLOOD


def _without_link(world: World) -> list[Any]:
    return [*world.endorsements()[:2], *world.endorsements()[3:]]


def _broken_link(world: World) -> list[Any]:
    """The third of four links by the stranger, in the name of the key that should have signed."""
    forged = world.stranger.endorse(world.chain[3].jwk, header={"kid": world.chain[2].kid})
    return [*world.endorsements()[:2], forged, world.endorsements()[3]]


def _cut_link(world: World) -> list[Any]:
    links = world.endorsements()
    return [*links[:2], links[2][:-2], links[3]]


def _honest_chain_and_a_forged_end(world: World) -> list[Any]:
    return [*world.endorsements(), world.stranger.endorse(world.stranger.jwk, header={"kid": world.newest.kid})]


def _respelled(spell: Callable[[str], Any]) -> Endorse:
    return lambda world: [spell(world.current.endorse(world.stranger.jwk))]


def _twice_typ(world: World) -> list[Any]:
    header = f'{{"alg":"EdDSA","typ":"verdict+jwt","typ":"key+jwt","kid":"{world.current.kid}"}}'.encode()
    return [compact(header, {"aud": "kadun-client", "iat": 1, "jwk": world.stranger.jwk}, world.current.sign)]


def _twice_jwk(world: World) -> list[Any]:
    first, second = json.dumps(world.chain[1].jwk), json.dumps(world.stranger.jwk)
    payload = f'{{"aud":"kadun-client","iat":1,"jwk":{first},"jwk":{second}}}'.encode()
    header = {"alg": "EdDSA", "typ": "key+jwt", "kid": world.current.kid}
    return [compact(header, payload, world.current.sign)]


_CHAINS: dict[str, Endorse] = {
    "key-set-own": lambda _w: [],
    "endorsed-by-itself": lambda w: [w.stranger.endorse(w.stranger.jwk)],
    "endorsed-by-stranger": _forged_by(lambda w: w.stranger),
    "endorsed-by-other-pinned": _forged_by(lambda w: w.chain[1]),
    "endorsed-in-a-circle": _in_a_circle,
    "endorsed-unsigned": _unsigned("EdDSA"),
    "endorsed-none": _unsigned("none"),
    "endorsed-hs256": _hs256,
    "endorsed-typ-verdict": _vouched(header={"typ": "verdict+jwt"}),
    "endorsed-typ-absent": _vouched(header={"typ": ABSENT}),
    "endorsed-typ-jwt": _vouched(header={"typ": "JWT"}),
    "endorsed-crit": _vouched(header={"crit": ["x"], "x": 1}),
    "endorsed-aud": _vouched(aud="kadun-files"),
    "endorsed-aud-absent": _vouched(aud=ABSENT),
    "endorsed-aud-list": _vouched(aud=["kadun-client", "x"]),
    "endorsed-twice-typ": _twice_typ,
    "endorsed-twice-jwk": _twice_jwk,
    "endorsed-padded": _respelled(lambda t: t + "=="),
    "endorsed-newline": _respelled(lambda t: t + "\n"),
    "endorsed-cut": _respelled(lambda t: t[:-1]),
    "endorsed-object": lambda w: [w.stranger.jwk],
    "endorsed-flood": _flood,
}


_BROKEN: dict[str, Endorse] = {
    "chain-without-link": _without_link,
    "chain-broken-link": _broken_link,
    "chain-cut-link": _cut_link,
    "chain-absent": lambda _w: [],
}


def _renamed(name: str, kid: Callable[[World], str]) -> Scenario:
    """A key that a pinned one endorses under a name that is not its thumbprint."""

    def keys(world: World) -> Reply:
        jwk = changed(world.stranger.jwk, {"kid": kid(world)})
        return key_set(world, [world.current.endorse(jwk)], [jwk])

    def answer(forger: Forger) -> Reply:
        return verdict(forger.token(key=forger.world.stranger, header={"kid": kid(forger.world)}))

    return Scenario(name, _GROUP, answer, keys)


def _pinned_kid_in_the_set(world: World) -> Reply:
    """The stranger's key under the pinned key's kid, for clients that let the set replace what they pinned."""
    taken = changed(world.stranger.jwk, {"kid": world.current.kid})
    return key_set(world, [world.current.endorse(taken)], [taken])


def _in_the_pinned_name(forger: Forger) -> Reply:
    return verdict(forger.token(key=forger.world.stranger, header={"kid": forger.world.current.kid}))


def _document(**members: Any) -> Reply:  # noqa: ANN401 - any JSON
    return Reply(200, json.dumps(members).encode())


_SETS: dict[str, Callable[[World], Reply]] = {
    "key-set-without-endorsements": lambda world: _document(keys=[world.stranger.jwk]),
    "key-set-endorsements-object": lambda world: _document(endorsements={world.stranger.kid: world.stranger.jwk}),
    "key-set-issuer": lambda world: _document(iss=world.issuer, keys=[world.stranger.jwk], endorsements=[]),
    "key-set-html": lambda _world: Reply(200, b"<html>Welcome</html>", {"Content-Type": "text/html"}),
    "key-set-empty": lambda _world: Reply(200, b""),
    "key-set-404": lambda _world: Reply(404, b'{"code":"NOT_FOUND"}'),
}


def lies() -> Iterator[Scenario]:
    """All of them."""
    for name, endorse in _CHAINS.items():
        yield Scenario(name, _GROUP, _by_stranger, _serving(endorse))
    for name, endorse in _BROKEN.items():
        yield Scenario(name, _GROUP, _by_newest, _serving(endorse))
    for name, keys in _SETS.items():
        yield Scenario(name, _GROUP, _by_stranger, keys)
    forged_end = _serving(_honest_chain_and_a_forged_end)
    yield Scenario("chain-then-forged", _GROUP, _by_stranger, forged_end)
    yield _renamed("kid-no-thumbprint", lambda _world: "new-key")
    yield _renamed("kid-of-another", lambda world: world.newest.kid)
    yield Scenario("kid-pinned-replaced", _GROUP, _in_the_pinned_name, _pinned_kid_in_the_set)


def _serving(endorse: Endorse) -> Callable[[World], Reply]:
    return lambda world: key_set(world, endorse(world), [world.stranger.jwk, world.newest.jwk])
