"""Shops' tokens, found by their digest."""

from collections.abc import Sequence
from datetime import datetime

from app.domain.token_limits import TokenLimits
from app.storage import ceilings
from app.storage.models import ApiToken


def add(name: str, token_sha256: str, scopes: Sequence[str], limits: TokenLimits, now: datetime) -> bool:
    """Add a token, replacing a revoked one of that name; False when a valid one has the name."""
    fresh = {"token_sha256": token_sha256, "scopes": list(scopes), "created_at": now, **_columns(limits)}
    added = (
        ApiToken.insert(name=name, **fresh)
        .on_conflict(
            conflict_target=[ApiToken.name],
            update={**fresh, "last_used_at": None, "revoked_at": None},
            where=ApiToken.revoked_at.is_null(is_null=False),
        )
        .returning(ApiToken.id)
        .execute()
    )
    return len(list(added)) == 1


def set_limits(name: str, limits: TokenLimits) -> bool:
    """Set the limits of a token; False when there is no valid one of that name."""
    holding = (ApiToken.name == name) & ApiToken.revoked_at.is_null()
    return bool(ApiToken.update(**_columns(limits)).where(holding).execute())


def limits_of(row: ApiToken) -> TokenLimits:
    """Return the limits in a row."""
    return TokenLimits(ceilings.of_row(row), row.own_cards_only, row.expires_at, tuple(row.networks or ()))


def _columns(limits: TokenLimits) -> dict[str, object]:
    columns = {**limits.ceilings._asdict(), **limits._asdict(), "networks": list(limits.networks) or None}
    del columns["ceilings"], columns["changes_per_day"]
    return columns


def revoke(name: str, now: datetime) -> bool:
    """Revoke a token; False when there is no valid one of that name."""
    holding = (ApiToken.name == name) & ApiToken.revoked_at.is_null()
    return bool(ApiToken.update(revoked_at=now).where(holding).execute())


def find(token_sha256: str) -> ApiToken | None:
    """Return a valid token, or None."""
    holding = (ApiToken.token_sha256 == token_sha256) & ApiToken.revoked_at.is_null()
    found: ApiToken | None = ApiToken.get_or_none(holding)
    return found


def touch(token_id: int, now: datetime) -> None:
    """Record that a token was used."""
    ApiToken.update(last_used_at=now).where(ApiToken.id == token_id).execute()


def by_name() -> list[ApiToken]:
    """Return all tokens, revoked ones included."""
    return list(ApiToken.select().order_by(ApiToken.name))
