"""Signing and sealing without restrictions: any header, any bytes, any key."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zlib
from typing import TYPE_CHECKING, Any, Callable, Union

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = Union["Mapping[str, Any]", bytes]
Randomness = Callable[[int], bytes]
Sign = Callable[[bytes], bytes]
ABSENT: Any = object()  # as a changed value: leave this member out


def b64(raw: bytes) -> str:
    """Encode as base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def unb64(text: str) -> bytes:
    """Decode base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def json_bytes(value: Json) -> bytes:
    """Serialise to JSON without white space; return bytes unchanged."""
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


def changed(original: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Copy an object with changed members; `ABSENT` removes one."""
    return {name: value for name, value in {**original, **changes}.items() if value is not ABSENT}


class SigningKey:
    """An Ed25519 key pair with its JWK, random without a seed; `kid` is the thumbprint (RFC 7638)."""

    def __init__(self, seed: bytes | None = None) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed) if seed else Ed25519PrivateKey.generate()
        public = self._private.public_key()
        self.raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        x = b64(self.raw)
        self.thumbprint_input = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'  # RFC 7638, section 3
        self.kid = b64(hashlib.sha256(self.thumbprint_input.encode()).digest())
        self.jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid, "use": "sig", "alg": "EdDSA"}

    def sign(self, signed: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature."""
        return self._private.sign(signed)

    def token(self, claims: Json, *, header: Json | None = None, sign: Sign | None = None) -> str:
        """Make a verdict, a compact JWS, with changed header members, or exactly these bytes, or another signature."""
        if not isinstance(header, bytes):
            header = changed({"alg": "EdDSA", "typ": "verdict+jwt", "kid": self.kid}, header or {})
        signed = f"{b64(json_bytes(header))}.{b64(json_bytes(claims))}"
        return f"{signed}.{b64((sign or self.sign)(signed.encode()))}"

    def endorse(self, jwk: object, *, header: Mapping[str, Any] | None = None, **changes: Any) -> str:  # noqa: ANN401 - any JSON
        """Make a `key+jwt` that endorses another key, with changed header members and claims."""
        claims = changed({"aud": "kadun-client", "iat": 1, "jwk": jwk}, changes)
        return self.token(claims, header={"typ": "key+jwt", **(header or {})})


def x25519_public_key(private: bytes) -> str:
    """Return the raw public key of a raw X25519 private key, as base64url."""
    return b64(X25519PrivateKey.from_private_bytes(private).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def shared_secret(private: bytes, public_key: str) -> bytes:
    """Compute X25519 of a raw private key and a base64url public key."""
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(unb64(public_key)))


def kdf_input(shared: bytes, algorithm: str, bits: int) -> bytes:
    """Return what ECDH-ES hashes to derive a key (RFC 7518, section 4.6.2); one round is enough for 256 bits."""
    no_party = struct.pack(">I", 0)
    named = struct.pack(">I", len(algorithm)) + algorithm.encode()
    return struct.pack(">I", 1) + shared + named + no_party + no_party + struct.pack(">I", bits)


def seal(  # noqa: PLR0913 - one for each thing that can be wrong
    plaintext: bytes,
    public_key: str,
    randomness: Randomness,
    *,
    header: Mapping[str, Any] | None = None,  # changed members of the protected header
    epk: Mapping[str, Any] | None = None,  # changed members of the ephemeral public key
    low_order: bool = False,  # use an all-zero ephemeral key, whose shared secret anybody knows
    tag_bytes: int = 16,  # how many are sent
) -> str:
    """Make a compact JWE (docs/protocol.md, "The sealed key"); with changes, one that still decrypts where possible."""
    ephemeral = randomness(32)
    own, shared = x25519_public_key(ephemeral), shared_secret(ephemeral, public_key)
    if low_order:
        own, shared = b64(bytes(32)), bytes(32)
    sent_epk = changed({"kty": "OKP", "crv": "X25519", "x": own}, epk or {})
    full = changed({"alg": "ECDH-ES", "enc": "A256GCM", "epk": sent_epk}, header or {})
    bits = int(full["enc"][1:4])
    key = hashlib.sha256(kdf_input(shared, full["enc"], bits)).digest()[: bits // 8]
    if full.get("zip") == "DEF":
        compressor = zlib.compressobj(wbits=-15)
        plaintext = compressor.compress(plaintext) + compressor.flush()
    protected = b64(json_bytes(full))
    iv = randomness(12)
    encrypted = AESGCM(key).encrypt(iv, plaintext, protected.encode())
    ciphertext, tag = encrypted[:-16], encrypted[-16:][:tag_bytes]
    return ".".join([protected, "", b64(iv), b64(ciphertext), b64(tag)])
