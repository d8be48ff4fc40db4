"""Verdicts signed with keys that are not pinned, and key sets that make these keys trusted, or try to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Callable

from kadun_conformance.crypto import changed
from kadun_conformance.forger import Forger, Reply, Vendor, verdict

if TYPE_CHECKING:
    from kadun_conformance.forger import Answer

Endorse = Callable[[Vendor], "list[Any]"]
Kid = Callable[[Vendor], str]


def by_newest(forger: Forger) -> Reply:
    """Send a verdict signed by the newest key, which only a chain of endorsements makes trusted."""
    return verdict(forger.token(key=forger.vendor.newest))


def _by_stranger(forger: Forger) -> Reply:
    return verdict(forger.token(key=forger.vendor.stranger))


# The endorsements in the key set. The verdict is signed by the stranger.
_ENDORSEMENTS: dict[str, Endorse] = {
    "key-set-own": lambda _v: [],
    "endorsed-by-stranger": lambda v: [v.stranger.endorse(v.stranger.jwk, header={"kid": v.current.kid})],
    "endorsed-by-other-pinned": lambda v: [v.chain[1].endorse(v.stranger.jwk, header={"kid": v.current.kid})],
    "endorsed-none": lambda v: [v.current.endorse(v.stranger.jwk, header={"alg": "none"}).rpartition(".")[0] + "."],
    "endorsed-typ-verdict": lambda v: [v.current.endorse(v.stranger.jwk, header={"typ": "verdict+jwt"})],
    "endorsed-iss": lambda v: [v.current.endorse(v.stranger.jwk, iss="another-server")],
    "endorsed-key-short": lambda v: [v.current.endorse(changed(v.stranger.jwk, {"x": "AA"}))],
    "endorsed-flood": lambda v: [v.stranger.endorse(v.stranger.jwk)] * 2_000,
}
# A key whose `kid` is not its thumbprint: the `kid`, under which the stranger also signs the verdict.
_KIDS: dict[str, Kid] = {"kid-no-thumbprint": lambda _v: "new-key", "kid-pinned-replaced": lambda v: v.current.kid}


def _backwards_among_strangers(forger: Forger) -> Reply:
    vendor = forger.vendor
    return forger.key_set([vendor.stranger.endorse(vendor.chain[2].jwk), *reversed(vendor.endorsements())])


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
    "chain-without-link": _serving(lambda v: [*v.endorsements()[:2], *v.endorsements()[3:]]),
    **{name: _serving(endorse) for name, endorse in _ENDORSEMENTS.items()},
    "key-set-without-endorsements": lambda f: Reply(200, json.dumps({"keys": [f.vendor.stranger.jwk]}).encode()),
    **{name: _renamed(kid) for name, kid in _KIDS.items()},
}
ANSWERS: dict[str, Answer] = {
    **dict.fromkeys(KEY_SETS, _by_stranger),
    **dict.fromkeys(["honest-rotated-backwards", "chain-without-link"], by_newest),
    **{name: _signed_as(kid) for name, kid in _KIDS.items()},
}
