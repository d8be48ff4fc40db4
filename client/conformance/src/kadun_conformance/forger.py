"""The forger: answers one request as the genuine server would, with any part changed."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

import pyrage

from kadun_conformance.crypto import SigningKey, changed, seal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedIOBase
    from threading import Event

    from kadun_conformance.crypto import Json, Randomness

OPEN = "打开程序"
LIFETIME_SECONDS = 300
_CHAIN_LENGTH = 5
_PINNED = 2
_JSON = "application/json"


class Vendor:
    """What stays the same for all cases of one run: signing keys, one card, sealed core data."""

    def __init__(
        self,
        randomness: Randomness = secrets.token_bytes,
        *,
        issuer: str = "kadun-conformance",
        identity: str | None = None,
        now: int | None = None,
    ) -> None:
        self.randomness = randomness
        self.now = int(time.time()) if now is None else now
        self.issuer = issuer
        # Signing keys, oldest first; each but the first is endorsed by the one before it.
        self.chain = [SigningKey(randomness(32)) for _ in range(_CHAIN_LENGTH)]
        self.current, self.newest = self.chain[0], self.chain[-1]  # `current` signs
        self.stranger = SigningKey(randomness(32))  # no trusted key endorses it
        self.card = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        self.hardware = "conformance-machine-1"
        self.identity = identity or str(pyrage.x25519.Identity.generate())  # KERNAL_DATA_KEY
        self.core = b"kadun_conformance core data " + randomness(16).hex().encode()
        self.recorded: list[str] = []  # tokens of genuine openings, for replays

    @property
    def pinned(self) -> dict[str, Any]:
        """What `cardctl key export` prints: the current key and the next."""
        return {"iss": self.issuer, "keys": [key.jwk for key in self.chain[:_PINNED]]}

    def sealed_core(self) -> bytes:
        """Seal the core data to `identity` (an age file)."""
        recipient = pyrage.x25519.Identity.from_str(self.identity).to_public()
        sealed: bytes = pyrage.encrypt(self.core, [recipient])
        return sealed

    def endorsements(self) -> list[str]:
        """Return the genuine chain of endorsements."""
        return [old.endorse(new.jwk) for old, new in zip(self.chain, self.chain[1:])]


@dataclass(frozen=True)
class Reply:
    """An HTTP response; `write`, if there is one, writes it to the raw connection instead."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": _JSON})
    write: Callable[[BufferedIOBase, Event], object] | None = None


def verdict(token: object, status: int = 200, code: str = "OK") -> Reply:
    """Make the response to `POST /v1/verify`; only its token may count."""
    return Reply(status, json.dumps({"code": code, "message": "验证通过。", "token": token}).encode())


def problem(status: int, code: str, detail: str = "") -> Reply:
    """Make an unsigned refusal (RFC 9457)."""
    document = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}
    return Reply(status, json.dumps(document).encode(), {"Content-Type": "application/problem+json"})


@dataclass(frozen=True)
class Forger:
    """Makes tokens, responses and key sets that answer one request: genuine by default, changed on demand."""

    vendor: Vendor
    request: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = b""  # of the request; without it there is no `request_sha256`, as with servers of release 1.0

    def claims(self, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        """Return what the genuine server claims when it accepts the card, with changes."""
        vendor, request = self.vendor, self.request
        genuine = {
            "iss": vendor.issuer,
            "aud": "kadun-client",
            "sub": request["card_id"],
            "nonce": request["nonce"],
            "function": request["function"],
            "hardware_sha256": hashlib.sha256(request["hardware"].encode()).hexdigest(),
            **({"request_sha256": hashlib.sha256(self.body).hexdigest()} if self.body else {}),
            "iat": vendor.now,
            "exp": vendor.now + LIFETIME_SECONDS,
            "jti": vendor.randomness(16).hex().upper(),
            "code": "OK",
            "accepted": True,
            "activated": False,
            "card_activated_at": vendor.now - 86_400,
            "card_expires_at": vendor.now + 86_400,
        }
        if request["function"] == OPEN:
            genuine["KERNAL_DATA_KEY_SEALED"] = self.sealed()
        return changed(genuine, changes)

    def rejection(self, code: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
        """Return what the genuine server claims when it rejects the card, with changes."""
        kept = ("card_activated_at", "card_expires_at") if code == "CARD_EXPIRED" else ()
        claims = self.claims(code=code, accepted=False)
        left = {name: claims[name] for name in claims if name in kept or not name.startswith(("KERNAL_", "card_"))}
        return changed(left, changes)

    def sealed(self, plaintext: bytes | None = None, public_key: str | None = None, **changes: Any) -> str:  # noqa: ANN401 - see seal
        """Seal the data key to the client's public key, or something else to another; `changes` as for `seal`."""
        recipient = public_key or self.request["client_public_key"]
        secret = self.vendor.identity.encode() if plaintext is None else plaintext
        return seal(secret, recipient, self.vendor.randomness, **changes)

    def token(self, claims: Json | None = None, key: SigningKey | None = None, **changes: Any) -> str:  # noqa: ANN401 - see SigningKey.token
        """Sign claims, by default the genuine ones, with a key, by default the current one; changed on demand."""
        return (key or self.vendor.current).token(self.claims() if claims is None else claims, **changes)

    def token_in_current_name(self, claims: Json | None = None, key: SigningKey | None = None) -> str:
        """Sign with another key, by default the stranger's, under the current key's `kid`."""
        return self.token(claims, key=key or self.vendor.stranger, header={"kid": self.vendor.current.kid})

    def accept(self, **changes: Any) -> Reply:  # noqa: ANN401 - any JSON
        """Accept the card, with a genuine signature over changed claims."""
        return verdict(self.token(self.claims(**changes)))

    def reject(self, code: str, **changes: Any) -> Reply:  # noqa: ANN401 - any JSON
        """Reject the card, with a genuine signature over changed claims."""
        return verdict(self.token(self.rejection(code, **changes)), 403, code)

    def key_set(self, endorsements: list[Any] | None = None, keys: list[Any] | None = None) -> Reply:
        """Make `/.well-known/jwks.json`, genuine by default."""
        document = {
            "keys": [key.jwk for key in self.vendor.chain[-3:]] if keys is None else keys,
            "endorsements": self.vendor.endorsements() if endorsements is None else endorsements,
        }
        return Reply(200, json.dumps(document).encode(), {"Content-Type": "application/jwk-set+json"})


Answer = Callable[[Forger], Reply]
