"""The signing keys: an Ed25519 key, and the ring of all keys in order of creation (docs/protocol.md, "Keys").

Retired keys (public halves only) come first, then the current key, then the next key. The next key is published before
it signs, and endorsed by the key before it, so that clients find their way to it from any key that they once pinned.
"""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Annotated

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwk import OKPKey
from jwt.types import Options

from app.domain.texts import NamedEnum

AUDIENCE = "kadun-client"
ENDORSEMENT_TYPE = "key+jwt"
ALGORITHM = "EdDSA"
RETIRED_FOR = timedelta(minutes=15)
"""How long a retired key stays published: longer than the life of any verdict."""

Time = Annotated[datetime, msgspec.Meta(tz=True)]


class KeyState(NamedEnum):
    """The state of a key: retired keys sign no more, the current key signs, the next key signs after a rotation."""

    RETIRED = "retired", "已停用", "retired"
    CURRENT = "current", "当前", "current"
    NEXT = "next", "下一个", "next"


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

    @classmethod
    def new(cls, now: datetime) -> "KeyRing":
        """Return a ring with a current key and a next key that no other ring has."""
        current, following = _generate(now), _generate(now)
        return cls((current, following), (_endorse(current, following, now),))

    @property
    def current(self) -> Key:
        """The key that signs."""
        return self.keys[-2]

    @property
    def pinned(self) -> list[dict[str, str]]:
        """The public JWKs that clients ship with: current and next, in this order, which clients rely on."""
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

    def is_newer_than(self, other: "KeyRing") -> bool:
        """Tell whether this ring continues the chain of another: its current key came after the other's current key."""
        return other.current.kid in {key.kid for key in self.keys[:-2]}

    def rotated(self, now: datetime) -> "KeyRing":
        """Return the ring with the next key as current, a new endorsed next key, and the old secret removed."""
        retired = msgspec.structs.replace(self.current, private=None, retired_at=now)
        current, following = self.keys[-1], _generate(now)
        return KeyRing(
            (*self.keys[:-2], retired, current, following),
            (*self.endorsements, _endorse(current, following, now)),
        )

    def check(self) -> None:
        """Check all that signing and publishing rely on: a running service takes up no ring for which this raises."""
        options = Options(verify_iat=False)  # a clock that was set back is no damage
        for (signer, endorsed), endorsement in zip(pairwise(self.keys), self.endorsements, strict=True):
            public = jwt.PyJWK(signer.public).key
            claims = jwt.decode(endorsement, public, algorithms=[ALGORITHM], audience=AUDIENCE, options=options)
            if claims["jwk"] != endorsed.public or jwt.get_unverified_header(endorsement)["kid"] != signer.kid:
                raise ValueError("an endorsement is of another key")
        for key in (self.current, self.keys[-1]):
            jwt.PyJWK(key.public).key.verify(key.signing_key().sign(b"check"), b"check")


def _generate(now: datetime) -> Key:
    jwk = OKPKey.generate_key("Ed25519")
    exported = jwk.as_dict(private=True)
    public = {"kty": "OKP", "crv": "Ed25519", "x": str(exported["x"])}
    public |= {"kid": jwk.thumbprint(), "use": "sig", "alg": ALGORITHM}
    return Key(public, str(exported["d"]), now)


def _endorse(signer: Key, endorsed: Key, now: datetime) -> str:
    # Without `iss`, which differs from program to program: each follows the same chain.
    claims = {"aud": AUDIENCE, "iat": int(now.timestamp()), "jwk": endorsed.public}
    headers = {"typ": ENDORSEMENT_TYPE, "kid": signer.kid}
    return jwt.encode(claims, signer.signing_key(), algorithm=ALGORITHM, headers=headers)
