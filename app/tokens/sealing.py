"""Sealing KERNAL_DATA_KEY to a client's ephemeral key (JWE), and files to KERNAL_DATA_KEY (age)."""

import base64
from typing import IO

import pyrage
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from joserfc import jwe
from joserfc.jwk import OKPKey

from app.domain.texts import RefusedError

PUBLIC_KEY_CHARACTERS = 43  # 32 bytes in base64url without padding


class NoRecipientError(RefusedError):
    """KERNAL_DATA_KEY is not an age identity, so that nothing can be sealed to it."""

    def __init__(self) -> None:
        super().__init__(
            "数据密钥不是 age 密钥，请用您自己的工具加密",
            "the data key is a key of your own scheme, no age identity (AGE-SECRET-KEY-1…): seal with your own tool",
        )


class NotSealedToError(ValueError):
    """The text is not sealed to this age identity."""


def check_public_key(text: str) -> None:
    """Raise ValueError for a text that is not a raw X25519 public key in base64url.

    A point of low order makes every shared secret the same, known to anyone (RFC 7748, section 6.1).
    """
    raw = base64.urlsafe_b64decode(text + "=")
    if len(text) != PUBLIC_KEY_CHARACTERS or base64.urlsafe_b64encode(raw).decode() != text + "=":
        raise ValueError("not 32 bytes in canonical base64url")
    X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(raw))  # which refuses such a point


def seal_to(public_key: str, plaintext: str) -> str:
    """Seal a text to a checked public key: a compact JWE, ECDH-ES over X25519 (RFC 8037), A256GCM."""
    recipient = OKPKey.import_key({"kty": "OKP", "crv": "X25519", "x": public_key})
    return jwe.encrypt_compact({"alg": "ECDH-ES", "enc": "A256GCM"}, plaintext.encode(), recipient)


def age_recipient(kernal_data_key: str) -> pyrage.x25519.Recipient:
    """Return the recipient that files are sealed to: that of the first identity in KERNAL_DATA_KEY."""
    first = kernal_data_key.strip().splitlines()[0].strip()
    try:
        return pyrage.x25519.Identity.from_str(first).to_public()
    except pyrage.IdentityError as error:
        raise NoRecipientError from error


def is_identity(line: str) -> bool:
    """Tell whether a line of KERNAL_DATA_KEY is an age identity."""
    try:
        age_recipient(line)
    except NoRecipientError:
        return False
    return True


def seal_file(source: IO[bytes], target: IO[bytes], recipient: pyrage.x25519.Recipient) -> None:
    """Write `source` to `target` as an age file, block by block."""
    pyrage.encrypt_io(source, target, [recipient])


def seal_bytes(content: bytes, recipient: pyrage.x25519.Recipient) -> bytes:
    """Return content as an age file."""
    return bytes(pyrage.encrypt(content, [recipient]))


def seal_text(content: bytes, identity: str) -> str:
    """Return content as an armored age file that only this age identity opens."""
    recipient = pyrage.x25519.Identity.from_str(identity).to_public()
    return str(pyrage.encrypt(content, [recipient], armored=True), "ascii")


def unseal_text(sealed: str, identity: str) -> bytes:
    """Return the content of what `seal_text` returned; raise NotSealedToError if the identity does not open it."""
    try:
        return bytes(pyrage.decrypt(sealed.encode(), [pyrage.x25519.Identity.from_str(identity)]))
    except (pyrage.IdentityError, pyrage.DecryptError) as error:
        raise NotSealedToError(str(error)) from error
