"""Verifies signed tokens (compact JWS, EdDSA only) and reads their claims by type."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from kadun.decoding import decode_base64url, parse_json_object
from kadun.errors import UntrustedAnswer

AUDIENCE = "kadun-client"
_KINDS: dict[type[Any], str] = {str: "a string", bool: "a boolean", dict: "an object", list: "an array"}
_Value = TypeVar("_Value")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_JWS = jwt.PyJWS(algorithms=["EdDSA"])


class Claims:
    """The claims of a token with a valid signature. `repr` does not show them: they may contain a key in clear."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def of(self, name: str, kind: type[_Value]) -> _Value:
        """Return a claim that must have this JSON type. A boolean is `true` or `false`, not 1 or a string."""
        value = self._values.get(name)
        if not isinstance(value, kind):
            raise UntrustedAnswer(f"claim {name} is missing or not {_KINDS[kind]}")
        return value

    def text(self, name: str) -> str:
        """Return a claim that must be a non-empty string."""
        if not self._values.get(name):
            raise UntrustedAnswer(f"claim {name} is missing or not {_KINDS[str]}")
        return self.of(name, str)

    def seconds(self, name: str) -> float:
        """Return a claim that must be a NumericDate (RFC 7519, section 2), in seconds since 1970."""
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_time(value):
            raise UntrustedAnswer(f"claim {name} is missing or not a time")
        return value

    def time(self, name: str) -> datetime:
        """Return a NumericDate claim as a datetime in UTC."""
        return _EPOCH + timedelta(seconds=self.seconds(name))

    def time_or_null(self, name: str) -> datetime | None:
        """Return a NumericDate claim as a datetime, or None for null; the claim must be present."""
        if name in self._values and self._values[name] is None:
            return None
        return self.time(name)

    def value(self, name: str) -> Any:  # noqa: ANN401 - any JSON value
        """Return a claim that may be any JSON value, including null, but must be present."""
        if name not in self._values:
            raise UntrustedAnswer(f"claim {name} is missing")
        return self._values[name]

    def require(self, name: str, expected: str) -> None:
        """Check that a claim is the string `expected`."""
        if self.text(name) != expected:
            raise UntrustedAnswer(f"claim {name} is not the one requested")


def _is_time(value: float) -> bool:
    try:  # whether a datetime can represent it
        return _EPOCH + timedelta(seconds=value) >= _EPOCH
    except (OverflowError, ValueError):  # JSON's 1e999 is infinite
        return False


def key_id(token: str) -> str:
    """Return the `kid` of a token. It is unverified: it only selects the key to verify with."""
    kid = _header(token).get("kid")
    if not isinstance(kid, str):
        raise UntrustedAnswer("the token has no kid")
    return kid


def verify_token(token: str, key: Ed25519PublicKey, typ: str) -> Claims:
    """Verify the algorithm, type and signature of a token, and return its claims."""
    header = _header(token)
    if header.get("alg") != "EdDSA":
        raise UntrustedAnswer("the token's alg is not EdDSA")
    if header.get("typ") != typ:
        raise UntrustedAnswer(f"the token's typ is not {typ}")
    if "crit" in header or "b64" in header:  # RFC 7515, 4.1.11: extensions that this client does not understand
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
        raise UntrustedAnswer("the token is not a compact JWS")
    header, _payload, _signature = (decode_base64url(part, "a part of the token") for part in parts)
    return parse_json_object(header, "the token's header")
