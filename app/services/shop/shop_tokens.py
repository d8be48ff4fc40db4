"""The tokens of shops: each has a name and scopes; only the shop has the token itself."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from peewee import JOIN

from app.domain.codes import EventKind
from app.domain.operators.operators import Scope, check_name
from app.domain.operators.token_limits import TokenLimits, check_limits, default_limits
from app.domain.texts import RefusedError
from app.runtime.clock import Clock
from app.services.formatting import escaped
from app.services.operators.ceilings import set_ceilings
from app.services.programs import find
from app.services.random_tokens import digest, new_token
from app.storage import journal
from app.storage.cards import Owner
from app.storage.database import Database
from app.storage.models import ApiToken, Ceiling

PREFIX = "kd_"
"""Scanners for leaked secrets recognise a token by it."""
_TOUCHED_EVERY = timedelta(minutes=1)
ShopToken = ApiToken
"""A token's row."""


class TokenNotFoundError(RefusedError):
    """No such token, or it is already revoked."""

    def __init__(self, name: str) -> None:
        super().__init__(f"没有名为 {escaped(name)} 的有效令牌", f"there is no valid token {escaped(name)}")


@dataclass(frozen=True, slots=True)
class ShopTokens:
    """The tokens of one database. `actor` is the operator's name in the journal.

    Methods that take a `name`, `add` apart, raise TokenNotFoundError where there is no valid token of that name.
    """

    database: Database
    actor: str
    clock: Clock

    def list(self) -> Sequence[ShopToken]:
        """Return all tokens by name, revoked ones included, each with the columns of its ceilings."""
        ceilings = (Ceiling.cards_per_day, Ceiling.longest_validity, Ceiling.changes_per_day)
        query = ApiToken.select(ApiToken, *ceilings).join(Ceiling, JOIN.LEFT_OUTER).order_by(ApiToken.name)
        return list(query.objects())

    def limits(self, name: str) -> TokenLimits:
        """Return the limits of a valid token."""
        for row in self.list():
            if row.name == name and row.revoked_at is None:
                return TokenLimits(*(getattr(row, limit) for limit in TokenLimits._fields))
        raise TokenNotFoundError(name)

    def add(self, name: str, scopes: Collection[Scope], limits: TokenLimits | None = None) -> str:
        """Add a token and return it: `kd_` and 256 random bits in base64url. It cannot be shown again.

        Without `limits` it has the defaults. The name of a revoked token may be used again: it is the same shop, whose
        idempotency keys stay valid, and whose cards remain its own. Raise RefusedError if the name is invalid or taken,
        there are no scopes, no such program, or a limit is invalid.
        """
        check_name(name)
        if not scopes:
            raise RefusedError("至少需要一个权限", "a token needs a scope")
        token, now = PREFIX + new_token(), self.clock()
        wanted = [scope.value for scope in Scope if scope in scopes]  # in one order, however they were typed
        limits = limits or default_limits(now)
        check_limits(limits, now)
        if limits.program is not None:
            find(limits.program)
        fresh = {"token_sha256": digest(token), "scopes": wanted, "created_at": now, **_columns(limits)}
        insert = ApiToken.insert(name=name, **fresh).on_conflict(
            conflict_target=[ApiToken.name],
            update={**fresh, "last_used_at": None, "revoked_at": None},
            where=ApiToken.revoked_at.is_null(is_null=False),
        )
        taken = RefusedError(
            f"已有名为 {name} 的有效令牌，请先吊销", f"there is already a valid token {name}: revoke it first"
        )
        self._write(EventKind.TOKEN_ADDED, name, insert, taken, limits, scopes=wanted)
        return token

    def set_limits(self, name: str, limits: TokenLimits) -> None:
        """Change the limits of a token, for its next request; raise RefusedError if one is invalid."""
        check_limits(limits, self.clock())
        update = ApiToken.update(**_columns(limits)).where(_is_valid(name))
        self._write(EventKind.TOKEN_CHANGED, name, update, TokenNotFoundError(name), limits)

    def revoke(self, name: str) -> None:
        """Revoke a token: its next request is refused."""
        update = ApiToken.update(revoked_at=self.clock()).where(_is_valid(name))
        self._write(EventKind.TOKEN_REVOKED, name, update, TokenNotFoundError(name))

    def authenticate(self, token: str) -> ShopToken | None:
        """Return the valid token, or None; `token_limits.check_use` says whether it may be used now."""
        now = self.clock()
        is_it = (ApiToken.token_sha256 == digest(token)) & ApiToken.revoked_at.is_null()
        row: ApiToken | None = ApiToken.get_or_none(is_it)
        if row is not None and (row.last_used_at is None or now - row.last_used_at >= _TOUCHED_EVERY):
            ApiToken.update(last_used_at=now).where(ApiToken.id == row.id).execute()
        return row

    def _write(
        self,
        kind: EventKind,
        name: str,
        change: Any,  # noqa: ANN401  # a peewee query
        otherwise: RefusedError,
        limits: TokenLimits | None = None,
        **details: object,
    ) -> None:
        """Change a token's row and journal it, in one transaction; raise `otherwise` where no row is changed."""
        details = {"token": name, **details, **(limits.described() if limits is not None else {})}
        entry = journal.Entry(at=self.clock(), kind=kind, actor=self.actor, details=details)
        with self.database.transact():
            # PostgreSQL refuses a NUL; no name has unprintable characters.
            changed = list(change.returning(ApiToken.id).execute()) if name.isprintable() else []
            if not changed:
                raise otherwise
            if limits is not None:
                set_ceilings(Owner(token_id=changed[0].id), limits.ceilings)
            journal.append([entry])


def _columns(limits: TokenLimits) -> dict[str, object]:
    return {name: getattr(limits, name) for name in ("own_cards_only", "expires_at", "networks", "program")}


def _is_valid(name: str) -> Any:  # noqa: ANN401  # a peewee expression
    return (ApiToken.name == name) & ApiToken.revoked_at.is_null()
