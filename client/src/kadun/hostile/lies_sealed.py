"""Genuine verdicts whose sealed key is for somebody else, or sealed in another way than the protocol's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kadun.hostile.forging import ABSENT, b64
from kadun.hostile.world import Forger, NotAskedError, Reply, Scenario, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

_GROUP = "密封 sealed"
Forge = Callable[[Forger], Any]


def _sealed(**changes: Any) -> Forge:  # noqa: ANN401 - see seal
    return lambda forger: forger.sealed(**changes)


def _header(**header: Any) -> Forge:  # noqa: ANN401 - any JSON
    return lambda forger: forger.sealed(header=header)


def _epk(**epk: Any) -> Forge:  # noqa: ANN401 - any JSON
    return lambda forger: forger.sealed(epk=epk)


def _for_another(forger: Forger) -> str:
    other = X25519PrivateKey.from_private_bytes(forger.world.randomness(32)).public_key()
    return forger.sealed(public_key=b64(other.public_bytes(Encoding.Raw, PublicFormat.Raw)))


def _part(number: int, spell: Callable[[str], str]) -> Forge:
    def forge(forger: Forger) -> str:
        parts = forger.sealed().split(".")
        parts[number] = spell(parts[number])
        return ".".join(parts)

    return forge


def _flip(text: str) -> str:
    return ("B" if text[0] == "A" else "A") + text[1:]


_ROWS: dict[str, Forge] = {
    "sealed-absent": lambda _f: ABSENT,
    "sealed-null": lambda _f: None,
    "sealed-not": lambda f: f.world.identity,
    "sealed-to-another": _for_another,
    "sealed-low-order": _sealed(low_order=True),
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
    "sealed-epk-absent": _header(epk=ABSENT),
    "sealed-epk-twice": _sealed(raw_header=lambda raw: b'{"epk":{},' + raw[1:]),
    "sealed-header-bom": _sealed(raw_header=lambda raw: b"\xef\xbb\xbf" + raw),
    "sealed-tag-cut": _sealed(tag_bytes=12),
    "sealed-tag-empty": _sealed(tag_bytes=0),
    "sealed-iv-16": _sealed(iv_bytes=16),
    "sealed-changed": _part(3, _flip),
    "sealed-tag-changed": _part(4, _flip),
    "sealed-encrypted-key": _part(1, lambda _t: "AAAA"),
    "sealed-four-parts": lambda f: f.sealed().rsplit(".", 1)[0],
    "sealed-six-parts": lambda f: f.sealed() + ".AAAA",
    "sealed-newline": lambda f: f.sealed() + "\n",
    "sealed-padded": _part(4, lambda t: t + "=="),
    "sealed-foreign-letter": _part(3, lambda t: t[:8] + "!" + t[8:]),
    "sealed-empty": _sealed(plaintext=b""),
    "sealed-not-utf8": _sealed(plaintext=b"\xff\xfe\x00"),
    "sealed-list": lambda f: [f.sealed()],
}


def _answer(forge: Forge) -> Callable[[Forger], Reply]:
    def answer(forger: Forger) -> Reply:
        if not forger.asks_sealed:
            raise NotAskedError
        return verdict(forger.token(forger.claims(KERNAL_DATA_KEY_SEALED=forge(forger))))

    return answer


def lies() -> Iterator[Scenario]:
    """All of them."""
    for name, forge in _ROWS.items():
        yield Scenario(name, _GROUP, _answer(forge))
