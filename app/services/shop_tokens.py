"""The tokens of shops: each has a name and scopes; only the shop has the token itself."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from app.clock import Clock
from app.domain.codes import EventKind
from app.domain.operators import Scope, check_name
from app.domain.texts import RefusedError
from app.services.bearer import digest, new_token
from app.services.formatting import escaped
from app.storage import journal, models, shop_tokens
from app.storage.database import Database

PREFIX = "kd_"
"""Scanners for leaked secrets recognise a token by it."""
_TOUCHED_EVERY = timedelta(minutes=1)


class ShopIdentity(NamedTuple):
    """The shop behind a request."""

    id: int
    name: str
    scopes: frozenset[Scope]


class ShopToken(NamedTuple):
    """A token in a list."""

    id: int
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class TokenNotFoundError(RefusedError):
    """No such token, or it is already revoked."""

    def __init__(self, name: str) -> None:
        super().__init__(f"没有名为 {escaped(name)} 的有效令牌", f"there is no valid token {escaped(name)}")


@dataclass(frozen=True, slots=True)
class ShopTokens:
    """The tokens of one database. `actor` is the operator's name in the journal."""

    database: Database
    actor: str
    clock: Clock

    def list(self) -> tuple[ShopToken, ...]:
        """Return all tokens by name, revoked ones included."""
        rows = self.database.with_connection(shop_tokens.by_name)
        return tuple(
            ShopToken(row.id, row.name, _scopes(row), row.created_at, row.last_used_at, row.revoked_at) for row in rows
        )

    def add(self, name: str, scopes: Collection[Scope]) -> str:
        """Add a token and return it: `kd_` and 256 random bits in base64url. It cannot be shown again.

        The name of a revoked token may be used again: it is the same shop, whose idempotency keys stay valid.

        Raises:
            RefusedError: the name is invalid or taken, or there are no scopes.
        """
        check_name(name)
        if not scopes:
            raise RefusedError("至少需要一个权限", "a token needs a scope")
        token, now = PREFIX + new_token(), self.clock()
        # In one order, however they were typed.
        wanted = [scope.value for scope in Scope if scope in scopes]

        def write() -> None:
            with self.database.atomic():
                if not shop_tokens.add(name, digest(token), wanted, now):
                    raise RefusedError(
                        f"已有名为 {name} 的有效令牌，请先吊销",
                        f"there is already a valid token {name}: revoke it first",
                    )
                journal.append([self._entry(EventKind.TOKEN_ADDED, now, {"token": name, "scopes": wanted})])

        self.database.with_connection(write, once=True)
        return token

    def revoke(self, name: str) -> None:
        """Revoke a token: its next request is refused.

        Raises:
            TokenNotFoundError: there is no valid token of this name.
        """
        now = self.clock()

        def write() -> None:
            with self.database.atomic():
                # An unprintable name (with NUL, for example) belongs to no token, and the database refuses it.
                if not name.isprintable() or not shop_tokens.revoke(name, now):
                    raise TokenNotFoundError(name)
                journal.append([self._entry(EventKind.TOKEN_REVOKED, now, {"token": name})])

        self.database.with_connection(write, once=True)

    def authenticate(self, token: str) -> ShopIdentity | None:
        """Return the shop that a token belongs to, or None."""
        return self.database.with_connection(lambda: self._authenticated(digest(token)))

    def _authenticated(self, token_sha256: str) -> ShopIdentity | None:
        row = shop_tokens.find(token_sha256)
        if row is None:
            return None
        now = self.clock()
        if row.last_used_at is None or now - row.last_used_at >= _TOUCHED_EVERY:
            shop_tokens.touch(row.id, now)
        return ShopIdentity(row.id, row.name, _scopes(row))

    def _entry(self, kind: EventKind, now: datetime, details: dict[str, object]) -> journal.Entry:
        return journal.Entry(at=now, kind=kind, actor=self.actor, details=details)


def _scopes(row: models.ApiToken) -> frozenset[Scope]:
    return frozenset(Scope(scope) for scope in row.scopes)
