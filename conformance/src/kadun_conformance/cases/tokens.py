"""Tokens of another type, with another signature, or in another spelling."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Callable

from kadun_conformance.case import with_token
from kadun_conformance.crypto import ABSENT, SigningKey, b64, compact, hmac_signer, json_bytes, unb64

if TYPE_CHECKING:
    from kadun_conformance.case import Forge
    from kadun_conformance.forger import Forger

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _header(**changes: Any) -> Forge:  # noqa: ANN401 - any JSON
    return lambda forger: forger.token(header=changes)


def _unsigned(alg: str, signature: bytes = b"") -> Forge:
    return lambda forger: forger.token(header={"alg": alg}, sign=lambda _signed: signature)


def _hmac(alg: str, secret: Callable[[SigningKey], bytes]) -> Forge:
    """Sign with the public key as an HMAC secret: the classic confusion of algorithms."""
    return lambda f: f.token(header={"alg": alg}, sign=hmac_signer(secret(f.vendor.current), f"sha{alg[2:]}"))


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


_SIGNATURES: dict[str, Forge] = {
    "wrong-key": lambda f: f.token_in_current_name(),
    "wrong-pinned-key": lambda f: f.token_in_current_name(key=f.vendor.chain[1]),
    "unsigned": _unsigned("EdDSA"),
    "zero-signature": _unsigned("EdDSA", bytes(64)),
    "short-signature": lambda f: f.token(sign=lambda signed: f.vendor.current.sign(signed)[:63]),
    "long-signature": lambda f: f.token(sign=lambda signed: f.vendor.current.sign(signed) + b"\0"),
    "malleated": lambda f: f.token(sign=f.vendor.current.malleated),
    "spliced": _spliced,
    "jwk-in-header": _with_own_key(),
    "jku-in-header": _with_own_key(jwk=ABSENT, jku="/.well-known/jwks.json"),
    "alg-none": _unsigned("none"),
    "alg-none-title": _unsigned("None"),
    "alg-none-upper": _unsigned("NONE"),
    "alg-none-mixed": _unsigned("nOnE"),
    "alg-none-signed": _header(alg="none"),
    "alg-empty": _unsigned(""),
    "hs256-raw": _hmac("HS256", lambda key: key.raw),
    "hs256-x": _hmac("HS256", lambda key: key.jwk["x"].encode()),
    "hs256-jwk": _hmac("HS256", lambda key: json_bytes(key.jwk)),
    "hs256-pem": _hmac("HS256", lambda key: key.pem),
    "hs256-der": _hmac("HS256", lambda key: key.der),
    "hs256-empty": _hmac("HS256", lambda _key: b""),
    "hs384-raw": _hmac("HS384", lambda key: key.raw),
    "hs512-raw": _hmac("HS512", lambda key: key.raw),
    "jwk-without-kid": _with_own_key(kid=ABSENT),
}


def _plain(forger: Forger) -> bytes:
    return json_bytes({"alg": "EdDSA", "typ": "verdict+jwt", "kid": forger.vendor.current.kid})


def _raw_header(spoil: Callable[[bytes], bytes]) -> Forge:
    return lambda forger: forger.token(header=spoil(_plain(forger)))


def _first(member: bytes) -> Forge:
    """Put a member before the genuine ones, so that its name occurs twice."""
    return _raw_header(lambda raw: b"{" + member + b"," + raw[1:])


_HEADERS: dict[str, Forge] = {
    "typ-file": _header(typ="file+jwt"),
    "typ-key": _header(typ="key+jwt"),
    "typ-jwt": _header(typ="JWT"),
    "typ-absent": _header(typ=ABSENT),
    "typ-null": _header(typ=None),
    "typ-list": _header(typ=["verdict+jwt"]),
    "typ-case": _header(typ="VERDICT+JWT"),
    "typ-long": _header(typ="application/verdict+jwt"),
    "alg-absent": _header(alg=ABSENT),
    "alg-case": _header(alg="eddsa"),
    "alg-name-case": _header(alg=ABSENT, Alg="EdDSA"),
    "alg-es256": _header(alg="ES256"),
    "alg-ed25519": _header(alg="Ed25519"),
    "alg-list": _header(alg=["EdDSA"]),
    "kid-absent": _header(kid=ABSENT),
    "kid-null": _header(kid=None),
    "kid-number": _header(kid=0),
    "kid-list": lambda f: f.token(header={"kid": [f.vendor.current.kid]}),
    "kid-proto": _header(kid="__proto__"),
    "crit": _header(crit=["exp"], exp=1),
    "crit-empty": _header(crit=[]),
    "b64-false": _header(b64=False, crit=["b64"]),
    "b64-alone": _header(b64=False),
    "twice-alg": _first(b'"alg":"none"'),
    "twice-typ": _first(b'"typ":"key+jwt"'),
    "twice-kid": _first(b'"kid":"other"'),
    "header-list": lambda f: f.token(header=b'["EdDSA","verdict+jwt"]'),
    "header-bom": _raw_header(lambda h: b"\xef\xbb\xbf" + h),
    "header-utf16": _raw_header(lambda h: h.decode().encode("utf-16")),
    "header-comment": _raw_header(lambda h: h[:-1] + b"/**/}"),
    "header-trailing": _raw_header(lambda h: h + b"{}"),
}


def _respelled(part: int, spell: Callable[[str], str]) -> Forge:
    """Spell one part differently; if it is a signed part, the signature is over the new spelling."""

    def forge(forger: Forger) -> str:
        parts = forger.token().split(".")
        parts[part] = spell(parts[part])
        if part < 2:  # noqa: PLR2004 - header and payload are signed
            parts[2] = b64(forger.vendor.current.sign(".".join(parts[:2]).encode()))
        return ".".join(parts)

    return forge


def _around(before: str, after: str) -> Forge:
    return lambda forger: before + str(forger.token()) + after


def _twin(text: str) -> str:
    """Replace the last character by one that differs in the unused bits only."""
    raw = unb64(text)
    twins = (text[:-1] + last for last in _ALPHABET if text[-1] != last and unb64(text[:-1] + last) == raw)
    return next(twins, text + "=")


def _flattened(forger: Forger) -> dict[str, str]:
    header, payload, signature = forger.token().split(".")
    return {"protected": header, "payload": payload, "signature": signature}


def _payload(spoil: Callable[[bytes], bytes]) -> Forge:
    return lambda forger: forger.token(spoil(json.dumps(forger.claims()).encode()))


_SPELLINGS: dict[str, Forge] = {
    "cut-1": lambda f: f.token()[:-1],
    "cut-half": lambda f: f.token()[: len(f.token()) // 2],
    "two-parts": lambda f: f.token().rsplit(".", 1)[0],
    "four-parts": _around("", ".AAAA"),
    "trailing-dot": _around("", "."),
    "trailing-space": _around("", " "),
    "trailing-newline": _around("", "\n"),
    "trailing-nul": _around("", "\0"),
    "leading-space": _around(" ", ""),
    "bearer": _around("Bearer ", ""),
    "padded": _respelled(2, lambda s: s + "=="),
    "padded-payload": _respelled(1, lambda s: s + "=" * (-len(s) % 4 or 4)),
    "spare-bits": _respelled(2, _twin),
    "inner-newline": _respelled(2, lambda s: s[:40] + "\n" + s[40:]),
    "inner-space": _respelled(1, lambda s: s[:40] + " " + s[40:]),
    "foreign-letter": _respelled(2, lambda s: s[:40] + "!" + s[40:]),
    "token-object": _flattened,
    "token-list": lambda f: [f.token()],
    "trailing-text": _around("", "AAAA"),
    "wrapped": lambda f: compact(_plain(f), f.token().encode(), f.vendor.stranger.sign),
    "payload-bom": _payload(lambda raw: b"\xef\xbb\xbf" + raw),
    "payload-list": _payload(lambda raw: b"[" + raw + b"]"),
    "payload-text": _payload(lambda raw: json.dumps(raw.decode()).encode()),
    "payload-trailing": _payload(lambda raw: raw + b"x"),
    "payload-latin": _payload(lambda raw: raw[:-1] + b',"x":"\xff"}'),
    "payload-nan": _payload(lambda raw: raw[:-1] + b',"x":NaN}'),
    "payload-deep": _payload(lambda raw: raw[:-1] + b',"x":' + b"[" * 100_000 + b"}"),
}
ANSWERS = {name: with_token(forge) for table in (_SIGNATURES, _HEADERS, _SPELLINGS) for name, forge in table.items()}
