"""Calls of functions on the server (PROTOCOL section 3, "Server-side core functions")."""

from __future__ import annotations

import json
from typing import Any, Callable, TypeVar

from kadun.errors import ServerUnreachable

_Result = TypeVar("_Result")


def checked(arguments: object) -> dict[str, Any]:
    """Return the arguments if JSON represents them without loss.

    Raises:
        ValueError: not a dict, or it contains a key that is not a string, NaN, a lone surrogate, another type, …
    """
    if not isinstance(arguments, dict):
        raise ValueError(f"arguments must be a dict, a JSON object; not {type(arguments).__name__}")  # noqa: TRY004
    try:
        _check_keys(arguments)
        json.dumps(arguments, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as failure:
        raise ValueError(f"arguments cannot be written as JSON: {_without_values(failure)}") from None
    return arguments


def after_sending(attempt: Callable[[], _Result]) -> _Result:
    """Make an attempt that follows an answer: in its failure `sent` is always true, since the function may have run."""
    try:
        return attempt()
    except ServerUnreachable as failure:
        failure.sent = True
        raise


def _check_keys(value: object) -> None:
    """Refuse keys that are not strings: `json` would write the key 1 as "1" and True as "true"."""
    if isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str):
                raise TypeError("a key is not a string")
            _check_keys(member)
    elif isinstance(value, (list, tuple)):
        for element in value:
            _check_keys(element)


def _without_values(failure: Exception) -> str:
    """Describe the failure; the text of an encoding error would quote the customer's arguments."""
    if isinstance(failure, UnicodeError):
        return "a string that UTF-8 cannot encode"
    return "nested too deeply" if isinstance(failure, RecursionError) else str(failure)
