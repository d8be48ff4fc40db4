"""Decrypts the sealed KERNAL_DATA_KEY (JWE), and core data (age files) with it; keeps it from being shown."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import NoReturn

import pyrage
from joserfc.errors import JoseError
from joserfc.jwe import decrypt_compact
from joserfc.jwk import OKPKey

from kadun.decoding import decode_base64url, parse_json_object
from kadun.errors import UnsealFailed, UntrustedAnswer

_ALGORITHMS = ["ECDH-ES", "A256GCM"]


class Secret:
    """Keeps a string out of `repr`, `str`, `vars`, pickles, and tracebacks that print local variables."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """Return the secret. Do not store it, print it or keep it longer than needed."""
        return self.__value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be copied or pickled")


class KeyPair:
    """An X25519 key pair; only this process can decrypt what the server seals to its public key."""

    __slots__ = ("_key",)

    def __init__(self, key: OKPKey | None = None) -> None:
        self._key = key or OKPKey.generate_key("X25519")

    @classmethod
    def from_secret(cls, secret: Secret) -> KeyPair | None:
        """Restore the key pair from `secret`; return None if that is not an X25519 private key."""
        try:
            members = json.loads(secret.reveal())
            return cls(OKPKey.import_key({"kty": "OKP", "crv": "X25519", "x": members["x"], "d": members["d"]}))
        except (JoseError, ValueError, TypeError, KeyError):
            return None

    def secret(self) -> Secret:
        """Return the key pair as text, to be stored encrypted: it decrypts what was sealed to it."""
        members = self._key.as_dict(private=True)
        return Secret(json.dumps({"x": members["x"], "d": members["d"]}))

    @property
    def public_key(self) -> str:
        """The raw public key, base64url without padding (43 characters)."""
        return str(self._key.as_dict(private=False)["x"])

    def open(self, sealed: str) -> Secret:
        """Decrypt a compact JWE: ECDH-ES over X25519 with A256GCM only (docs/protocol.md, "The sealed key")."""
        parts = sealed.split(".")
        if len(parts) != 5 or parts.pop(1):  # noqa: PLR2004 - header, encrypted key (none), nonce, ciphertext, tag
            raise UntrustedAnswer("the sealed key is not a compact JWE for ECDH-ES")
        # All are checked here: Python before 3.11 also decodes other than canonical base64url.
        raw_header, *_others = [decode_base64url(part, "a part of the sealed key") for part in parts]
        header = parse_json_object(raw_header, "the sealed key's header")
        epk = header.get("epk")
        if header != {"alg": "ECDH-ES", "enc": "A256GCM", "epk": epk} or not isinstance(epk, dict):
            raise UntrustedAnswer("the sealed key's header is not alg ECDH-ES, enc A256GCM and epk")
        if epk != {"kty": "OKP", "crv": "X25519", "x": epk.get("x")}:
            raise UntrustedAnswer("the sealed key's epk is not an X25519 public key")
        secret = self._decrypted(sealed)
        if secret is None:  # raised here, where neither a local variable nor a context contains the plaintext
            raise UntrustedAnswer("the sealed key does not decrypt with this program's key")
        return secret

    def _decrypted(self, sealed: str) -> Secret | None:
        try:
            plaintext = decrypt_compact(sealed, self._key, algorithms=_ALGORITHMS).plaintext
            return Secret(plaintext.decode("utf-8")) if plaintext else None
        except (JoseError, ValueError, TypeError, AssertionError):  # of joserfc, cryptography and base64
            return None


def unseal(sealed: bytes, key: Secret) -> bytes:
    """Decrypt an age file with KERNAL_DATA_KEY, whose lines are age identities; each is tried."""
    identities = _identities(key)
    if not identities:
        raise UnsealFailed("KERNAL_DATA_KEY contains no age identity; unseal with the vendor's own scheme")
    try:
        opened: bytes = pyrage.decrypt(sealed, identities)
    except pyrage.DecryptError as refusal:
        raise UnsealFailed(f"the core data does not decrypt: {refusal}") from None
    return opened


def _identities(key: Secret) -> list[pyrage.x25519.Identity]:
    identities = []
    for line in key.reveal().splitlines():
        with suppress(pyrage.IdentityError):  # a mistyped identity must not prevent the others from being tried
            identities.append(pyrage.x25519.Identity.from_str(line.strip()))
    return identities
