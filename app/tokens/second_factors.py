"""Seals the secrets of operators' second factors under KADUN_TOTP_KEY, so that the database alone yields no codes.

AES-256-GCM. The operator's ID is associated data: a secret that is copied to another operator's row does not open.
Without a key, secrets stay in clear, and sealed ones do not open.
"""

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.domain.operators import TOTP_KEY

_FORM = "v1."
_NONCE_BYTES = 12


class SecondFactorError(Exception):
    """A sealed secret does not open: the key is another one, or the row was changed."""


class SecondFactors:
    """Seals and opens secrets; `purpose` keeps those of one kind from opening as another's.

    Args:
        key: 32 bytes as 64 hexadecimal digits, or None.

    Raises:
        ValueError: the key has another form.
    """

    purpose = b"kadun-totp\n"

    def __init__(self, key: str | None) -> None:
        if key is not None and not TOTP_KEY.fullmatch(key):
            raise ValueError("not 64 digits from 0-9 and a-f")
        self._cipher = None if key is None else AESGCM(bytes.fromhex(key))

    def seal(self, operator_id: int, secret: str) -> str:
        """Return the secret as the database keeps it; one that is sealed already, as it is."""
        if self._cipher is None or secret.startswith(_FORM):
            return secret
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, secret.encode(), self._bound_to(operator_id))
        return _FORM + base64.urlsafe_b64encode(sealed).decode()

    def open(self, operator_id: int, sealed: str) -> str:
        """Return the secret of what the database has.

        Raises:
            SecondFactorError: it does not open.
        """
        if not sealed.startswith(_FORM):
            return sealed  # in clear, from before there was a key
        if self._cipher is None:
            raise SecondFactorError("sealed, and KADUN_TOTP_KEY is not set")
        try:
            content = base64.urlsafe_b64decode(sealed[len(_FORM) :])
            opened = self._cipher.decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], self._bound_to(operator_id))
        except (ValueError, InvalidTag) as error:
            raise SecondFactorError("sealed with another key, or for another operator") from error
        return opened.decode()

    def opens(self, operator_id: int, secret: str) -> bool | None:
        """Return whether a sealed secret opens; None of one in clear."""
        if not secret.startswith(_FORM):
            return None
        try:
            self.open(operator_id, secret)
        except SecondFactorError:
            return False
        return True

    def _bound_to(self, operator_id: int) -> bytes:
        return self.purpose + str(operator_id).encode()
