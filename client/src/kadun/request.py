"""Requests: what is sent to the server, and what its answer must refer to."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from kadun.errors import RequestRefused

OPEN = "打开程序"  # the only function that grants the key
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_LONGEST_VERSION = 32


@dataclass(frozen=True)
class VerificationRequest:
    """What the answer to a request must refer to."""

    card_id: str
    hardware: str
    function: str
    nonce: str
    body_sha256: str | None  # None for a stored verdict of a release that did not keep it: then not compared

    @property
    def hardware_sha256(self) -> str:
        """The hex digest that the answer must contain."""
        return hashlib.sha256(utf8("hardware", self.hardware)).hexdigest()


def json_body(fields: dict[str, Any]) -> bytes:
    """Return the body of a request with these fields, without those that are None: strings, and checked arguments."""
    given = {name: value for name, value in fields.items() if value is not None}
    for name, value in given.items():
        if not isinstance(value, dict):
            utf8(name, value)
    return json.dumps(given, allow_nan=False).encode("ascii")


def checked_version(version: str | None) -> str | None:
    """Return the version of a program, if it is as the server accepts it."""
    if version is not None and not (
        isinstance(version, str) and len(version) <= _LONGEST_VERSION and _VERSION.fullmatch(version)
    ):
        raise ValueError(
            f'version must be dotted numbers such as "1.4", at most {_LONGEST_VERSION} characters; not {version!r}'
        )
    return version


def checked_arguments(arguments: object) -> dict[str, Any]:
    """Return the arguments of a function if JSON represents them without loss."""
    if not isinstance(arguments, dict):
        raise ValueError(f"arguments must be a dict, a JSON object; not {type(arguments).__name__}")  # noqa: TRY004
    try:
        _check_keys(arguments)
        json.dumps(arguments, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except UnicodeError:  # its text would quote the customer's arguments
        why = "a string that UTF-8 cannot encode"
    except RecursionError:
        why = "nested too deeply"
    except (TypeError, ValueError) as failure:
        why = str(failure)
    else:
        return arguments
    raise ValueError(f"arguments cannot be written as JSON: {why}")


def _check_keys(value: object) -> None:
    if isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str):  # `json` would write the key 1 as "1" and True as "true"
                raise TypeError("a key is not a string")
            _check_keys(member)
    elif isinstance(value, (list, tuple)):
        for element in value:
            _check_keys(element)


def utf8(name: str, value: str) -> bytes:
    """Encode a field of a request, unless it contains lone surrogates (of a terminal with a wrong encoding, say)."""
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        raise RequestRefused("INVALID_REQUEST", f"{name} cannot be encoded in UTF-8") from None
