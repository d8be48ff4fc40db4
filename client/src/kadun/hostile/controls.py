"""Honest answers. A client that refuses these is no good either, and its refusals of lies mean nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

import pyrage

from kadun.hostile.world import Forger, Reply, Scenario, World, key_set, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

_GROUP = "诚实 honest"
_HTTP_STATUS = {"CARD_NOT_FOUND": 404, "CLIENT_HAS_ANOTHER_CARD": 409}
_IN_2100 = 4_102_444_800


def _yes(**changes: Any) -> Callable[[Forger], Reply]:  # noqa: ANN401 - any JSON
    return lambda forger: verdict(forger.token(forger.claims(**changes)))


def _recorded_yes(forger: Forger) -> Reply:
    token = forger.token()
    forger.world.recorded.append(token)
    return verdict(token)


def _at(seconds: int) -> Callable[[Forger], Reply]:
    return _yes(iat=seconds, exp=seconds + 300, card_activated_at=seconds, card_expires_at=seconds + 86_400)


def _rotated(forger: Forger) -> Reply:
    return verdict(forger.token(key=forger.world.newest))


def _backwards_among_strangers(world: World) -> Reply:
    """The chain from its end, between endorsements by keys that nobody knows."""
    return key_set(world, [world.stranger.endorse(world.chain[2].jwk), *reversed(world.endorsements())])


def _several_identities(forger: Forger) -> Reply:
    other = str(pyrage.x25519.Identity.generate())
    key = f"# newest first\n{other}\r\n{forger.world.identity}\n"
    if forger.asks_sealed:
        return verdict(forger.token(forger.claims(KERNAL_DATA_KEY_SEALED=forger.sealed(key.encode()))))
    return verdict(forger.token(forger.claims(KERNAL_DATA_KEY=key)))


def _no(code: str) -> Callable[[Forger], Reply]:
    return lambda forger: verdict(forger.token(forger.no(code)), _HTTP_STATUS.get(code, 403), code)


_YES: dict[str, Callable[[Forger], Reply]] = {
    "honest": _recorded_yes,
    "honest-activated": _yes(activated=True),
    "honest-permanent": _yes(card_expires_at=None),
    "honest-1970": _at(86_400),
    "honest-2100": _at(_IN_2100),
    "honest-unknown-claim": _yes(news={"in": ["later", 1.5]}),
    "honest-brief": lambda f: verdict(f.token(f.claims(exp=f.world.now + 1))),
    "honest-next-key": lambda f: verdict(f.token(key=f.world.chain[1])),
    "honest-identities": _several_identities,
}
_NO = ("CARD_NOT_FOUND", "CARD_FROZEN", "CARD_EXPIRED", "CLIENT_MISMATCH", "CLIENT_HAS_ANOTHER_CARD", "NEW_REASON")


def controls() -> Iterator[Scenario]:
    """All of them; the first is the one that is recorded for replaying."""
    for name, answer in _YES.items():
        yield Scenario(name, _GROUP, answer, expects="opened", honest=True)
    for name, keys in (("honest-rotated", key_set), ("honest-rotated-backwards", _backwards_among_strangers)):
        yield Scenario(name, _GROUP, _rotated, keys, expects="opened", honest=True)
    for code in _NO:
        name = f"honest-no-{code.lower().replace('_', '-')}"
        yield Scenario(name, _GROUP, _no(code), expects="rejected", honest=True)
