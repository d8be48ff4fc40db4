"""Seals secrets under KADUN_SEALING_KEY, so that the database alone yields none of them.

AES-256-GCM. Table and row are associated data: a secret that is copied to another row does not open there.
Without a key, secrets stay in clear, and sealed ones do not open.
"""

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_FORM = "v1."
_NONCE_BYTES = 12


class SealingKeyError(Exception):
    """A sealed secret does not open: the key is another one, or the row was changed."""


class SealingKey:
    """Seals and opens the secrets of rows with a key of 32 bytes, as hexadecimal digits, or None."""

    def __init__(self, key: str | None) -> None:
        self._cipher = None if key is None else AESGCM(bytes.fromhex(key))

    @property
    def is_set(self) -> bool:
        """Whether there is a key, so that secrets are sealed."""
        return self._cipher is not None

    def seal(self, table: str, row: int | str, secret: str) -> str:
        """Return the secret as the database keeps it; one that is sealed already, as it is."""
        if self._cipher is None or secret.startswith(_FORM):
            return secret
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, secret.encode(), _bound_to(table, row))
        return _FORM + base64.urlsafe_b64encode(sealed).decode()

    def open(self, table: str, row: int | str, sealed: str) -> str:
        """Return the secret of what the database has; raise SealingKeyError if it does not open."""
        if not sealed.startswith(_FORM):
            return sealed  # in clear, from before there was a key
        if self._cipher is None:
            raise SealingKeyError("sealed, and KADUN_SEALING_KEY is not set")
        try:
            content = base64.urlsafe_b64decode(sealed[len(_FORM) :])
            opened = self._cipher.decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], _bound_to(table, row))
        except (ValueError, InvalidTag) as error:
            raise SealingKeyError("sealed with another key, or for another row") from error
        return opened.decode()

    def opens(self, table: str, row: int | str, secret: str) -> bool | None:
        """Return whether a sealed secret opens; None of one in clear."""
        if not secret.startswith(_FORM):
            return None
        try:
            self.open(table, row, secret)
        except SealingKeyError:
            return False
        return True


def _bound_to(table: str, row: int | str) -> bytes:
    return f"kadun\n{table}\n{row}".encode()
