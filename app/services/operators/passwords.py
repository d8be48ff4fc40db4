"""Hashes of operators' passwords: argon2id (RFC 9106, second recommended option: 64 MiB), one at a time."""

import os
import threading
import unicodedata
from _thread import get_native_id
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from secrets import token_bytes
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from gevent.threadpool import ThreadPool

from app.domain.operators.operators import MAX_PASSWORD
from app.domain.texts import LaterError

WAIT_SECONDS, MAX_WAITING = 20.0, 10
_NICENESS = 19
"""Of the threads that hash: customers' programs start meanwhile."""
Result = TypeVar("Result")


class LoginBusyError(LaterError):
    """Other passwords are being hashed."""

    def __init__(self) -> None:
        super().__init__(2, "登录请求过多，请稍后再试", "too many people are logging in: try again in a moment")


class Passwords:
    """Hashes and checks passwords. A hash takes 64 MiB, so that a process makes one at a time, within a `turn`."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._hashing = threading.Lock()
        self._waiting = 0
        self._thread: ThreadPool | None = None
        self._decoy = self._hash_decoy()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold this process's turn to hash a password; raise LoginBusyError if it does not come in `WAIT_SECONDS`."""
        if self._waiting >= MAX_WAITING:
            raise LoginBusyError
        self._waiting += 1
        try:
            is_taken = self._hashing.acquire(timeout=WAIT_SECONDS)
        finally:
            self._waiting -= 1
        if not is_taken:
            raise LoginBusyError
        try:
            yield
        finally:
            self._hashing.release()

    def hash(self, password: str) -> str:
        """Return the hash of a password, with salt and parameters; within a turn."""
        return self._in_background(lambda: self._hasher.hash(_encoded(password)))

    def matches(self, password_hash: str | None, password: str) -> bool:
        """Return whether the password matches, within a turn; without a hash the answer is no and takes as long."""
        # A longer text is never a password. It is cut, since normalising takes quadratic time.
        possible = password_hash if len(password) <= MAX_PASSWORD else None
        encoded = _encoded(password[:MAX_PASSWORD])

        def verify() -> bool:  # its thread would print what it raises
            try:
                return self._hasher.verify(possible or self._decoy, encoded)
            except VerifyMismatchError:
                return False

        return self._in_background(verify)

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether the hash has other parameters than new ones."""
        return self._hasher.check_needs_rehash(password_hash)

    def _in_background(self, work: Callable[[], Result]) -> Result:
        if self._thread is None:  # after the fork
            self._thread = ThreadPool(1)
        result: Result = self._thread.apply(_at_low_priority, (work,))
        return result

    def _hash_decoy(self) -> str:
        """Return a hash that no password matches, with the parameters of real hashes."""
        hasher = self._hasher
        salt, digest = (b64encode(token_bytes(n)).decode().rstrip("=") for n in (hasher.salt_len, hasher.hash_len))
        return f"$argon2id$v=19$m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}${salt}${digest}"


PASSWORDS = Passwords()
"""One for the process, which has memory for one hash."""


def _at_low_priority(work: Callable[[], Result]) -> Result:
    os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICENESS)  # argon2's own threads inherit it
    return work()


def _encoded(password: str) -> bytes:
    # NIST SP 800-63B: keyboards compose the same letters from different characters.
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
