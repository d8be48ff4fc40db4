"""Tokens of another kind, with another signature, or spelled otherwise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Callable

from kadun.hostile.forging import ABSENT, SigningKey, b64, by_secret, compact, json_bytes, unb64
from kadun.hostile.world import Forger, Reply, Scenario, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNATURE, _HEADER, _SPELLING = "签名 signature", "头部 header", "写法 spelling"
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
Forge = Callable[[Forger], Any]


def _header(**changes: Any) -> Forge:  # noqa: ANN401 - any JSON
    return lambda forger: forger.token(header=changes)


def _unsigned(alg: str, signature: bytes = b"") -> Forge:
    return lambda forger: forger.token(header={"alg": alg}, sign=lambda _signed: signature)


def _hmac(alg: str, secret: Callable[[SigningKey], bytes]) -> Forge:
    digest = f"sha{alg[2:]}"
    return lambda forger: forger.token(header={"alg": alg}, sign=by_secret(secret(forger.world.current), digest))


def _by(key: Callable[[Forger], SigningKey]) -> Forge:
    """Signed by another key in the name of the current one."""
    return lambda forger: forger.token(key=key(forger), header={"kid": forger.world.current.kid})


def _with_own_key(**more: Any) -> Forge:  # noqa: ANN401 - any JSON
    """The stranger's signature under the pinned kid, and a pointer in the header to the stranger's key."""

    def forge(forger: Forger) -> str:
        stranger = forger.world.stranger
        header = {"kid": forger.world.current.kid, "jwk": stranger.jwk, **more}
        return forger.token(key=stranger, header=header)

    return forge


def _spliced(forger: Forger) -> str:
    """A payload of lies with the signature of an honest one."""
    honest, lie = forger.token(forger.no("CARD_FROZEN")), forger.token()
    return ".".join(lie.split(".")[:2] + honest.split(".")[2:])


_SIGNATURES: dict[str, Forge] = {
    "wrong-key": _by(lambda f: f.world.stranger),
    "wrong-pinned-key": _by(lambda f: f.world.chain[1]),
    "alg-none": _unsigned("none"),
    "alg-none-title": _unsigned("None"),
    "alg-none-upper": _unsigned("NONE"),
    "alg-none-mixed": _unsigned("nOnE"),
    "alg-none-signed": _header(alg="none"),
    "alg-empty": _unsigned(""),
    "unsigned": _unsigned("EdDSA"),
    "zero-signature": _unsigned("EdDSA", bytes(64)),
    "short-signature": lambda f: f.token(sign=lambda s: f.world.current.sign(s)[:63]),
    "long-signature": lambda f: f.token(sign=lambda s: f.world.current.sign(s) + b"\0"),
    "malleated": lambda f: f.token(sign=f.world.current.malleated),
    "spliced": _spliced,
    "hs256-raw": _hmac("HS256", lambda k: k.raw),
    "hs256-x": _hmac("HS256", lambda k: k.jwk["x"].encode()),
    "hs256-jwk": _hmac("HS256", lambda k: json_bytes(k.jwk)),
    "hs256-pem": _hmac("HS256", lambda k: k.pem),
    "hs256-der": _hmac("HS256", lambda k: k.der),
    "hs256-empty": _hmac("HS256", lambda _k: b""),
    "hs384-raw": _hmac("HS384", lambda k: k.raw),
    "hs512-raw": _hmac("HS512", lambda k: k.raw),
    "jwk-in-header": _with_own_key(),
    "jwk-without-kid": _with_own_key(kid=ABSENT),
    "jku-in-header": _with_own_key(jwk=ABSENT, jku="/.well-known/jwks.json"),
}


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
    "kid-list": lambda f: f.token(header={"kid": [f.world.current.kid]}),
    "kid-proto": _header(kid="__proto__"),
    "crit": _header(crit=["exp"], exp=1),
    "crit-empty": _header(crit=[]),
    "b64-false": _header(b64=False, crit=["b64"]),
    "twice-alg": lambda f: f.token(header=_with_first(f, b'"alg":"none"')),
    "twice-typ": lambda f: f.token(header=_with_first(f, b'"typ":"key+jwt"')),
    "twice-kid": lambda f: f.token(header=_with_first(f, b'"kid":"other"')),
    "header-list": lambda f: f.token(header=b'["EdDSA","verdict+jwt"]'),
    "header-bom": lambda f: f.token(header=b"\xef\xbb\xbf" + _plain(f)),
    "header-utf16": lambda f: f.token(header=_plain(f).decode().encode("utf-16")),
    "header-comment": lambda f: f.token(header=_plain(f)[:-1] + b"/**/}"),
    "header-trailing": lambda f: f.token(header=_plain(f) + b"{}"),
}


def _plain(forger: Forger) -> bytes:
    return json_bytes({"alg": "EdDSA", "typ": "verdict+jwt", "kid": forger.world.current.kid})


def _with_first(forger: Forger, member: bytes) -> bytes:
    return b"{" + member + b"," + _plain(forger)[1:]


def _respelled(part: int, spell: Callable[[str], str]) -> Forge:
    """Write one part otherwise. For the signed two, the signature is over what then stands there."""

    def forge(forger: Forger) -> str:
        parts = forger.token().split(".")
        parts[part] = spell(parts[part])
        if part < 2:  # noqa: PLR2004 - header and payload are signed
            parts[2] = b64(forger.world.current.sign(".".join(parts[:2]).encode()))
        return ".".join(parts)

    return forge


def _around(before: str, after: str) -> Forge:
    return lambda forger: before + str(forger.token()) + after


def _twin(text: str) -> str:
    """Another last character, whose spare bits alone differ."""
    raw = unb64(text)
    return next(
        (text[:-1] + last for last in _ALPHABET if text[-1] != last and unb64(text[:-1] + last) == raw), text + "="
    )


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
    "trailing-text": _around("", "AAAA"),
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
    "payload-bom": _payload(lambda raw: b"\xef\xbb\xbf" + raw),
    "payload-list": _payload(lambda raw: b"[" + raw + b"]"),
    "payload-text": _payload(lambda raw: json.dumps(raw.decode()).encode()),
    "payload-trailing": _payload(lambda raw: raw + b"x"),
    "payload-latin": _payload(lambda raw: raw[:-1] + b',"x":"\xff"}'),
    "payload-nan": _payload(lambda raw: raw[:-1] + b',"x":NaN}'),
    "payload-deep": _payload(lambda raw: raw[:-1] + b',"x":' + b"[" * 100_000 + b"}"),
    "wrapped": lambda f: compact(_plain(f), f.token().encode(), f.world.stranger.sign),
}


def lies() -> Iterator[Scenario]:
    """All of them."""
    for group, rows in ((_SIGNATURE, _SIGNATURES), (_HEADER, _HEADERS), (_SPELLING, _SPELLINGS)):
        for name, forge in rows.items():
            yield Scenario(name, group, _answer(forge))


def _answer(forge: Forge) -> Callable[[Forger], Reply]:
    return lambda forger: verdict(forge(forger))
