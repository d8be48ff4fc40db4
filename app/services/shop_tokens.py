"""The tokens of shops: each has a name and scopes; only the shop has the token itself."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from app.clock import Clock
from app.domain.codes import EventKind
from app.domain.operators import Scope, check_name
from app.domain.texts import RefusedError
from app.domain.token_limits import TokenLimits, check_limits, check_use, default_limits
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
    limits: TokenLimits


class ShopToken(NamedTuple):
    """A token in a list."""

    id: int
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    limits: TokenLimits


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
            ShopToken(
                id=row.id,
                name=row.name,
                scopes=_scopes(row),
                created_at=row.created_at,
                last_used_at=row.last_used_at,
                revoked_at=row.revoked_at,
                limits=shop_tokens.limits_of(row),
            )
            for row in rows
        )

    def valid(self, name: str) -> ShopToken:
        """Return the valid token of this name.

        Raises:
            TokenNotFoundError: there is none.
        """
        found = next((token for token in self.list() if token.name == name and token.revoked_at is None), None)
        if found is None:
            raise TokenNotFoundError(name)
        return found

    def add(self, name: str, scopes: Collection[Scope], limits: TokenLimits | None = None) -> str:
        """Add a token and return it: `kd_` and 256 random bits in base64url. It cannot be shown again.

        The name of a revoked token may be used again: it is the same shop, whose idempotency keys stay valid, and whose
        cards remain its own.

        Args:
            name: The shop's.
            scopes: What it may do.
            limits: Its limits, None for the defaults.

        Raises:
            RefusedError: the name is invalid or taken, there are no scopes, or a limit is invalid.
        """
        check_name(name)
        if not scopes:
            raise RefusedError("至少需要一个权限", "a token needs a scope")
        token, now = PREFIX + new_token(), self.clock()
        limits = limits or default_limits(now)
        check_limits(limits, now)
        # In one order, however they were typed.
        wanted = [scope.value for scope in Scope if scope in scopes]

        def write() -> None:
            with self.database.atomic():
                if not shop_tokens.add(name, digest(token), wanted, limits, now):
                    raise RefusedError(
                        f"已有名为 {name} 的有效令牌，请先吊销",
                        f"there is already a valid token {name}: revoke it first",
                    )
                details = {"token": name, "scopes": wanted, **limits.described()}
                journal.append([self._entry(EventKind.TOKEN_ADDED, now, details)])

        self.database.with_connection(write, once=True)
        return token

    def set_limits(self, name: str, limits: TokenLimits) -> None:
        """Change the limits of a token, for its next request.

        Raises:
            TokenNotFoundError: there is no valid token of this name.
            RefusedError: a limit is invalid.
        """
        now = self.clock()
        check_limits(limits, now)

        def write() -> None:
            with self.database.atomic():
                if not name.isprintable() or not shop_tokens.set_limits(name, limits):
                    raise TokenNotFoundError(name)
                details = {"token": name, **limits.described()}
                journal.append([self._entry(EventKind.TOKEN_CHANGED, now, details)])

        self.database.with_connection(write, once=True)

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
        """Return the shop that a token belongs to, or None; `check_use` says whether it may be used here and now."""
        return self.database.with_connection(lambda: self._authenticated(digest(token)))

    def check_use(self, shop: ShopIdentity, address: str | None) -> None:
        """Refuse a token that has expired, or is used from elsewhere.

        Raises:
            TokenExpiredError, TokenElsewhereError: as `app.domain.token_limits.check_use` says.
        """
        check_use(shop.limits, address, self.clock())

    def _authenticated(self, token_sha256: str) -> ShopIdentity | None:
        row = shop_tokens.find(token_sha256)
        if row is None:
            return None
        now = self.clock()
        if row.last_used_at is None or now - row.last_used_at >= _TOUCHED_EVERY:
            shop_tokens.touch(row.id, now)
        return ShopIdentity(row.id, row.name, _scopes(row), shop_tokens.limits_of(row))

    def _entry(self, kind: EventKind, now: datetime, details: dict[str, object]) -> journal.Entry:
        return journal.Entry(at=now, kind=kind, actor=self.actor, details=details)


def _scopes(row: models.ApiToken) -> frozenset[Scope]:
    return frozenset(Scope(scope) for scope in row.scopes)
