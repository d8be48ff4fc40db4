"""A request to the server, created anew for each try."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass, field, replace
from typing import Any

from kadun.errors import RequestRefused

OPEN = "打开程序"  # the only function that grants the key
_NONCE_BYTES = 24
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_LONGEST_VERSION = 32


def _fresh_nonce() -> str:
    return secrets.token_urlsafe(_NONCE_BYTES)


@dataclass(frozen=True)
class VerificationRequest:
    """What is sent to the server, and what its answer must refer to."""

    card_id: str
    hardware: str
    function: str
    client_public_key: str | None = None
    nonce: str = field(default_factory=_fresh_nonce)
    arguments: dict[str, Any] | None = field(default=None, repr=False)
    body_sha256: str | None = None  # None for a stored verdict of a release that did not keep it: then not compared
    version: str | None = None

    @property
    def hardware_sha256(self) -> str:
        """The hex digest that the answer must contain."""
        return hashlib.sha256(utf8("hardware", self.hardware)).hexdigest()

    def body(self) -> bytes:
        """Return the body of the request."""
        fields: dict[str, Any] = {
            "card_id": self.card_id,
            "hardware": self.hardware,
            "function": self.function,
            "nonce": self.nonce,
        }
        if self.version is not None:
            fields["version"] = self.version
        if self.client_public_key is not None:
            fields["client_public_key"] = self.client_public_key
        if self.arguments is not None:
            fields["arguments"] = self.arguments
        return json_body(fields)

    def sent_as(self, body: bytes) -> VerificationRequest:
        """Return the request with the digest of its body. The arguments may change afterwards, so it is not remade."""
        return replace(self, body_sha256=hashlib.sha256(body).hexdigest())


def json_body(fields: dict[str, Any]) -> bytes:
    """Return the body of a request with these fields: strings, and arguments of `checked_arguments`."""
    for name, value in fields.items():
        if not isinstance(value, dict):
            utf8(name, value)
    return json.dumps(fields, allow_nan=False).encode("ascii")


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
