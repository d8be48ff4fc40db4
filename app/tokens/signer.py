"""Signing with the current key of a ring that may be rotated while the service runs."""

import base64
import logging
import time
from collections.abc import Hashable
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.domain.errors import UnavailableError
from app.tokens.keyring import KeyRingError, KeyStore
from app.tokens.keys import ALGORITHM, KeyRing, KeyState

VERDICT_TYPE = "verdict+jwt"
LINK_TYPE = "download+jwt"

_SECONDS_BETWEEN_CHECKS = 0.5
logger = logging.getLogger(__name__)


class PublicKey(NamedTuple):
    """The public facts of a key; `is_published` tells whether it is in the JWK set."""

    kid: str
    state: KeyState
    created_at: datetime
    retired_at: datetime | None
    is_published: bool


class _Loaded(NamedTuple):
    ring: KeyRing
    key: Ed25519PrivateKey
    version: Hashable
    headers: dict[str, bytes]


class Signer:
    """Signs verdicts and links, and checks twice a second whether the key ring was rotated.

    A new ring that is damaged or unreadable is logged, and the old one stays in use. Without a usable key ring the
    constructor raises KeyRingError. Where the keys are in a database that is away then, each use tries again, and
    raises UnavailableError.
    """

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._check_again_at = 0.0
        self._loaded: _Loaded | None = None
        with suppress(UnavailableError):
            self._loaded = self._load()

    def sign(self, kind: str, claims: dict[str, Any]) -> str:
        """Return the claims as a compact JWS of a type, `VERDICT_TYPE` or `LINK_TYPE`."""
        # RFC 7515, section 3.1, without PyJWT: it would cost as much again as the signature in every request. The
        # header changes only with the key.
        loaded = self._current()
        signed = loaded.headers[kind] + b"." + _base64url(msgspec.json.encode(claims))
        return (signed + b"." + _base64url(loaded.key.sign(signed))).decode("ascii")

    def key_set(self, now: datetime) -> dict[str, Any]:
        """Return the published JWK set (RFC 7517) with its `endorsements`."""
        ring = self._current().ring
        return {"keys": ring.published(now), "endorsements": list(ring.endorsements)}

    def public_keys(self, now: datetime) -> list[PublicKey]:
        """Return the public side of all keys, oldest first."""
        ring = self._current().ring
        published = ring.published(now)
        return [
            PublicKey(key.kid, ring.state(key), key.created_at, key.retired_at, key.public in published)
            for key in ring.keys
        ]

    def pinned(self) -> list[dict[str, str]]:
        """Return the public JWKs that clients ship with."""
        return self._current().ring.pinned

    def _current(self) -> _Loaded:
        # Two threads may check at once; each assigns a complete object, so that none sees a partial one.
        loaded = self._loaded
        if loaded is None:
            try:
                loaded = self._loaded = self._load()
            except KeyRingError as error:
                raise UnavailableError(str(error)) from error
        if time.monotonic() >= self._check_again_at:
            self._check_again_at = time.monotonic() + _SECONDS_BETWEEN_CHECKS
            try:
                version = self._store.version()
                if version != loaded.version:
                    before, loaded = loaded, self._load(version)
                    self._loaded = loaded
                    if loaded.ring != before.ring:
                        logger.info("signing key taken up", extra={"kid": loaded.ring.current.kid})
            except (KeyRingError, UnavailableError) as error:
                logger.warning("the signing keys cannot be read again", extra={"reason": str(error)})
        return loaded

    def _load(self, version: Hashable = None) -> _Loaded:
        # Without a version it is loaded again at the first use: before the fork, nothing may begin to follow the store.
        ring = self._store.load()
        headers = {kind: _header(kind, ring.current.kid) for kind in (VERDICT_TYPE, LINK_TYPE)}
        return _Loaded(ring, ring.current.signing_key(), version, headers)


def _header(kind: str, kid: str) -> bytes:
    return _base64url(msgspec.json.encode({"alg": ALGORITHM, "typ": kind, "kid": kid}))


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
