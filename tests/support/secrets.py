"""Secrets of the tests: the sealing key of their services, and passwords hashed in a thousandth of the memory."""

from argon2 import PasswordHasher

from app.services.operators.passwords import Passwords
from app.tokens.sealing_key import SealingKey

SEALING_KEY = "5a" * 32
SEALING = SealingKey(SEALING_KEY)
PASSWORD = "correct horse battery"
OTHER = "staple, and another one"


def cheap_hasher(time_cost: int = 1) -> PasswordHasher:
    return PasswordHasher(time_cost=time_cost, memory_cost=64, parallelism=1)


CHEAP = cheap_hasher()


class CheapPasswords(Passwords):
    """Notes what was checked: the hash, or None where there was none."""

    def __init__(self, time_cost: int = 1) -> None:
        super().__init__(cheap_hasher(time_cost))
        self.checked: list[str | None] = []

    def matches(self, password_hash: str | None, password: str) -> bool:
        self.checked.append(password_hash)
        return super().matches(password_hash, password)
