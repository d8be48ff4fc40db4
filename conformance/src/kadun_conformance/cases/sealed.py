"""Genuine verdicts whose sealed key is for another client, or sealed in a way that the protocol does not allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from kadun_conformance.crypto import ABSENT, x25519_public_key
from kadun_conformance.forger import ClearKeyRequestedError, Forger, Reply, verdict

if TYPE_CHECKING:
    from kadun_conformance.case import Answer, Forge


def _sealed(**changes: Any) -> Forge:  # noqa: ANN401 - see seal
    return lambda forger: forger.sealed(**changes)


def _header(**header: Any) -> Forge:  # noqa: ANN401 - any JSON
    return lambda forger: forger.sealed(header=header)


def _epk(**epk: Any) -> Forge:  # noqa: ANN401 - any JSON
    return lambda forger: forger.sealed(epk=epk)


def _for_another(forger: Forger) -> str:
    return forger.sealed(public_key=x25519_public_key(forger.vendor.randomness(32)))


def _part(number: int, spell: Callable[[str], str]) -> Forge:
    def forge(forger: Forger) -> str:
        parts = forger.sealed().split(".")
        parts[number] = spell(parts[number])
        return ".".join(parts)

    return forge


def _flip(text: str) -> str:
    return ("B" if text[0] == "A" else "A") + text[1:]


# The claim KERNAL_DATA_KEY_SEALED.
_SEALED: dict[str, Forge] = {
    "sealed-absent": lambda _f: ABSENT,
    "sealed-null": lambda _f: None,
    "sealed-not": lambda f: f.vendor.identity,
    "sealed-list": lambda f: [f.sealed()],
    "sealed-four-parts": lambda f: f.sealed().rsplit(".", 1)[0],
    "sealed-six-parts": lambda f: f.sealed() + ".AAAA",
    "sealed-encrypted-key": _part(1, lambda _t: "AAAA"),
    "sealed-newline": lambda f: f.sealed() + "\n",
    "sealed-padded": _part(4, lambda t: t + "=="),
    "sealed-foreign-letter": _part(3, lambda t: t[:8] + "!" + t[8:]),
    "sealed-tag-empty": _sealed(tag_bytes=0),
    "sealed-enc-128": _header(enc="A128GCM"),
    "sealed-enc-192": _header(enc="A192GCM"),
    "sealed-alg-kw": _header(alg="ECDH-ES+A256KW"),
    "sealed-alg-dir": _header(alg="dir"),
    "sealed-alg-absent": _header(alg=ABSENT),
    "sealed-enc-absent": _header(enc=ABSENT),
    "sealed-zip": _header(zip="DEF"),
    "sealed-typ": _header(typ="JWE"),
    "sealed-kid": _header(kid="1"),
    "sealed-crit": _header(crit=["x"], x=1),
    "sealed-apu": _header(apu="QQ"),
    "sealed-apv": _header(apv="QQ"),
    "sealed-epk-kid": _epk(kid="1"),
    "sealed-epk-private": _epk(d="A" * 43),
    "sealed-epk-curve": _epk(crv="Ed25519"),
    "sealed-epk-kty": _epk(kty="EC"),
    "sealed-epk-without-x": _epk(x=ABSENT),
    "sealed-epk-text": _header(epk="epk"),
    "sealed-epk-absent": _header(epk=ABSENT),
    "sealed-epk-twice": _sealed(raw_header=lambda raw: b'{"epk":{},' + raw[1:]),
    "sealed-header-bom": _sealed(raw_header=lambda h: b"\xef\xbb\xbf" + h),
    "sealed-to-another": _for_another,
    "sealed-low-order": _sealed(low_order=True),
    "sealed-epk-short": _epk(x="AA"),
    "sealed-tag-cut": _sealed(tag_bytes=12),
    "sealed-iv-16": _sealed(iv_bytes=16),
    "sealed-changed": _part(3, _flip),
    "sealed-tag-changed": _part(4, _flip),
    "sealed-empty": _sealed(plaintext=b""),
    "sealed-not-utf8": _sealed(plaintext=b"\xff\xfe\x00"),
}


def _with_sealed(forge: Forge) -> Answer:
    def answer(forger: Forger) -> Reply:
        if not forger.wants_sealed:
            raise ClearKeyRequestedError
        return verdict(forger.token(forger.claims(KERNAL_DATA_KEY_SEALED=forge(forger))))

    return answer


ANSWERS = {name: _with_sealed(forge) for name, forge in _SEALED.items()}
