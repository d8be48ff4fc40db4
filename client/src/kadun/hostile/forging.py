"""Signing and sealing with nothing held back: any header, any bytes, any key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
import zlib
from typing import TYPE_CHECKING, Any, Callable, Union

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = Union["Mapping[str, Any]", bytes]
Randomness = Callable[[int], bytes]
ABSENT: Any = object()  # as a changed value: leave this member out
_GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493  # RFC 8032, section 5.1
_KEY_BITS = {"A128GCM": 128, "A192GCM": 192, "A256GCM": 256}


def b64(raw: bytes) -> str:
    """Encode as base64url without padding (RFC 7515, section 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def unb64(text: str) -> bytes:
    """Decode base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def json_bytes(value: Json) -> bytes:
    """JSON without white space; what already is bytes stays as it is, however odd."""
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


def changed(original: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The same object with other members; `ABSENT` takes one away."""
    return {name: value for name, value in {**original, **changes}.items() if value is not ABSENT}


def compact(header: Json, payload: Json, sign: Callable[[bytes], bytes]) -> str:
    """A JWS in compact form, over exactly these bytes."""
    signed = f"{b64(json_bytes(header))}.{b64(json_bytes(payload))}"
    return f"{signed}.{b64(sign(signed.encode()))}"


def by_secret(secret: bytes, digest: str) -> Callable[[bytes], bytes]:
    """Sign as HS256 and its kin do."""
    return lambda signed: hmac.new(secret, signed, digest).digest()


class SigningKey:
    """An Ed25519 key pair with its JWK."""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        public = self._private.public_key()
        raw, spki = serialization.PublicFormat.Raw, serialization.PublicFormat.SubjectPublicKeyInfo
        self.raw = public.public_bytes(serialization.Encoding.Raw, raw)
        self.pem = public.public_bytes(serialization.Encoding.PEM, spki)
        self.der = public.public_bytes(serialization.Encoding.DER, spki)
        x = b64(self.raw)
        members = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'  # RFC 7638, section 3
        self.kid = b64(hashlib.sha256(members.encode()).digest())
        self.jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid, "use": "sig", "alg": "EdDSA"}

    def sign(self, signed: bytes) -> bytes:
        """The 64 bytes of an Ed25519 signature."""
        return self._private.sign(signed)

    def malleated(self, signed: bytes) -> bytes:
        """The same signature with the group's order added to S: false since RFC 8032, 5.1.7, true before."""
        signature = self.sign(signed)
        greater = int.from_bytes(signature[32:], "little") + _GROUP_ORDER
        return signature[:32] + greater.to_bytes(32, "little")

    def endorse(self, jwk: Mapping[str, Any], *, header: Mapping[str, Any] | None = None, **changes: Any) -> str:  # noqa: ANN401 - any JSON
        """A `key+jwt` that vouches for another key, changed as told."""
        full = changed({"alg": "EdDSA", "typ": "key+jwt", "kid": self.kid}, header or {})
        return compact(full, changed({"aud": "kadun-client", "iat": 1, "jwk": jwk}, changes), self.sign)


def concat_kdf(shared: bytes, algorithm: str, bits: int, party_u: bytes = b"", party_v: bytes = b"") -> bytes:
    """The key that ECDH-ES derives (RFC 7518, section 4.6.2); one round of SHA-256 is enough for 256 bits."""
    fields = b"".join(struct.pack(">I", len(part)) + part for part in (algorithm.encode(), party_u, party_v))
    return hashlib.sha256(struct.pack(">I", 1) + shared + fields + struct.pack(">I", bits)).digest()[: bits // 8]


def seal(  # noqa: PLR0913 - one for each thing that can be wrong
    plaintext: bytes,
    public_key: str,
    randomness: Randomness,
    *,
    header: Mapping[str, Any] | None = None,
    epk: Mapping[str, Any] | None = None,
    raw_header: Callable[[bytes], bytes] = lambda raw: raw,
    low_order: bool = False,
    iv_bytes: int = 12,
    tag_bytes: int = 16,
) -> str:
    """A compact JWE as PROTOCOL section 3 wants it, or changed as told, and then still one that opens.

    Args:
        plaintext: what is sealed.
        public_key: raw X25519, base64url.
        randomness: where the ephemeral key and the nonce come from.
        header: other members of the protected header.
        epk: other members of the ephemeral public key.
        raw_header: what becomes of the header's bytes before they are protected.
        low_order: an ephemeral key of all zeros, for which anybody knows the shared secret.
        iv_bytes: the length of the nonce.
        tag_bytes: how much of the tag is sent.
    """
    ephemeral = X25519PrivateKey.from_private_bytes(randomness(32))
    own = ephemeral.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(unb64(public_key)))
    if low_order:
        own = shared = bytes(32)
    sent_epk = changed({"kty": "OKP", "crv": "X25519", "x": b64(own)}, epk or {})
    full = changed({"alg": "ECDH-ES", "enc": "A256GCM", "epk": sent_epk}, header or {})
    parties = [unb64(full.get(name, "")) for name in ("apu", "apv")]
    bits = _KEY_BITS.get(full.get("enc", ""), 256)
    wrapped = b""
    if str(full.get("alg")).endswith("A256KW"):
        key = randomness(bits // 8)
        wrapped = aes_key_wrap(concat_kdf(shared, str(full["alg"]), 256, *parties), key)
    else:
        key = concat_kdf(shared, str(full.get("enc")), bits, *parties)
    if full.get("zip") == "DEF":
        squeezer = zlib.compressobj(wbits=-15)
        plaintext = squeezer.compress(plaintext) + squeezer.flush()
    protected = b64(raw_header(json_bytes(full)))
    iv = randomness(iv_bytes)
    encrypted = AESGCM(key).encrypt(iv, plaintext, protected.encode())
    ciphertext, tag = encrypted[:-16], encrypted[-16:][:tag_bytes]
    return ".".join([protected, b64(wrapped), b64(iv), b64(ciphertext), b64(tag)])
