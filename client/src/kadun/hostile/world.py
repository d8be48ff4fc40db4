"""The kit's own server-side truth: keys, a card, sealed core data, and what an honest answer says."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

import pyrage

from kadun.hostile.forging import SigningKey, changed, compact, json_bytes, seal

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from kadun.hostile.forging import Json, Randomness

OPEN = "打开程序"
LIFE_SECONDS = 300
_CHAIN = 5
_PINNED = 2


class World:
    """What stays the same for all the lies of one run.

    Attributes:
        chain: signing keys, oldest first; each but the first is endorsed by the one before it.
        stranger: a key that nobody vouches for.
        core: what the sealed age file `sealed_core` holds.
        recorded: the tokens of honest yeses, for replaying.
    """

    def __init__(
        self,
        randomness: Randomness = secrets.token_bytes,
        *,
        identity: str | None = None,
        now: int | None = None,
    ) -> None:
        self.randomness = randomness
        self.now = int(time.time()) if now is None else now
        self.issuer = "kadun-hostile"
        self.chain = [SigningKey(randomness(32)) for _ in range(_CHAIN)]
        self.stranger = SigningKey(randomness(32))
        self.card = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        self.hardware = "hostile-machine-1"
        self.identity = identity or str(pyrage.x25519.Identity.generate())
        self.core = b"kadun.hostile core data " + randomness(16).hex().encode()
        self.recorded: list[str] = []

    @property
    def pinned(self) -> dict[str, Any]:
        """What `cardctl key export` would print: the current key and the next."""
        return {"iss": self.issuer, "keys": [key.jwk for key in self.chain[:_PINNED]]}

    @property
    def current(self) -> SigningKey:
        """The pinned key that signs."""
        return self.chain[0]

    @property
    def newest(self) -> SigningKey:
        """A key three rotations after the last pinned one."""
        return self.chain[-1]

    def sealed_core(self) -> bytes:
        """An age file that `identity` opens."""
        recipient = pyrage.x25519.Identity.from_str(self.identity).to_public()
        sealed: bytes = pyrage.encrypt(self.core, [recipient])
        return sealed

    def endorsements(self) -> list[str]:
        """The honest chain."""
        return [old.endorse(new.jwk) for old, new in zip(self.chain, self.chain[1:])]


@dataclass(frozen=True)
class Forger:
    """Makes tokens that answer one request: honest by default, and changed as told."""

    world: World
    request: Mapping[str, Any]
    earlier: Mapping[str, Any] | None = None  # the first request of the same start, once there is a second

    def claims(self, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        """What the real server would claim when it says yes, changed as told."""
        world, request = self.world, self.request
        honest = {
            "iss": world.issuer,
            "aud": "kadun-client",
            "sub": request["card_id"],
            "nonce": request["nonce"],
            "function": request["function"],
            "hardware_sha256": hashlib.sha256(request["hardware"].encode()).hexdigest(),
            "iat": world.now,
            "exp": world.now + LIFE_SECONDS,
            "jti": world.randomness(16).hex().upper(),
            "code": "OK",
            "accepted": True,
            "activated": False,
            "card_activated_at": world.now - 86_400,
            "card_expires_at": world.now + 86_400,
        }
        if self.asks_sealed:
            honest["KERNAL_DATA_KEY_SEALED"] = self.sealed()
        else:
            honest["KERNAL_DATA_KEY"] = world.identity
        return changed(honest, changes)

    @property
    def asks_sealed(self) -> bool:
        """Whether the client asked for the key sealed."""
        return self.request.get("client_public_key") is not None

    def sealed(self, plaintext: bytes | None = None, public_key: str | None = None, **changes: Any) -> str:  # noqa: ANN401 - see seal
        """The key, sealed to the client's public key unless to another."""
        recipient = public_key or self.request["client_public_key"]
        secret = self.world.identity.encode() if plaintext is None else plaintext
        return seal(secret, recipient, self.world.randomness, **changes)

    def token(
        self,
        claims: Json | None = None,
        *,
        key: SigningKey | None = None,
        header: Mapping[str, Any] | bytes | None = None,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> str:
        """A verdict over these claims.

        Args:
            claims: the payload; by default the honest claims.
            key: what signs and lends its `kid`; by default the current key.
            header: other members of the header, or its very bytes.
            sign: another way to sign.
        """
        key = key or self.world.current
        if not isinstance(header, bytes):
            header = json_bytes(changed({"alg": "EdDSA", "typ": "verdict+jwt", "kid": key.kid}, header or {}))
        return compact(header, self.claims() if claims is None else claims, sign or key.sign)

    def no(self, code: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        """What the real server would claim when it says no."""
        honest = self.claims(code=code, accepted=False)
        kept = ("card_activated_at", "card_expires_at") if code == "CARD_EXPIRED" else ()
        gone = {name for name in honest if name.startswith(("KERNAL_", "card_"))} - set(kept)
        return changed({name: value for name, value in honest.items() if name not in gone}, changes)


@dataclass(frozen=True)
class Wire:
    """The bare connection, for answers that no well-behaved server gives."""

    send: Callable[[bytes], None]
    reset: Callable[[], None]
    released: threading.Event


@dataclass(frozen=True)
class Reply:
    """An HTTP answer; with `wire`, written byte by byte by that."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    wire: Callable[[Wire], None] | None = None


def verdict(token: object, status: int = 200, code: str = "OK") -> Reply:
    """The body of a verdict; only the token in it may count."""
    return Reply(status, json.dumps({"code": code, "message": "验证通过。", "token": token}).encode())


def key_set(world: World, endorsements: list[Any] | None = None, keys: list[Any] | None = None) -> Reply:
    """`/.well-known/jwks.json`, honest unless told otherwise."""
    document = {
        "keys": [key.jwk for key in world.chain[-3:]] if keys is None else keys,
        "endorsements": world.endorsements() if endorsements is None else endorsements,
    }
    return Reply(200, json.dumps(document).encode(), {"Content-Type": "application/jwk-set+json"})


class NotAskedError(Exception):
    """This lie needs something that the client did not ask for."""


@dataclass(frozen=True)
class Scenario:
    """One thing that the server does, and what a good client makes of it.

    Attributes:
        name: short and stable; `words.json` says in Chinese and English what it is.
        group: which check it is about.
        answer: the reply to `POST /v1/verify`.
        keys: the reply to `GET /.well-known/jwks.json`.
        expects: `opened`; `rejected`, which a signed no may be taken for; `refused`, believed in neither way.
        honest: it is no lie, and a client that makes something else of it is at fault.
    """

    name: str
    group: str
    answer: Callable[[Forger], Reply]
    keys: Callable[[World], Reply] = key_set
    expects: str = "refused"
    honest: bool = False
