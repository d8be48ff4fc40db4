"""Tokens of another type, with another signature, or in another spelling."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any, Callable

from kadun_conformance.crypto import ABSENT, SigningKey, json_bytes, unb64
from kadun_conformance.forger import Forger, verdict

if TYPE_CHECKING:
    from kadun_conformance.forger import Answer

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
Forge = Callable[[Forger], Any]
Spoil = Callable[[bytes], bytes]


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


def _payload(spoil: Spoil) -> Forge:
    return lambda f: f.token(spoil(json.dumps(f.claims()).encode()))


def _signature(spell: Callable[[str], str]) -> Forge:
    def forge(forger: Forger) -> str:
        signed, signature = forger.token().rsplit(".", 1)
        return f"{signed}.{spell(signature)}"

    return forge


def _twin(text: str) -> str:
    """Replace the last character by one that differs in the unused bits only."""
    twins = (text[:-1] + last for last in _ALPHABET if text[-1] != last and unb64(text[:-1] + last) == unb64(text))
    return next(twins)


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
}


def _sent(forge: Forge) -> Answer:
    return lambda f: verdict(forge(f))


ANSWERS = {name: _sent(forge) for name, forge in _TOKENS.items()}
