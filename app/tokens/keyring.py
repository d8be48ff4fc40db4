"""The key ring: Ed25519 keys on disk, rotated without a gap (protocol, section 3, "Keys").

One file, `keyring.json`, mode 0600, replaced whole by rename. Keys stand in their order of birth: retired
ones (public halves only), the current one, the next. The next is published before it signs, and endorsed by the
one before it, so that clients find their way from any key that they once pinned.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import OKPKey
from jwt.types import Options

AUDIENCE = "kadun-client"
ENDORSEMENT_TYPE = "key+jwt"
ALGORITHM = "EdDSA"
RETIRED_FOR = timedelta(minutes=15)
"""So long a retired key is still published: longer than any verdict lives."""

FILE = "keyring.json"


class KeyState(StrEnum):
    """What a key of the ring does: it signs no more, it signs, or it will after the next rotation."""

    RETIRED = "retired"
    CURRENT = "current"
    NEXT = "next"


class KeyRingError(Exception):
    """The key ring is missing, unreadable or damaged. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key: `public` is its public JWK, `private` the secret half in base64url, None once retired."""

    public: dict[str, str]
    private: str | None
    created_at: str
    retired_at: str | None = None

    @property
    def kid(self) -> str:
        """The RFC 7638 thumbprint."""
        return self.public["kid"]

    def __repr__(self) -> str:
        return f"Key({self.kid})"

    def signing_key(self) -> Ed25519PrivateKey:
        """Return the private key object."""
        jwk = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": self.public["x"], "d": self.private or ""})
        private = jwk.private_key
        if not isinstance(private, Ed25519PrivateKey):
            raise TypeError(f"{self.kid} is no Ed25519 private key")
        return private


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys at one moment: all but the last two are retired, the last but one signs, the last is next."""

    keys: tuple[Key, ...]
    endorsements: tuple[str, ...]

    @property
    def current(self) -> Key:
        """The key that signs."""
        return self.keys[-2]

    @property
    def pinned(self) -> list[dict[str, str]]:
        """The public JWKs that a client is to ship with: current and next."""
        return [key.public for key in self.keys[-2:]]

    def state(self, key: Key) -> KeyState:
        """Return what one of its keys does."""
        if key.retired_at is not None:
            return KeyState.RETIRED
        return KeyState.CURRENT if key.kid == self.current.kid else KeyState.NEXT

    def published(self, now: datetime) -> list[dict[str, str]]:
        """Return the public JWKs: lately retired, current, next."""
        oldest = now - RETIRED_FOR
        return [
            key.public for key in self.keys if key.retired_at is None or datetime.fromisoformat(key.retired_at) > oldest
        ]

    def rotated(self, now: datetime) -> "KeyRing":
        """Return the ring with the next key signing, a new next one endorsed, and the old secret gone."""
        retired = replace(self.current, private=None, retired_at=now.isoformat())
        current, coming = self.keys[-1], _generate(now)
        return KeyRing(
            (*self.keys[:-2], retired, current, coming),
            (*self.endorsements, _endorse(current, coming, now)),
        )


def _generate(now: datetime) -> Key:
    jwk = OKPKey.generate_key("Ed25519", private=True)
    exported = jwk.as_dict(private=True)
    public = {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": str(exported["x"]),
        "kid": jwk.thumbprint(),
        "use": "sig",
        "alg": ALGORITHM,
    }
    return Key(public, str(exported["d"]), now.isoformat())


def _endorse(signer: Key, endorsed: Key, now: datetime) -> str:
    claims = {"aud": AUDIENCE, "iat": int(now.timestamp()), "jwk": endorsed.public}
    headers = {"typ": ENDORSEMENT_TYPE, "kid": signer.kid}
    return jwt.encode(claims, signer.signing_key(), algorithm=ALGORITHM, headers=headers)


def load(folder: Path) -> KeyRing:
    """Read the key ring.

    Raises:
        KeyRingError: there is none, or it cannot be read, or it is damaged.
    """
    path = folder / FILE
    try:
        stored = json.loads(path.read_bytes())
        ring = KeyRing(tuple(Key(**key) for key in stored["keys"]), tuple(stored["endorsements"]))
        _check(ring)
    except OSError as error:
        raise KeyRingError(f"cannot read the signing keys {path}: {error.strerror}") from error
    except Exception as error:
        raise KeyRingError(f"the signing keys {path} are damaged: restore them from a backup") from error
    return ring


def _check(ring: KeyRing) -> None:
    # All that is relied on later, so that a running service never takes up a damaged ring.
    options = Options(verify_iat=False)  # a clock set back is no damage
    for (signer, endorsed), endorsement in zip(pairwise(ring.keys), ring.endorsements, strict=True):
        public = jwt.PyJWK(signer.public).key
        claims = jwt.decode(endorsement, public, algorithms=[ALGORITHM], audience=AUDIENCE, options=options)
        if claims["jwk"] != endorsed.public or jwt.get_unverified_header(endorsement)["kid"] != signer.kid:
            raise ValueError("an endorsement is of another key")
    for key in ring.keys:
        datetime.fromisoformat(key.retired_at or key.created_at)
    for key in (ring.current, ring.keys[-1]):
        jwt.PyJWK(key.public).key.verify(key.signing_key().sign(b"check"), b"check")


def exists(folder: Path) -> bool:
    """Tell whether there is a key ring in the folder."""
    return (folder / FILE).exists()


def create(folder: Path, now: datetime) -> KeyRing:
    """Make a key ring with a current and a next key; one that is there already is kept and returned.

    Raises:
        KeyRingError: the folder cannot be written, or what is there cannot be read.
    """
    with _locked(folder):
        if exists(folder):
            return load(folder)
        current, coming = _generate(now), _generate(now)
        ring = KeyRing((current, coming), (_endorse(current, coming, now),))
        _write(folder, ring)
        return ring


def rotate(folder: Path, now: datetime) -> KeyRing:
    """Put the next key to work; running services take it up within seconds.

    Raises:
        KeyRingError: there is no readable key ring, or the folder cannot be written.
    """
    with _locked(folder):
        ring = load(folder).rotated(now)
        _write(folder, ring)
        return ring


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise KeyRingError(f"cannot write to the folder of the signing keys {folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write(folder: Path, ring: KeyRing) -> None:
    stored: dict[str, Any] = {
        "keys": [
            {
                "public": key.public,
                "private": key.private,
                "created_at": key.created_at,
                "retired_at": key.retired_at,
            }
            for key in ring.keys
        ],
        "endorsements": ring.endorsements,
    }
    partial = folder / f"{FILE}.partial"
    try:
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(stored, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / FILE)
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise KeyRingError(f"cannot write the signing keys in {folder}: {error.strerror}") from error
