"""Seals the secrets of operators' second factors under KADUN_TOTP_KEY, so that the database alone yields no codes.

AES-256-GCM. The operator's ID is associated data: a secret that is copied to another operator's row does not open.
"""

import base64
import os
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_FORM = "v1."
_PURPOSE = b"kadun-totp\n"
_NONCE_BYTES = 12
_KEY = re.compile("[0-9a-f]{64}")


class SecondFactorError(Exception):
    """A sealed secret does not open: the key is another one, or the row was changed."""


class SecondFactors:
    """Seals and opens secrets.

    Args:
        key: 32 bytes as 64 hexadecimal digits.

    Raises:
        ValueError: the key has another form.
    """

    def __init__(self, key: str) -> None:
        if not _KEY.fullmatch(key):
            raise ValueError("not 64 digits from 0-9 and a-f")
        self._cipher = AESGCM(bytes.fromhex(key))

    def seal(self, operator_id: int, secret: str) -> str:
        """Return the secret as the database keeps it."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, secret.encode(), _bound_to(operator_id))
        return _FORM + base64.urlsafe_b64encode(sealed).decode()

    def open(self, operator_id: int, sealed: str) -> str:
        """Return the secret.

        Raises:
            SecondFactorError: it does not open.
        """
        form, raw = sealed[: len(_FORM)], sealed[len(_FORM) :]
        try:
            content = base64.urlsafe_b64decode(raw)
            if form != _FORM or len(content) <= _NONCE_BYTES:
                raise SecondFactorError("not a sealed secret")
            opened = self._cipher.decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], _bound_to(operator_id))
        except (ValueError, InvalidTag) as error:
            raise SecondFactorError("sealed with another key, or for another operator") from error
        return opened.decode()


def _bound_to(operator_id: int) -> bytes:
    return _PURPOSE + str(operator_id).encode()
