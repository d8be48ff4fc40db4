"""Genuine responses: a client that refuses these does not work, and its refusals prove nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyrage

from kadun_conformance.case import by_newest, with_claims
from kadun_conformance.forger import Forger, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kadun_conformance.case import Answer
    from kadun_conformance.forger import Reply

_NO_CHANGES: Mapping[str, str] = {}
_IN_2100 = 4_102_444_800
_UPDATE = {"latest_version": "1.10", "update_url": "https://example.com/下载?v=1.10"}


def _accepted(**changes: Any) -> Answer:  # noqa: ANN401 - any JSON
    return with_claims(lambda _forger: changes)


def _at(seconds: int) -> Answer:
    return _accepted(iat=seconds, exp=seconds + 300, card_activated_at=seconds, card_expires_at=seconds + 86_400)


def _recorded(forger: Forger) -> Reply:
    token = forger.token()
    forger.vendor.recorded.append(token)
    return verdict(token)


def _several_identities(forger: Forger) -> Reply:
    other = str(pyrage.x25519.Identity.generate())
    key = f"# newest first\n{other}\r\n{forger.vendor.identity}\n"
    if forger.wants_sealed:
        return verdict(forger.token(forger.claims(KERNAL_DATA_KEY_SEALED=forger.sealed(key.encode()))))
    return verdict(forger.token(forger.claims(KERNAL_DATA_KEY=key)))


def _backwards_among_strangers(forger: Forger) -> Reply:
    """Serve the chain in reverse order, after an endorsement by an unknown key."""
    vendor = forger.vendor
    return forger.key_set([vendor.stranger.endorse(vendor.chain[2].jwk), *reversed(vendor.endorsements())])


def _former_name(forger: Forger) -> Reply:
    """Serve the chain with its issuer, after an endorsement that the server made when it had another name."""
    vendor = forger.vendor
    chain = [old.endorse(new.jwk, iss=vendor.issuer) for old, new in zip(vendor.chain, vendor.chain[1:])]
    return forger.key_set([vendor.current.endorse(vendor.chain[1].jwk, iss="a-former-name"), *chain])


def _rejected(code: str, status: int = 403, changes: Mapping[str, str] = _NO_CHANGES) -> Answer:
    return lambda forger: verdict(forger.token(forger.rejection(code, **changes)), status, code)


ANSWERS: dict[str, Answer] = {
    "honest": _recorded,
    "honest-activated": _accepted(activated=True),
    "honest-permanent": _accepted(card_expires_at=None),
    "honest-1970": _at(86_400),
    "honest-2100": _at(_IN_2100),
    "honest-request-digest": _accepted(),
    "honest-notice": _accepted(notice="今晚 22:00 维护\nMaintenance at 22:00", **_UPDATE),
    "honest-unknown-claim": _accepted(news={"in": ["later", 1.5]}),
    "honest-brief": with_claims(lambda f: {"exp": f.vendor.now + 1}),
    "honest-next-key": lambda f: verdict(f.token(key=f.vendor.chain[1])),
    "honest-identities": _several_identities,
    "honest-rotated": by_newest,
    "honest-rotated-backwards": by_newest,
    "honest-rotated-former-name": by_newest,
    "honest-no-card-not-found": _rejected("CARD_NOT_FOUND", 404),
    "honest-no-card-frozen": _rejected("CARD_FROZEN"),
    "honest-no-card-expired": _rejected("CARD_EXPIRED"),
    "honest-no-client-mismatch": _rejected("CLIENT_MISMATCH"),
    "honest-no-client-has-another-card": _rejected("CLIENT_HAS_ANOTHER_CARD", 409),
    "honest-no-card-spent": _rejected("CARD_SPENT"),
    "honest-no-client-blocked": _rejected("CLIENT_BLOCKED"),
    "honest-no-too-many-changes": _rejected("TOO_MANY_CHANGES"),
    "honest-no-update-required": _rejected("UPDATE_REQUIRED", changes=_UPDATE),
    "honest-no-update-unnamed": _rejected("UPDATE_REQUIRED"),
    "honest-no-new-reason": _rejected("NEW_REASON"),
}
KEY_SETS: dict[str, Answer] = {
    "honest-rotated": Forger.key_set,
    "honest-rotated-backwards": _backwards_among_strangers,
    "honest-rotated-former-name": _former_name,
}
