"""Tokens with a genuine signature: genuine ones, and those that answer another request or contradict themselves."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Callable

import pyrage

from kadun_conformance.crypto import ABSENT, x25519_public_key
from kadun_conformance.forger import LIFETIME_SECONDS, Forger, Reply, verdict

if TYPE_CHECKING:
    from kadun_conformance.forger import Answer

_OTHER = hashlib.sha256(b"other").hexdigest()
_UPDATE = {"latest_version": "1.10", "update_url": "https://example.com/下载?v=1.10"}


def _at(seconds: int) -> Answer:
    dates = {"iat": seconds, "exp": seconds + 300, "card_activated_at": seconds, "card_expires_at": seconds + 86_400}
    return lambda f: f.accept(**dates)


def _recorded(forger: Forger) -> Reply:
    token = forger.token()
    forger.vendor.recorded.append(token)
    return verdict(token)


def _several_identities(forger: Forger) -> Reply:
    key = f"# newest first\n{pyrage.x25519.Identity.generate()}\r\n{forger.vendor.identity}\n"
    return forger.accept(KERNAL_DATA_KEY_SEALED=forger.sealed(key.encode()))


def _replayed(forger: Forger) -> Reply:
    return verdict(forger.vendor.recorded[0]) if forger.vendor.recorded else forger.accept(nonce="A" * 32)


def _second_try(forger: Forger) -> Reply:
    """Fail the first try, and answer the second with what would have been right for the first."""
    if forger.earlier is None:
        busy = b'{"type":"about:blank","title":"Busy","status":503,"code":"UNAVAILABLE"}'
        return Reply(503, busy, {"Content-Type": "application/problem+json", "Retry-After": "0"})
    return Forger(forger.vendor, forger.earlier).accept()


def _append(members: bytes, **changes: Any) -> Answer:  # noqa: ANN401 - any JSON
    """Append members to the payload, so that a name occurs twice."""

    def answer(forger: Forger) -> Reply:
        payload = json.dumps(forger.claims(**changes)).encode()
        return verdict(forger.token(payload[:-1] + b"," + members + b"}"))

    return answer


def _rejection_with_key(forger: Forger) -> Reply:
    sealed = {"KERNAL_DATA_KEY_SEALED": forger.claims()["KERNAL_DATA_KEY_SEALED"]}
    return verdict(forger.token(forger.rejection("CARD_FROZEN", **sealed)))


def _sealed(**changes: Any) -> Answer:  # noqa: ANN401 - see seal
    return lambda f: f.accept(KERNAL_DATA_KEY_SEALED=f.sealed(**changes))


def _part(number: int, spell: Callable[[str], str]) -> Answer:
    def answer(forger: Forger) -> Reply:
        parts = forger.sealed().split(".")
        parts[number] = spell(parts[number])
        return forger.accept(KERNAL_DATA_KEY_SEALED=".".join(parts))

    return answer


ANSWERS: dict[str, Answer] = {
    "honest": _recorded,
    "honest-permanent": lambda f: f.accept(card_expires_at=None),
    "honest-1970": _at(86_400),
    "honest-request-digest": lambda f: f.accept(),
    "honest-notice": lambda f: f.accept(notice="今晚 22:00 维护\nMaintenance at 22:00", **_UPDATE),
    "honest-unknown-claim": lambda f: f.accept(news={"in": ["later", 1.5]}),
    "honest-brief": lambda f: f.accept(exp=f.vendor.now + 1),
    "honest-next-key": lambda f: verdict(f.token(key=f.vendor.chain[1])),
    "honest-identities": _several_identities,
    "honest-no-card-frozen": lambda f: f.reject("CARD_FROZEN"),
    "honest-no-card-expired": lambda f: f.reject("CARD_EXPIRED"),
    "honest-no-update-required": lambda f: f.reject("UPDATE_REQUIRED", **_UPDATE),
    "honest-no-new-reason": lambda f: f.reject("NEW_REASON"),
    "nonce-other": lambda f: f.accept(nonce="A" * 32),
    "nonce-absent": lambda f: f.accept(nonce=ABSENT),
    "nonce-prefix": lambda f: f.accept(nonce=f.request["nonce"][:8]),
    "nonce-list": lambda f: f.accept(nonce=[f.request["nonce"], "A" * 32]),
    "nonce-name-case": lambda f: f.accept(nonce=ABSENT, Nonce=f.request["nonce"]),
    "sub-other": lambda f: f.accept(sub="Z" * 32),
    "sub-case": lambda f: f.accept(sub=f.request["card_id"].swapcase()),
    "function-other": lambda f: f.accept(function="导出报表"),
    "hardware-other": lambda f: f.accept(hardware_sha256=_OTHER),
    "hardware-absent": lambda f: f.accept(hardware_sha256=ABSENT),
    "request-other": lambda f: f.accept(request_sha256=_OTHER),
    "aud-other": lambda f: f.accept(aud="kadun-files"),
    "aud-absent": lambda f: f.accept(aud=ABSENT),
    "aud-list": lambda f: f.accept(aud=["kadun-client", "kadun-files"]),
    "iss-other": lambda f: f.accept(iss="other"),
    "iss-absent": lambda f: f.accept(iss=ABSENT),
    "exp-is-iat": lambda f: f.accept(exp=f.vendor.now),
    "exp-301": lambda f: f.accept(exp=f.vendor.now + LIFETIME_SECONDS + 1),
    "exp-absent": lambda f: f.accept(exp=ABSENT),
    "iat-true": lambda f: f.accept(iat=False, exp=True),
    "exp-nan": lambda f: f.accept(exp=float("nan")),
    "accepted-false": lambda f: f.accept(accepted=False),
    "accepted-text-false": lambda f: f.accept(accepted="false"),
    "accepted-1": lambda f: f.accept(accepted=1),
    "accepted-absent": lambda f: f.accept(accepted=ABSENT),
    "code-frozen": lambda f: f.accept(code="CARD_FROZEN"),
    "code-case": lambda f: f.accept(code="ok"),
    "replayed": _replayed,
    "replayed-first-try": _second_try,
    "twice-no-then-yes": _append(b'"code":"OK","accepted":true', accepted=False, code="CARD_FROZEN"),
    "twice-escaped": _append(b'"\\u0063ode":"OK"'),
    "no-with-key": _rejection_with_key,
    "no-said-as-yes": lambda f: verdict(f.token(f.rejection("CARD_EXPIRED"))),
    "no-nonce-other": lambda f: f.reject("CARD_FROZEN", nonce="A" * 32),
    "key-clear": lambda f: f.accept(KERNAL_DATA_KEY=f.vendor.identity, KERNAL_DATA_KEY_SEALED=ABSENT),
    "key-clear-beside": lambda f: f.accept(KERNAL_DATA_KEY=f.vendor.identity),
    "sealed-absent": lambda f: f.accept(KERNAL_DATA_KEY_SEALED=ABSENT),
    "sealed-six-parts": _part(4, lambda t: t + ".AAAA"),
    "sealed-encrypted-key": _part(1, lambda _t: "AAAA"),
    "sealed-padded": _part(4, lambda t: t + "=="),
    "sealed-enc-128": _sealed(header={"enc": "A128GCM"}),
    "sealed-alg-kw": _sealed(header={"alg": "ECDH-ES+A256KW"}),
    "sealed-zip": _sealed(header={"zip": "DEF"}),
    "sealed-kid": _sealed(header={"kid": "1"}),
    "sealed-epk-kid": _sealed(epk={"kid": "1"}),
    "sealed-epk-curve": _sealed(epk={"crv": "Ed25519"}),
    "sealed-epk-twice": _sealed(raw_header=lambda raw: b'{"epk":{},' + raw[1:]),
    "sealed-to-another": lambda f: _sealed(public_key=x25519_public_key(f.vendor.randomness(32)))(f),
    "sealed-low-order": _sealed(low_order=True),
    "sealed-tag-cut": _sealed(tag_bytes=12),
    "sealed-changed": _part(3, lambda t: ("B" if t[0] == "A" else "A") + t[1:]),
    "sealed-not-utf8": _sealed(plaintext=b"\xff\xfe\x00"),
}
