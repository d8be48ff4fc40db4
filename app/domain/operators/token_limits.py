"""What a shop's token may do beyond its scopes: ceilings, whose cards, until when, and from where."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from app.domain.addresses import is_in_network, read_any_network
from app.domain.operators.ceilings import TOKEN_DEFAULTS, Ceilings, check_ceilings, described
from app.domain.texts import RefusedError

DEFAULT_LIFE = timedelta(days=365)
MAX_NETWORKS = 32


class TokenLimits(NamedTuple):
    """The limits of one token, as its ceilings and its row have them.

    `own_cards_only` keeps it to the cards that it issued. None as `expires_at` is never, and as `networks` (as
    `read_networks` returns them) everywhere. `program` keeps it to one program's cards, None to none.
    """

    cards_per_day: int | None = None
    longest_validity: timedelta | None = None
    own_cards_only: bool = False
    expires_at: datetime | None = None
    networks: list[str] | None = None
    program: str | None = None

    @property
    def ceilings(self) -> Ceilings:
        """The ceilings among them."""
        return Ceilings(self.cards_per_day, self.longest_validity)

    def described(self) -> dict[str, Any]:
        """Return the limits that are set, as the journal shows them."""
        expires_at = None if self.expires_at is None else self.expires_at.isoformat()
        shown = self._asdict() | described(self.ceilings) | {"expires_at": expires_at}
        return {name: value for name, value in shown.items() if value is not None}


class TokenExpiredError(RefusedError):
    """The token has expired."""

    def __init__(self, expires_at: datetime) -> None:
        day = f"{expires_at:%Y-%m-%d}"
        super().__init__(f"令牌已于 {day} 过期", f"the token expired on {day}")


class TokenElsewhereError(RefusedError):
    """The token may not be used from this address."""

    def __init__(self, address: str) -> None:
        super().__init__(f"此令牌不允许从 {address} 使用", f"the token may not be used from {address}")


def default_limits(now: datetime) -> TokenLimits:
    """Return the limits of a new token."""
    return TokenLimits(**TOKEN_DEFAULTS.given(), own_cards_only=True, expires_at=now + DEFAULT_LIFE)


def check_limits(limits: TokenLimits, now: datetime) -> None:
    """Refuse limits that cannot be set."""
    check_ceilings(limits.ceilings)
    if limits.expires_at is not None and limits.expires_at <= now:
        raise RefusedError("令牌的到期时间必须在将来", "a token's expiry must be in the future")


def check_use(expires_at: datetime | None, networks: Iterable[str] | None, address: str, now: datetime) -> None:
    """Refuse a token that has expired or is used from elsewhere; None is never, and everywhere."""
    if expires_at is not None and now >= expires_at:
        raise TokenExpiredError(expires_at)
    if networks is not None and not any(is_in_network(address, network) for network in networks):
        raise TokenElsewhereError(address)


def read_networks(texts: Iterable[str]) -> list[str]:
    """Read networks as people type them, each once: `203.0.113.7`, `203.0.113.0/24`, `2001:db8::/48`."""
    networks = []
    for text in texts:
        try:
            networks.append(read_any_network(text))
        except ValueError as error:
            raise RefusedError(
                f"{text!r} 不是网段：请写成 203.0.113.7、203.0.113.0/24 或 2001:db8::/48",
                f"{text!r} is no network: write 203.0.113.7, 203.0.113.0/24 or 2001:db8::/48",
            ) from error
    if len(networks) > MAX_NETWORKS:
        raise RefusedError(f"网段最多 {MAX_NETWORKS} 个", f"at most {MAX_NETWORKS} networks")
    return list(dict.fromkeys(networks))
