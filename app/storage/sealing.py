"""What seals secrets while migrations run: storage knows no key."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SealSecret = Callable[[int, str], str]
"""Takes an operator's ID and a secret in clear, and returns what the database keeps."""

_SEAL: ContextVar[SealSecret] = ContextVar("seal_secret")


@contextmanager
def sealing_with(seal: SealSecret) -> Iterator[None]:
    """Seal secrets so until the end."""
    token = _SEAL.set(seal)
    try:
        yield
    finally:
        _SEAL.reset(token)


def seal_secret(operator_id: int, secret: str) -> str:
    """Return the sealed secret of an operator."""
    return _SEAL.get()(operator_id, secret)
