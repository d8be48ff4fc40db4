"""Verdicts: genuine ones, contradictory ones, those for another request, and forged tokens."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any, Callable

import pyrage

from kadun_conformance.crypto import ABSENT, SigningKey, json_bytes, unb64, x25519_public_key
from kadun_conformance.forger import LIFETIME_SECONDS, Forger, Reply, problem, verdict

if TYPE_CHECKING:
    from kadun_conformance.forger import Answer

_OTHER = hashlib.sha256(b"other").hexdigest()
_UPDATE = {"latest_version": "1.10", "update_url": "https://example.com/下载?v=1.10"}
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
Forge = Callable[[Forger], Any]
Spoil = Callable[[bytes], bytes]


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
        return problem(503, "UNAVAILABLE", retry_after="0")
    return Forger(forger.vendor, forger.earlier).accept()


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


def _header(**changes: Any) -> Forge:  # noqa: ANN401 - any JSON
    return lambda f: f.token(header=changes)


def _unsigned(alg: str) -> Forge:
    return lambda f: f.token(header={"alg": alg}, sign=lambda _signed: b"")


def _hs256(secret: Callable[[SigningKey], bytes]) -> Forge:
    """Sign with the public key as an HMAC secret: the classic confusion of algorithms."""
    return lambda f: f.token(
        header={"alg": "HS256"}, sign=lambda signed: hmac.digest(secret(f.vendor.current), signed, "sha256")
    )


def _with_own_key(**more: Any) -> Forge:  # noqa: ANN401 - any JSON
    """Sign with the stranger's key under the pinned `kid`, and refer to the stranger's key in the header."""

    def forge(forger: Forger) -> str:
        stranger = forger.vendor.stranger
        return forger.token(key=stranger, header={"kid": forger.vendor.current.kid, "jwk": stranger.jwk, **more})

    return forge


def _spliced(forger: Forger) -> str:
    """Combine an accepting payload with the signature of a rejection."""
    rejection, acceptance = forger.token(forger.rejection("CARD_FROZEN")), forger.token()
    return ".".join(acceptance.split(".")[:2] + rejection.split(".")[2:])


def _plain(forger: Forger) -> bytes:
    return json_bytes({"alg": "EdDSA", "typ": "verdict+jwt", "kid": forger.vendor.current.kid})


def _raw_header(spoil: Spoil) -> Forge:
    return lambda f: f.token(header=spoil(_plain(f)))


def _payload(spoil: Spoil, **changes: Any) -> Forge:  # noqa: ANN401 - any JSON
    return lambda f: f.token(spoil(json.dumps(f.claims(**changes)).encode()))


def _signature(spell: Callable[[str], str]) -> Forge:
    def forge(forger: Forger) -> str:
        signed, signature = forger.token().rsplit(".", 1)
        return f"{signed}.{spell(signature)}"

    return forge


def _twin(text: str) -> str:
    """Replace the last character by one that differs in the unused bits only."""
    twins = (text[:-1] + last for last in _ALPHABET if text[-1] != last and unb64(text[:-1] + last) == unb64(text))
    return next(twins)


_CLAIMS: dict[str, Answer] = {
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
_TOKENS: dict[str, Forge] = {
    "wrong-key": lambda f: f.token_in_current_name(),
    "wrong-pinned-key": lambda f: f.token_in_current_name(key=f.vendor.chain[1]),
    "unsigned": _unsigned("EdDSA"),
    "malleated": lambda f: f.token(sign=f.vendor.current.malleated),
    "spliced": _spliced,
    "jwk-in-header": _with_own_key(),
    "jku-in-header": _with_own_key(jwk=ABSENT, jku="/.well-known/jwks.json"),
    "alg-none": _unsigned("none"),
    "alg-none-mixed": _unsigned("nOnE"),
    "hs256-raw": _hs256(lambda key: key.raw),
    "hs256-pem": _hs256(lambda key: key.pem),
    "jwk-without-kid": _with_own_key(kid=ABSENT),
    "typ-file": _header(typ="file+jwt"),
    "typ-key": _header(typ="key+jwt"),
    "typ-absent": _header(typ=ABSENT),
    "alg-absent": _header(alg=ABSENT),
    "alg-es256": _header(alg="ES256"),
    "kid-absent": _header(kid=ABSENT),
    "kid-proto": _header(kid="__proto__"),
    "crit": _header(crit=["exp"], exp=1),
    "b64-alone": _header(b64=False),
    "twice-alg": _raw_header(lambda raw: b'{"alg":"none",' + raw[1:]),
    "header-bom": _raw_header(lambda raw: b"\xef\xbb\xbf" + raw),
    "header-trailing": _raw_header(lambda raw: raw + b"{}"),
    "two-parts": lambda f: f.token().rsplit(".", 1)[0],
    "four-parts": _signature(lambda s: s + ".AAAA"),
    "trailing-newline": _signature(lambda s: s + "\n"),
    "padded": _signature(lambda s: s + "=="),
    "spare-bits": _signature(_twin),
    "inner-newline": _signature(lambda s: s[:40] + "\n" + s[40:]),
    "foreign-letter": _signature(lambda s: s[:40] + "!" + s[40:]),
    "token-object": lambda f: dict(zip(("protected", "payload", "signature"), f.token().split("."))),
    "wrapped": lambda f: f.token(f.token().encode(), header=_plain(f), sign=f.vendor.stranger.sign),
    "payload-trailing": _payload(lambda raw: raw + b"x"),
    "payload-latin": _payload(lambda raw: raw[:-1] + b',"x":"\xff"}'),
    "payload-nan": _payload(lambda raw: raw[:-1] + b',"x":NaN}'),
    "payload-deep": _payload(lambda raw: raw[:-1] + b',"x":' + b"[" * 100_000 + b"}"),
    "twice-no-then-yes": _payload(
        lambda raw: raw[:-1] + b',"code":"OK","accepted":true}', accepted=False, code="CARD_FROZEN"
    ),
    "twice-escaped": _payload(lambda raw: raw[:-1] + b',"\\u0063ode":"OK"}'),
}


def _sent(forge: Forge) -> Answer:
    return lambda f: verdict(forge(f))


ANSWERS = {**_CLAIMS, **{name: _sent(forge) for name, forge in _TOKENS.items()}}
