"""A string that is not shown by accident."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """Keeps a string out of `repr`, `str`, `vars`, pickles, and tracebacks that print local variables."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """Return the secret. Do not store it, print it or keep it longer than needed."""
        return self.__value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be copied or pickled")
