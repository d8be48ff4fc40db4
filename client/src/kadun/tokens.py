"""Signed tokens (JWS in compact form, EdDSA only) and their claims, read by type."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import jwt

from kadun.decoding import decode_base64url, parse_json_object
from kadun.errors import UntrustedAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

AUDIENCE = "kadun-client"
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_JWS = jwt.PyJWS(algorithms=["EdDSA"])


class Claims:
    """The claims of a token whose signature held. Not shown by `repr`: there might be a key in clear."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str:
        """A claim that must be a string."""
        value = self._values.get(name)
        if not isinstance(value, str) or not value:
            raise UntrustedAnswer(f"claim {name} is missing or no string")
        return value

    def boolean(self, name: str) -> bool:
        """A claim that must be true or false, not merely something like it."""
        value = self._values.get(name)
        if not isinstance(value, bool):
            raise UntrustedAnswer(f"claim {name} is missing or no boolean")
        return value

    def seconds(self, name: str) -> float:
        """A claim that must be a NumericDate (RFC 7519, section 2), in seconds since 1970 in UTC."""
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_time(value):
            raise UntrustedAnswer(f"claim {name} is missing or no time")
        return value

    def time(self, name: str) -> datetime:
        """The same as a time with its zone, UTC."""
        return _EPOCH + timedelta(seconds=self.seconds(name))

    def time_or_null(self, name: str) -> datetime | None:
        """A time, or null; the claim itself must be there."""
        if name in self._values and self._values[name] is None:
            return None
        return self.time(name)

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A claim that must be a JSON object."""
        value = self._values.get(name)
        if not isinstance(value, dict):
            raise UntrustedAnswer(f"claim {name} is missing or no object")
        return value

    def sequence(self, name: str) -> Sequence[Any]:
        """A claim that must be a JSON array."""
        value = self._values.get(name)
        if not isinstance(value, list):
            raise UntrustedAnswer(f"claim {name} is missing or no array")
        return value

    def value(self, name: str) -> Any:  # noqa: ANN401 - whatever JSON holds
        """A claim that may be any JSON value, null included, but must be there."""
        if name not in self._values:
            raise UntrustedAnswer(f"claim {name} is missing")
        return self._values[name]

    def require(self, name: str, expected: str) -> None:
        """Insist that a claim is exactly the string `expected`.

        Raises:
            UntrustedAnswer: it is absent or anything else.
        """
        if self.text(name) != expected:
            raise UntrustedAnswer(f"claim {name} is not the one asked for")


def _is_time(value: float) -> bool:
    """Whether datetime can hold it; JSON's 1e999 is infinite."""
    try:
        return math.isfinite(value) and _EPOCH + timedelta(seconds=value) >= _EPOCH
    except OverflowError:
        return False


def key_id(token: str) -> str:
    """The `kid` that a token names. Not yet to be believed: it only says which key to try.

    Raises:
        UntrustedAnswer: this is no compact JWS, or its header names no key.
    """
    kid = _header(token).get("kid")
    if not isinstance(kid, str):
        raise UntrustedAnswer("the token names no key")
    return kid


def verify_token(token: str, key: Ed25519PublicKey, typ: str) -> Claims:
    """Check a token's algorithm, type and signature, and read its claims.

    Raises:
        UntrustedAnswer: any of these fails.
    """
    header = _header(token)
    if header.get("alg") != "EdDSA":
        raise UntrustedAnswer("the token's alg is not EdDSA")
    if header.get("typ") != typ:
        raise UntrustedAnswer(f"the token's typ is not {typ}")
    if "crit" in header or "b64" in header:  # RFC 7515, 4.1.11: extensions that we do not understand
        raise UntrustedAnswer("the token's header has critical extensions")
    try:
        payload = _JWS.decode(token, key, algorithms=["EdDSA"])
    except jwt.PyJWTError:
        payload = None
    if not isinstance(payload, bytes):
        raise UntrustedAnswer("the token's signature is wrong")
    return Claims(parse_json_object(payload, "the token's payload"))


def _header(token: str) -> dict[str, Any]:
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, payload, signature
        raise UntrustedAnswer("the token is no compact JWS")
    header, _payload, _signature = (decode_base64url(part, "a part of the token") for part in parts)
    return parse_json_object(header, "the token's header")
