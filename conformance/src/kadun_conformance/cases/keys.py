"""Verdicts signed with keys that are not pinned, and key sets that try to make these keys trusted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Callable

from kadun_conformance.case import by_newest, by_stranger
from kadun_conformance.crypto import ABSENT, SigningKey, changed, compact, hmac_signer
from kadun_conformance.forger import Forger, Reply, Vendor, verdict

if TYPE_CHECKING:
    from kadun_conformance.case import Answer

_FLOOD = 2_000
Endorse = Callable[[Vendor], "list[Any]"]
Kid = Callable[[Vendor], str]


def _endorsed(**changes: Any) -> Endorse:  # noqa: ANN401 - any JSON
    """Endorse the stranger with a pinned key's genuine signature, changed on demand."""
    return lambda vendor: [vendor.current.endorse(vendor.stranger.jwk, **changes)]


def _endorsed_key(**changes: Any) -> Endorse:  # noqa: ANN401 - any JSON
    """Endorse a changed JWK with a pinned key's genuine signature."""
    return lambda vendor: [vendor.current.endorse(changed(vendor.stranger.jwk, changes))]


def _endorsed_in_current_name(signer: Callable[[Vendor], SigningKey]) -> Endorse:
    return lambda vendor: [signer(vendor).endorse(vendor.stranger.jwk, header={"kid": vendor.current.kid})]


def _unsigned(alg: str, secret: Callable[[SigningKey], bytes] | None = None) -> Endorse:
    """Endorse without a signature, or with an HMAC over a secret that everybody knows."""

    def endorse(vendor: Vendor) -> list[Any]:
        header = {"alg": alg, "typ": "key+jwt", "kid": vendor.current.kid}
        claims = {"aud": "kadun-client", "iat": 1, "jwk": vendor.stranger.jwk}
        sign = hmac_signer(secret(vendor.current), "sha256") if secret else lambda _signed: b""
        return [compact(header, claims, sign)]

    return endorse


def _respelled(spell: Callable[[str], str]) -> Endorse:
    return lambda vendor: [spell(vendor.current.endorse(vendor.stranger.jwk))]


def _twice_typ(vendor: Vendor) -> list[Any]:
    header = f'{{"alg":"EdDSA","typ":"verdict+jwt","typ":"key+jwt","kid":"{vendor.current.kid}"}}'.encode()
    return [compact(header, {"aud": "kadun-client", "iat": 1, "jwk": vendor.stranger.jwk}, vendor.current.sign)]


def _twice_jwk(vendor: Vendor) -> list[Any]:
    first, second = json.dumps(vendor.chain[1].jwk), json.dumps(vendor.stranger.jwk)
    payload = f'{{"aud":"kadun-client","iat":1,"jwk":{first},"jwk":{second}}}'.encode()
    header = {"alg": "EdDSA", "typ": "key+jwt", "kid": vendor.current.kid}
    return [compact(header, payload, vendor.current.sign)]


# The endorsements in the key set. The verdict is signed by the stranger.
_ENDORSEMENTS: dict[str, Endorse] = {
    "key-set-own": lambda _v: [],
    "endorsed-by-itself": lambda v: [v.stranger.endorse(v.stranger.jwk)],
    "endorsed-in-a-circle": lambda v: [v.stranger.endorse(v.newest.jwk), v.newest.endorse(v.stranger.jwk)],
    "endorsed-by-stranger": _endorsed_in_current_name(lambda v: v.stranger),
    "endorsed-by-other-pinned": _endorsed_in_current_name(lambda v: v.chain[1]),
    "endorsed-unsigned": _unsigned("EdDSA"),
    "endorsed-none": _unsigned("none"),
    "endorsed-hs256": _unsigned("HS256", lambda key: key.raw),
    "endorsed-typ-verdict": _endorsed(header={"typ": "verdict+jwt"}),
    "endorsed-typ-absent": _endorsed(header={"typ": ABSENT}),
    "endorsed-typ-jwt": _endorsed(header={"typ": "JWT"}),
    "endorsed-crit": _endorsed(header={"crit": ["x"], "x": 1}),
    "endorsed-aud": _endorsed(aud="kadun-files"),
    "endorsed-aud-absent": _endorsed(aud=ABSENT),
    "endorsed-aud-list": _endorsed(aud=["kadun-client", "x"]),
    "endorsed-iss": _endorsed(iss="another-server"),
    "endorsed-twice-typ": _twice_typ,
    "endorsed-twice-jwk": _twice_jwk,
    "endorsed-padded": _respelled(lambda t: t + "=="),
    "endorsed-newline": _respelled(lambda t: t + "\n"),
    "endorsed-cut": _respelled(lambda t: t[:-1]),
    "endorsed-flood": lambda v: [v.stranger.endorse(v.stranger.jwk)] * _FLOOD,
    "chain-then-forged": lambda v: [
        *v.endorsements(),
        v.stranger.endorse(v.stranger.jwk, header={"kid": v.newest.kid}),
    ],
    "endorsed-object": lambda v: [v.stranger.jwk],
    "endorsed-text": lambda _v: ["endorsed"],
    "endorsed-key-absent": lambda v: [v.current.endorse(ABSENT)],
    "endorsed-key-text": lambda v: [v.current.endorse(v.stranger.raw.hex())],
    "endorsed-key-short": _endorsed_key(x="AA"),
    "endorsed-key-curve": _endorsed_key(crv="X25519"),
    "endorsed-key-without-x": _endorsed_key(x=ABSENT),
    "endorsed-key-without-kid": _endorsed_key(kid=ABSENT),
}


def _broken_link(vendor: Vendor) -> list[Any]:
    """Forge the third of four links: signed by the stranger in the name of the key that should have signed."""
    links = vendor.endorsements()
    return [*links[:2], vendor.stranger.endorse(vendor.chain[3].jwk, header={"kid": vendor.chain[2].kid}), links[3]]


def _cut_link(vendor: Vendor) -> list[Any]:
    links = vendor.endorsements()
    return [*links[:2], links[2][:-2], links[3]]


# The same, but the verdict is signed by the newest key of the chain.
_CHAINS: dict[str, Endorse] = {
    "chain-without-link": lambda v: [*v.endorsements()[:2], *v.endorsements()[3:]],
    "chain-absent": lambda _v: [],
    "chain-broken-link": _broken_link,
    "chain-cut-link": _cut_link,
}


def _document(**members: Any) -> Reply:  # noqa: ANN401 - any JSON
    return Reply(200, json.dumps(members).encode())


# Whole key sets. The verdict is signed by the stranger.
_SETS: dict[str, Answer] = {
    "key-set-without-endorsements": lambda f: _document(keys=[f.vendor.stranger.jwk]),
    "key-set-endorsements-object": lambda f: _document(endorsements={f.vendor.stranger.kid: f.vendor.stranger.jwk}),
    "key-set-html": lambda _f: Reply(200, b"<html>Welcome</html>", {"Content-Type": "text/html"}),
    "key-set-empty": lambda _f: Reply(200, b""),
    "key-set-404": lambda _f: Reply(404, b'{"code":"NOT_FOUND"}'),
    "key-set-issuer": lambda f: _document(iss=f.vendor.issuer, keys=[f.vendor.stranger.jwk], endorsements=[]),
}


def _renamed(kid: Kid) -> Answer:
    """Serve a key set that endorses the stranger's key under a `kid` that is not its thumbprint."""

    def key_set(forger: Forger) -> Reply:
        jwk = changed(forger.vendor.stranger.jwk, {"kid": kid(forger.vendor)})
        return forger.key_set([forger.vendor.current.endorse(jwk)], [jwk])

    return key_set


def _signed_as(kid: Kid) -> Answer:
    return lambda forger: verdict(forger.token(key=forger.vendor.stranger, header={"kid": kid(forger.vendor)}))


# A key whose `kid` is not its thumbprint: the `kid`, under which the stranger also signs the verdict.
_KIDS: dict[str, Kid] = {
    "kid-no-thumbprint": lambda _vendor: "new-key",
    "kid-of-another": lambda vendor: vendor.newest.kid,
    "kid-pinned-replaced": lambda vendor: vendor.current.kid,
}


def _serving(endorse: Endorse) -> Answer:
    return lambda f: f.key_set(endorse(f.vendor), [f.vendor.stranger.jwk, f.vendor.newest.jwk])


ANSWERS: dict[str, Answer] = {
    **dict.fromkeys([*_ENDORSEMENTS, *_SETS], by_stranger),
    **dict.fromkeys(_CHAINS, by_newest),
    **{name: _signed_as(kid) for name, kid in _KIDS.items()},
}
KEY_SETS: dict[str, Answer] = {
    **{name: _serving(endorse) for name, endorse in {**_ENDORSEMENTS, **_CHAINS}.items()},
    **_SETS,
    **{name: _renamed(kid) for name, kid in _KIDS.items()},
}
