"""Functions that run on the server (PROTOCOL section 3, "Server-side core functions")."""

from __future__ import annotations

import json
from typing import Any, Callable, TypeVar

from kadun.errors import ServerUnreachable

_Result = TypeVar("_Result")


def checked(arguments: object) -> dict[str, Any]:
    """The arguments, sure to be a JSON object that means the same on the server.

    Raises:
        ValueError: they are none: no dict, a key that is no string, NaN, a lone surrogate, an object of Python's, …
    """
    if not isinstance(arguments, dict):
        raise ValueError(f"arguments must be a dict, a JSON object; not {type(arguments).__name__}")  # noqa: TRY004
    try:
        _check_keys(arguments)
        json.dumps(arguments, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as failure:
        raise ValueError(f"arguments cannot be written as JSON: {_without_values(failure)}") from None
    return arguments


def at_most_once(attempt: Callable[[], _Result]) -> Callable[[], _Result]:
    """The same attempt, not to be made again once the server may have got it: the function may have run."""

    def guarded() -> _Result:
        try:
            return attempt()
        except ServerUnreachable as failure:
            failure.passing = failure.passing and not failure.sent
            raise

    return guarded


def after_sending(attempt: Callable[[], _Result]) -> _Result:
    """What follows an answer: its failure is never one of which `sent` says that the function did not run."""
    try:
        return attempt()
    except ServerUnreachable as failure:
        failure.sent = True
        raise


def _check_keys(value: object) -> None:
    """Python would write the key 1 as "1" and True as "true" without a word."""
    if isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str):
                raise TypeError("a key is no string")
            _check_keys(member)
    elif isinstance(value, (list, tuple)):
        for element in value:
            _check_keys(element)


def _without_values(failure: Exception) -> str:
    """What is wrong; an encoding error would quote the arguments, which are the customer's."""
    if isinstance(failure, UnicodeError):
        return "a text that UTF-8 cannot write"
    return "nested too deeply" if isinstance(failure, RecursionError) else str(failure)
