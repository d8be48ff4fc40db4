"""Verdicts: genuine ones, contradictory ones, those for another request, and forged tokens."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any, Callable

import pyrage

from kadun_conformance.crypto import ABSENT, json_bytes, x25519_public_key
from kadun_conformance.forger import LIFETIME_SECONDS, Forger, Reply, verdict

if TYPE_CHECKING:
    from kadun_conformance.forger import Answer

Forge = Callable[[Forger], Any]


def _recorded(forger: Forger) -> Reply:
    token = forger.token()
    forger.vendor.recorded.append(token)
    return verdict(token)


def _several_identities(forger: Forger) -> Reply:
    key = f"# newest first\n{pyrage.x25519.Identity.generate()}\r\n{forger.vendor.identity}\n"
    return forger.accept(KERNAL_DATA_KEY_SEALED=forger.sealed(key.encode()))


def _replayed(forger: Forger) -> Reply:
    return verdict(forger.vendor.recorded[0]) if forger.vendor.recorded else forger.accept(nonce="A" * 32)


def _rejection_with_key(forger: Forger) -> Reply:
    sealed = {"KERNAL_DATA_KEY_SEALED": forger.claims()["KERNAL_DATA_KEY_SEALED"]}
    return verdict(forger.token(forger.rejection("CARD_FROZEN", **sealed)))


def _sealed_to_another(forger: Forger) -> Reply:
    public_key = x25519_public_key(forger.vendor.randomness(32))
    return forger.accept(KERNAL_DATA_KEY_SEALED=forger.sealed(public_key=public_key))


def _part(number: int, spell: Callable[[str], str]) -> Answer:
    def answer(forger: Forger) -> Reply:
        parts = forger.sealed().split(".")
        parts[number] = spell(parts[number])
        return forger.accept(KERNAL_DATA_KEY_SEALED=".".join(parts))

    return answer


def _unsigned(alg: str) -> Forge:
    return lambda f: f.token(header={"alg": alg}, sign=lambda _signed: b"")


def _hs256_pem(forger: Forger) -> str:
    """Sign with the public key as an HMAC secret: the classic confusion of algorithms."""
    pem = forger.vendor.current.pem
    return forger.token(header={"alg": "HS256"}, sign=lambda signed: hmac.digest(pem, signed, "sha256"))


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


def _alg_twice(forger: Forger) -> str:
    header = json_bytes({"alg": "EdDSA", "typ": "verdict+jwt", "kid": forger.vendor.current.kid})
    return forger.token(header=b'{"alg":"none",' + header[1:])


def _payload(spoil: Callable[[bytes], bytes], **changes: Any) -> Forge:  # noqa: ANN401 - any JSON
    return lambda f: f.token(spoil(json.dumps(f.claims(**changes)).encode()))


def _signature(spell: Callable[[str], str]) -> Forge:
    def forge(forger: Forger) -> str:
        signed, signature = forger.token().rsplit(".", 1)
        return f"{signed}.{spell(signature)}"

    return forge


_CLAIMS: dict[str, Answer] = {
    "honest": _recorded,
    "honest-next-key": lambda f: verdict(f.token(key=f.vendor.chain[1])),
    "honest-identities": _several_identities,
    "nonce-name-case": lambda f: f.accept(nonce=ABSENT, Nonce=f.request["nonce"]),
    "sub-case": lambda f: f.accept(sub=f.request["card_id"].swapcase()),
    "exp-is-iat": lambda f: f.accept(exp=f.vendor.now),
    "exp-301": lambda f: f.accept(exp=f.vendor.now + LIFETIME_SECONDS + 1),
    "replayed": _replayed,
    "no-with-key": _rejection_with_key,
    "no-said-as-yes": lambda f: verdict(f.token(f.rejection("CARD_EXPIRED"))),
    "key-clear": lambda f: f.accept(KERNAL_DATA_KEY=f.vendor.identity, KERNAL_DATA_KEY_SEALED=ABSENT),
    "key-clear-beside": lambda f: f.accept(KERNAL_DATA_KEY=f.vendor.identity),
    "sealed-encrypted-key": _part(1, lambda _t: "AAAA"),
    "sealed-padded": _part(4, lambda t: t + "=="),
    "sealed-to-another": _sealed_to_another,
    "sealed-changed": _part(3, lambda t: ("B" if t[0] == "A" else "A") + t[1:]),
    "sealed-not-utf8": lambda f: f.accept(KERNAL_DATA_KEY_SEALED=f.sealed(b"\xff\xfe\x00")),
}
_TOKENS: dict[str, Forge] = {
    "wrong-key": lambda f: f.token_in_current_name(),
    "wrong-pinned-key": lambda f: f.token_in_current_name(key=f.vendor.chain[1]),
    "unsigned": _unsigned("EdDSA"),
    "spliced": _spliced,
    "jwk-in-header": _with_own_key(),
    "jku-in-header": _with_own_key(jwk=ABSENT, jku="/.well-known/jwks.json"),
    "alg-none": _unsigned("none"),
    "hs256-pem": _hs256_pem,
    "twice-alg": _alg_twice,
    "two-parts": lambda f: f.token().rsplit(".", 1)[0],
    "four-parts": _signature(lambda s: s + ".AAAA"),
    "trailing-newline": _signature(lambda s: s + "\n"),
    "padded": _signature(lambda s: s + "=="),
    "spare-bits": _signature(lambda s: s[:-1] + chr(ord(s[-1]) + 1)),  # the last is A, Q, g or w
    "foreign-letter": _signature(lambda s: s[:40] + "!" + s[40:]),
    "token-object": lambda f: dict(zip(("protected", "payload", "signature"), f.token().split("."))),
    "payload-trailing": _payload(lambda raw: raw + b"x"),
    "payload-latin": _payload(lambda raw: raw[:-1] + b',"x":"\xff"}'),
    "payload-deep": _payload(lambda raw: raw[:-1] + b',"x":' + b"[" * 100_000 + b"}"),
    "twice-no-then-yes": _payload(
        lambda raw: raw[:-1] + b',"code":"OK","accepted":true}', accepted=False, code="CARD_FROZEN"
    ),
}


def _sent(forge: Forge) -> Answer:
    return lambda f: verdict(forge(f))


ANSWERS = {**_CLAIMS, **{name: _sent(forge) for name, forge in _TOKENS.items()}}
