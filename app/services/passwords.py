"""Operators' passwords: argon2id (RFC 9106, its second recommended choice: 64 MiB), one hash at a time in a process."""

import threading
import unicodedata
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_bytes

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from app.domain.texts import RefusedError

WAIT_SECONDS = 5.0
STRANGERS = 2


class LoginBusyError(RefusedError):
    """Passwords are being hashed already; the caller may try again in a second."""

    def __init__(self) -> None:
        super().__init__("登录请求过多，请稍后再试", "too many people are logging in: try again in a moment")


class Passwords:
    """Hashes and checks passwords. A hash takes 64 MiB, so that only one is made at a time.

    Args:
        hasher: What hashes; its parameters are those of every new hash.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._hashing = threading.RLock()
        # However many strangers come, few wait: neither the threads nor a known browser's turn are theirs to take.
        self._strangers = threading.BoundedSemaphore(STRANGERS)
        self._decoy = self._hash_of_nothing()

    @contextmanager
    def turn(self, *, known: bool) -> Iterator[None]:
        """Hold the one place where a password may be hashed.

        Args:
            known: Whether who asks is no stranger, and so never queues up behind strangers.

        Raises:
            LoginBusyError: it did not become free in `WAIT_SECONDS`, or `STRANGERS` others are waiting.
        """
        if not known and not self._strangers.acquire(blocking=False):
            raise LoginBusyError
        try:
            if not self._hashing.acquire(timeout=WAIT_SECONDS):
                raise LoginBusyError
            try:
                yield
            finally:
                self._hashing.release()
        finally:
            if not known:
                self._strangers.release()

    def hash(self, password: str) -> str:
        """Return the hash of a password, with its salt and parameters.

        Raises:
            LoginBusyError: see `turn`.
        """
        with self.turn(known=True):
            return self._hasher.hash(_encoded(password))

    def matches(self, password_hash: str | None, password: str) -> bool:
        """Tell whether this is the password; without a hash it takes as long and is not.

        Raises:
            LoginBusyError: see `turn`.
        """
        with self.turn(known=True):
            try:
                return self._hasher.verify(password_hash or self._decoy, _encoded(password))
            except VerifyMismatchError:
                return False

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether the hash has other parameters than new ones."""
        return self._hasher.check_needs_rehash(password_hash)

    def _hash_of_nothing(self) -> str:
        """Return what no password matches, with the parameters of real hashes: an unknown name costs the same."""
        hasher = self._hasher
        salt, digest = (b64encode(token_bytes(n)).decode().rstrip("=") for n in (hasher.salt_len, hasher.hash_len))
        return f"$argon2id$v=19$m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}${salt}${digest}"


PASSWORDS = Passwords()
"""This process's one: the memory is the process's."""


def _encoded(password: str) -> bytes:
    # As NIST SP 800-63B has it: another keyboard may compose the same letters from other characters.
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
