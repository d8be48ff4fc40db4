"""Makes age files (https://age-encryption.org/v1) by hand: the same bytes each time, and damaged on demand."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from kadun_conformance.crypto import Randomness

CHUNK = 64 * 1024
Vector = dict[str, Any]


class Seeded:
    """Random-looking bytes, the same for the same name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0

    def __call__(self, size: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"kadun test vectors, {self._name}, {self._count}".encode()).digest(size)


CORE = "核心数据：1 USD = 7.12 CNY\n".encode()
LONG = hashlib.shake_256(b"long").digest(CHUNK + 1)
IDENTITY, OTHER = Seeded("identity")(32), Seeded("other identity")(32)
# The same keys in the form of KERNAL_DATA_KEY.
IDENTITY_BECH32 = "AGE-SECRET-KEY-15WL2R8HQ73EW3EHK8LMXFVJ7PAH8Q78S5N5XCWUU0GQRV2NKLHFQURCM83"
OTHER_BECH32 = "AGE-SECRET-KEY-1AGJYN9XF50Z4H34UC2XQ0K998SMGASAXAXYY464DAYZEJUS9U7KSMC835C"
_VERSION = b"age-encryption.org/v1"


def encrypt(
    plaintext: bytes,
    recipients: list[bytes],
    randomness: Randomness,
    *,
    spoil_header: Callable[[bytes], bytes] = lambda header: header,
) -> bytes:
    """Make an age file for these identities (raw private keys); `spoil_header` changes the header under its MAC."""
    file_key = randomness(16)
    header = _VERSION + b"\n" + b"".join(_stanza(file_key, recipient, randomness) for recipient in recipients) + b"---"
    mac = hmac.digest(_derive(file_key, b"", b"header"), header, "sha256")
    nonce = randomness(16)
    body = _stream(plaintext, _derive(file_key, nonce, b"payload"))
    return spoil_header(header + b" " + _base64(mac) + b"\n") + nonce + body


def _stanza(file_key: bytes, recipient: bytes, randomness: Randomness) -> bytes:
    public = X25519PrivateKey.from_private_bytes(recipient).public_key().public_bytes_raw()
    ephemeral = X25519PrivateKey.from_private_bytes(randomness(32))
    share = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    wrap = ChaCha20Poly1305(_derive(shared, share + public, _VERSION + b"/X25519"))
    return b"-> X25519 %s\n%s\n" % (_base64(share), _base64(wrap.encrypt(bytes(12), file_key, None)))


def _stream(plaintext: bytes, key: bytes) -> bytes:
    pieces = [plaintext[start : start + CHUNK] for start in range(0, len(plaintext), CHUNK)] or [b""]
    cipher = ChaCha20Poly1305(key)
    nonces = (count.to_bytes(11, "big") + bytes([count == len(pieces) - 1]) for count in range(len(pieces)))
    return b"".join(cipher.encrypt(nonce, piece, None) for nonce, piece in zip(nonces, pieces, strict=True))


def _derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, info).derive(secret)


def _base64(raw: bytes) -> bytes:
    return base64.b64encode(raw).rstrip(b"=")


def _file(name: str, plaintext: bytes = CORE, recipients: tuple[bytes, ...] = (IDENTITY,), **more: Any) -> bytes:
    return encrypt(plaintext, list(recipients), Seeded(f"age {name}"), **more)


def _good() -> dict[str, tuple[str, bytes, bytes]]:
    return {
        "one recipient": (IDENTITY_BECH32, _file("one"), CORE),
        "two recipients": (IDENTITY_BECH32, _file("two", recipients=(OTHER, IDENTITY)), CORE),
        "several identities": (f"{OTHER_BECH32}\r\n# 注释\n {IDENTITY_BECH32} \n", _file("several"), CORE),
        "nothing inside": (IDENTITY_BECH32, _file("empty", b""), b""),
        "exactly one chunk": (IDENTITY_BECH32, _file("chunk", LONG[:-1]), LONG[:-1]),
        "two chunks": (IDENTITY_BECH32, _file("chunks", LONG), LONG),
    }


def _bad() -> dict[str, tuple[str, bytes]]:
    whole = _file("bad")
    return {
        "another identity": (OTHER_BECH32, whole),
        "no identity at all": ("卖家自己的密钥", whole),
        "a mistyped identity": (IDENTITY_BECH32[:-1] + _another(IDENTITY_BECH32[-1]), whole),
        "the last byte missing": (IDENTITY_BECH32, whole[:-1]),
        "a byte too many": (IDENTITY_BECH32, whole + b"\0"),
        "one bit changed": (IDENTITY_BECH32, whole[:-1] + bytes([whole[-1] ^ 1])),
        "the MAC of the header changed": (IDENTITY_BECH32, _file("mac", spoil_header=_with_other_mac)),
        "the header changed under its MAC": (IDENTITY_BECH32, _file("stanza", spoil_header=_with_grease)),
        "another version": (IDENTITY_BECH32, whole.replace(_VERSION, b"age-encryption.org/v2")),
        "the last chunk missing": (IDENTITY_BECH32, _file("chunks cut", LONG)[: -(16 + 1)]),
        "no age file": (IDENTITY_BECH32, b"PK\x03\x04"),
        "empty": (IDENTITY_BECH32, b""),
    }


def _another(letter: str) -> str:
    return "Q" if letter != "Q" else "P"


def _with_other_mac(header: bytes) -> bytes:
    return header[:-10] + _another(header[-10:-9].decode()).encode() + header[-9:]


def _with_grease(header: bytes) -> bytes:
    return header.replace(b"\n---", b"\n-> grease x\n\n---")


def age_files() -> Iterator[Vector]:
    """Return sealed core data, good and damaged, with KERNAL_DATA_KEY."""
    good = {name: (key, content, _opened(plaintext)) for name, (key, content, plaintext) in _good().items()}
    bad = {name: (key, content, {"expected": "refused"}) for name, (key, content) in _bad().items()}
    for name, (key, content, expected) in {**good, **bad}.items():
        yield {"name": name, "data_key": key, "file_base64": base64.b64encode(content).decode(), **expected}


def _opened(plaintext: bytes) -> Vector:
    digest = hashlib.sha256(plaintext).hexdigest()
    return {"expected": "opened", "plaintext_sha256": digest, "plaintext_bytes": len(plaintext)}
