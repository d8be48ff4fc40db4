"""Verdicts signed with keys that are not pinned, and key sets that make these keys trusted, or try to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Callable

from kadun_conformance.crypto import ABSENT, changed
from kadun_conformance.forger import Forger, Reply, Vendor, verdict

if TYPE_CHECKING:
    from kadun_conformance.forger import Answer

_FLOOD = 2_000
Endorse = Callable[[Vendor], "list[Any]"]
Kid = Callable[[Vendor], str]


def by_newest(forger: Forger) -> Reply:
    """Send a verdict signed by the newest key, which only a chain of endorsements makes trusted."""
    return verdict(forger.token(key=forger.vendor.newest))


def _by_stranger(forger: Forger) -> Reply:
    return verdict(forger.token(key=forger.vendor.stranger))


def _endorsed(**changes: Any) -> Endorse:  # noqa: ANN401 - any JSON
    """Endorse the stranger with a pinned key's genuine signature, changed on demand."""
    return lambda v: [v.current.endorse(v.stranger.jwk, **changes)]


def _twice_jwk(vendor: Vendor) -> list[Any]:
    first, second = json.dumps(vendor.chain[1].jwk), json.dumps(vendor.stranger.jwk)
    payload = f'{{"aud":"kadun-client","iat":1,"jwk":{first},"jwk":{second}}}'.encode()
    return [vendor.current.token(payload, header={"typ": "key+jwt"})]


def _unsigned(vendor: Vendor) -> list[Any]:
    claims = {"aud": "kadun-client", "iat": 1, "jwk": vendor.stranger.jwk}
    return [vendor.current.token(claims, header={"alg": "none", "typ": "key+jwt"}, sign=lambda _signed: b"")]


# The endorsements in the key set. The verdict is signed by the stranger.
_ENDORSEMENTS: dict[str, Endorse] = {
    "key-set-own": lambda _v: [],
    "endorsed-by-itself": lambda v: [v.stranger.endorse(v.stranger.jwk)],
    "endorsed-by-stranger": lambda v: [v.stranger.endorse(v.stranger.jwk, header={"kid": v.current.kid})],
    "endorsed-by-other-pinned": lambda v: [v.chain[1].endorse(v.stranger.jwk, header={"kid": v.current.kid})],
    "endorsed-none": _unsigned,
    "endorsed-typ-verdict": _endorsed(header={"typ": "verdict+jwt"}),
    "endorsed-crit": _endorsed(header={"crit": ["x"], "x": 1}),
    "endorsed-aud": _endorsed(aud="kadun-files"),
    "endorsed-iss": _endorsed(iss="another-server"),
    "endorsed-twice-jwk": _twice_jwk,
    "endorsed-padded": lambda v: [v.current.endorse(v.stranger.jwk) + "=="],
    "endorsed-key-absent": lambda v: [v.current.endorse(ABSENT)],
    "endorsed-key-short": lambda v: [v.current.endorse(changed(v.stranger.jwk, {"x": "AA"}))],
    "endorsed-flood": lambda v: [v.stranger.endorse(v.stranger.jwk)] * _FLOOD,
    "chain-then-forged": lambda v: [
        *v.endorsements(),
        v.stranger.endorse(v.stranger.jwk, header={"kid": v.newest.kid}),
    ],
}


def _broken_link(vendor: Vendor) -> list[Any]:
    """Forge the third of four links: signed by the stranger in the name of the key that should have signed."""
    links = vendor.endorsements()
    return [*links[:2], vendor.stranger.endorse(vendor.chain[3].jwk, header={"kid": vendor.chain[2].kid}), links[3]]


# The same, but the verdict is signed by the newest key of the chain.
_CHAINS: dict[str, Endorse] = {
    "chain-without-link": lambda v: [*v.endorsements()[:2], *v.endorsements()[3:]],
    "chain-broken-link": _broken_link,
}
# A key whose `kid` is not its thumbprint: the `kid`, under which the stranger also signs the verdict.
_KIDS: dict[str, Kid] = {
    "kid-no-thumbprint": lambda _v: "new-key",
    "kid-of-another": lambda v: v.newest.kid,
    "kid-pinned-replaced": lambda v: v.current.kid,
}


def _backwards_among_strangers(forger: Forger) -> Reply:
    """Serve the chain in reverse order, after an endorsement by an unknown key."""
    vendor = forger.vendor
    return forger.key_set([vendor.stranger.endorse(vendor.chain[2].jwk), *reversed(vendor.endorsements())])


def _former_name(forger: Forger) -> Reply:
    """Serve the chain with its issuer, after an endorsement that the server made when it had another name."""
    vendor = forger.vendor
    chain = [old.endorse(new.jwk, iss=vendor.issuer) for old, new in zip(vendor.chain, vendor.chain[1:])]
    return forger.key_set([vendor.current.endorse(vendor.chain[1].jwk, iss="a-former-name"), *chain])


def _renamed(kid: Kid) -> Answer:
    def key_set(forger: Forger) -> Reply:
        jwk = changed(forger.vendor.stranger.jwk, {"kid": kid(forger.vendor)})
        return forger.key_set([forger.vendor.current.endorse(jwk)], [jwk])

    return key_set


def _signed_as(kid: Kid) -> Answer:
    return lambda f: verdict(f.token(key=f.vendor.stranger, header={"kid": kid(f.vendor)}))


def _serving(endorse: Endorse) -> Answer:
    return lambda f: f.key_set(endorse(f.vendor), [f.vendor.stranger.jwk, f.vendor.newest.jwk])


KEY_SETS: dict[str, Answer] = {
    "honest-rotated-backwards": _backwards_among_strangers,
    "honest-rotated-former-name": _former_name,
    **{name: _serving(endorse) for name, endorse in {**_ENDORSEMENTS, **_CHAINS}.items()},
    "key-set-without-endorsements": lambda f: Reply(200, json.dumps({"keys": [f.vendor.stranger.jwk]}).encode()),
    **{name: _renamed(kid) for name, kid in _KIDS.items()},
}
ANSWERS: dict[str, Answer] = {
    **dict.fromkeys(KEY_SETS, _by_stranger),
    **dict.fromkeys(["honest-rotated-backwards", "honest-rotated-former-name", *_CHAINS], by_newest),
    **{name: _signed_as(kid) for name, kid in _KIDS.items()},
}
