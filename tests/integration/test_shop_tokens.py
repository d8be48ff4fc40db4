"""The shops' tokens: adding, authenticating, revoking."""

from datetime import timedelta

import pytest

from app.domain.operators import Scope
from app.domain.texts import RefusedError
from app.domain.token_limits import default_limits
from app.services.shop_tokens import ShopIdentity, ShopTokens, TokenNotFoundError
from app.storage.database import Database
from app.storage.models import (
    ApiToken,
    Event,
)
from tests.conftest import START, Clock

HOME = "198.51.100.1"


def journalled() -> list[tuple[str, str, dict[str, object]]]:
    return [(e.kind, e.actor, e.details) for e in Event.select().order_by(Event.id)]


def test_a_token_identifies_its_shop_and_scopes(tokens: ShopTokens, database: Database) -> None:
    token = tokens.add("发卡网", {Scope.CARDS_READ, Scope.CARDS_ISSUE})
    assert token.startswith("kd_")
    assert len(token) == len("kd_") + 43
    scopes, limits = frozenset({Scope.CARDS_ISSUE, Scope.CARDS_READ}), default_limits(START)
    assert tokens.authenticate(token) == ShopIdentity(1, "发卡网", scopes, limits)
    details = {"token": "发卡网", "scopes": ["cards:issue", "cards:read"], **limits.described()}
    assert journalled() == [("token_added", "tester", details)]
    for table in ("api_token", "event"):
        assert token.removeprefix("kd_") not in str(database.execute_sql(f"SELECT * FROM {table}").fetchall())  # noqa: S608


@pytest.mark.parametrize("token", ["", "kd_", "kd_" + "x" * 43, "\0", "\ud800", "x" * 10_000])
def test_unknown_tokens_are_refused(tokens: ShopTokens, token: str) -> None:
    real = tokens.add("shop", {Scope.CARDS_READ})
    assert tokens.authenticate(token) is None
    assert tokens.authenticate(real.removeprefix("kd_")) is None
    assert tokens.authenticate(real.upper()) is None


def test_a_token_is_touched_at_most_once_a_minute(tokens: ShopTokens, clock: Clock) -> None:
    token, begun = tokens.add("shop", {Scope.CARDS_READ}), clock.now
    for seconds, expected in ((0, 0), (59, 0), (1, 60)):
        clock.advance(timedelta(seconds=seconds))
        tokens.authenticate(token)
        assert tokens.list()[0].last_used_at == begun + timedelta(seconds=expected)


def test_a_revoked_token_is_invalid_and_its_name_free(tokens: ShopTokens, clock: Clock) -> None:
    first = tokens.add("shop", {Scope.CARDS_READ})
    with pytest.raises(RefusedError, match="revoke it first"):
        tokens.add("shop", {Scope.CARDS_ISSUE})
    tokens.authenticate(first)
    tokens.revoke("shop")
    assert tokens.authenticate(first) is None
    assert tokens.list()[0].revoked_at == clock.now
    second = tokens.add("shop", {Scope.CARDS_ISSUE})
    (listed,) = tokens.list()
    assert (listed.revoked_at, listed.last_used_at, listed.scopes) == (None, None, {Scope.CARDS_ISSUE})
    assert tokens.authenticate(first) is None
    # The same shop: an order that it repeats with its new token is known.
    scopes = frozenset({Scope.CARDS_ISSUE})
    assert tokens.authenticate(second) == ShopIdentity(1, "shop", scopes, default_limits(clock.now))
    assert [kind for kind, _, _ in journalled()] == ["token_added", "token_revoked", "token_added"]


@pytest.mark.parametrize("name", ["nobody", "a\0", "\ud800", "revoked"])
def test_an_invalid_token_cannot_be_revoked(tokens: ShopTokens, name: str) -> None:
    tokens.add("revoked", {Scope.CARDS_READ})
    tokens.revoke("revoked")
    with pytest.raises(TokenNotFoundError):
        tokens.revoke(name)


@pytest.mark.parametrize(("name", "scopes"), [("", {Scope.CARDS_READ}), ("a\0", {Scope.CARDS_READ}), ("shop", set())])
def test_a_token_needs_a_name_and_a_scope(tokens: ShopTokens, name: str, scopes: set[Scope]) -> None:
    with pytest.raises(RefusedError):
        tokens.add(name, scopes)
    assert ApiToken.select().count() == 0
