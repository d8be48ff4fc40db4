"""The key ring: the Ed25519 signing keys on disk (protocol, section 3, "Keys").

It is one file, `keyring.json`, mode 0600, replaced as a whole by rename. Keys stand in order of creation: retired keys
(public halves only), the current key, the next key. The next key is published before it signs, and endorsed by the
key before it, so that clients find their way to it from any key that they once pinned.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import OKPKey
from jwt.types import Options

AUDIENCE = "kadun-client"
ENDORSEMENT_TYPE = "key+jwt"
ALGORITHM = "EdDSA"
RETIRED_FOR = timedelta(minutes=15)
"""How long a retired key stays published: longer than the life of any verdict."""

FILE = "keyring.json"
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class KeyState(StrEnum):
    """The state of a key: retired keys sign no more, the current key signs, the next key signs after a rotation."""

    RETIRED = "retired"
    CURRENT = "current"
    NEXT = "next"


class KeyRingError(Exception):
    """The key ring is missing, unreadable or damaged. The message says what to do."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key: `public` is its public JWK, `private` the secret half in base64url, None once retired."""

    public: dict[str, str]
    private: str | None
    created_at: Time
    retired_at: Time | None = None

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


class KeyRing(msgspec.Struct, frozen=True):
    """All keys: the last is the next key, the last but one the current key, the others are retired."""

    keys: tuple[Key, ...]
    endorsements: tuple[str, ...]

    @property
    def current(self) -> Key:
        """The key that signs."""
        return self.keys[-2]

    @property
    def pinned(self) -> list[dict[str, str]]:
        """The public JWKs that clients ship with: current and next."""
        return [key.public for key in self.keys[-2:]]

    def state(self, key: Key) -> KeyState:
        """Return the state of one of its keys."""
        if key.retired_at is not None:
            return KeyState.RETIRED
        return KeyState.CURRENT if key.kid == self.current.kid else KeyState.NEXT

    @property
    def rotates_again_at(self) -> datetime | None:
        """When the key retired last is no longer published, so that another rotation is safe. None before the first."""
        retired_at = self.keys[-3].retired_at if len(self.keys) > 2 else None  # noqa: PLR2004  # current and next
        return None if retired_at is None else retired_at + RETIRED_FOR

    def published(self, now: datetime) -> list[dict[str, str]]:
        """Return the public JWKs of the lately retired keys, the current key and the next key."""
        return [key.public for key in self.keys if key.retired_at is None or key.retired_at > now - RETIRED_FOR]

    def rotated(self, now: datetime) -> "KeyRing":
        """Return the ring with the next key as current, a new endorsed next key, and the old secret removed."""
        retired = msgspec.structs.replace(self.current, private=None, retired_at=now)
        current, following = self.keys[-1], _generate(now)
        return KeyRing(
            (*self.keys[:-2], retired, current, following),
            (*self.endorsements, _endorse(current, following, now)),
        )


def _generate(now: datetime) -> Key:
    jwk = OKPKey.generate_key("Ed25519")
    exported = jwk.as_dict(private=True)
    public = {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": str(exported["x"]),
        "kid": jwk.thumbprint(),
        "use": "sig",
        "alg": ALGORITHM,
    }
    return Key(public, str(exported["d"]), now)


def _endorse(signer: Key, endorsed: Key, now: datetime) -> str:
    claims = {"aud": AUDIENCE, "iat": int(now.timestamp()), "jwk": endorsed.public}
    headers = {"typ": ENDORSEMENT_TYPE, "kid": signer.kid}
    return jwt.encode(claims, signer.signing_key(), algorithm=ALGORITHM, headers=headers)


def load(folder: Path) -> KeyRing:
    """Read the key ring.

    Raises:
        KeyRingError: it is missing, unreadable or damaged.
    """
    path = folder / FILE
    try:
        ring = msgspec.json.decode(path.read_bytes(), type=KeyRing)
        _check(ring)
    except OSError as error:
        raise KeyRingError(f"cannot read the signing keys {path}: {error.strerror}") from error
    except Exception as error:
        raise KeyRingError(f"the signing keys {path} are damaged: put your copy of data/keys back") from error
    return ring


def _check(ring: KeyRing) -> None:
    # Everything that signing and publishing rely on, so that a running service never takes up a damaged ring.
    options = Options(verify_iat=False)  # a clock that was set back is no damage
    for (signer, endorsed), endorsement in zip(pairwise(ring.keys), ring.endorsements, strict=True):
        public = jwt.PyJWK(signer.public).key
        claims = jwt.decode(endorsement, public, algorithms=[ALGORITHM], audience=AUDIENCE, options=options)
        if claims["jwk"] != endorsed.public or jwt.get_unverified_header(endorsement)["kid"] != signer.kid:
            raise ValueError("an endorsement is of another key")
    for key in (ring.current, ring.keys[-1]):
        jwt.PyJWK(key.public).key.verify(key.signing_key().sign(b"check"), b"check")


def exists(folder: Path) -> bool:
    """Tell whether the folder has a key ring."""
    return (folder / FILE).exists()


def create(folder: Path, now: datetime) -> KeyRing:
    """Create a key ring with a current and a next key, or return the existing one.

    Raises:
        KeyRingError: the folder cannot be written, or the existing ring cannot be read.
    """
    with _locked(folder):
        if exists(folder):
            return load(folder)
        current, following = _generate(now), _generate(now)
        ring = KeyRing((current, following), (_endorse(current, following, now),))
        _write(folder, ring)
        return ring


def rotate(folder: Path, now: datetime, *, force: bool = False) -> KeyRing:
    """Make the next key the current one; running services take it up within seconds.

    A second rotation while the key retired last is still published could come between a client's request and its
    look at the key set.

    Args:
        folder: Where the key ring is.
        now: The time, aware.
        force: Rotate although the last rotation was less than `RETIRED_FOR` ago.

    Raises:
        KeyRingError: there is no readable key ring, the folder cannot be written, or the last rotation was less than
            `RETIRED_FOR` ago.
    """
    with _locked(folder):
        ring = load(folder)
        again_at = ring.rotates_again_at
        if again_at is not None and now < again_at and not force:
            minutes = f"{RETIRED_FOR // timedelta(minutes=1)}"
            when = again_at.strftime("%Y-%m-%d %H:%M:%S %Z")
            raise KeyRingError(
                f"距上次轮换不足 {minutes} 分钟，未更改：请在 {when} 之后轮换，或用 --force "
                f"/ the last rotation was less than {minutes} minutes ago, nothing was changed: "
                f"rotate after {when}, or use --force"
            )
        ring = ring.rotated(now)
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
    write_file(folder / FILE, msgspec.json.format(msgspec.json.encode(ring), indent=1))


def write_file(path: Path, content: bytes) -> None:
    """Replace a file of the key folder, mode 0600, whole and durably.

    Raises:
        KeyRingError: the folder cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise KeyRingError(
            f"cannot write {path.name} in the folder of the signing keys {path.parent}: {error.strerror}"
        ) from error
