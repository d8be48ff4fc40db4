"""The limits of a shop's token: until when, from where, and how they are typed."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.ceilings import TOKEN_DEFAULTS, Ceilings
from app.domain.texts import RefusedError
from app.domain.token_limits import (
    MAX_NETWORKS,
    TokenElsewhereError,
    TokenExpiredError,
    TokenLimits,
    check_limits,
    check_use,
    default_limits,
    read_networks,
)
from tests.support.tables import for_each

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
OFFICE = TokenLimits(networks=("203.0.113.0/24", "2001:db8::/48"))


def test_a_token_works_until_its_expiry() -> None:
    limits = TokenLimits(expires_at=NOW)
    check_use(limits, None, NOW - SECOND)
    for late in (NOW, NOW + SECOND):
        with pytest.raises(TokenExpiredError, match="the token expired on 2026-03-01"):
            check_use(limits, None, late)


@for_each("address", ["203.0.114.0", "2001:db8:1::1", "::1", None])
def test_a_token_works_from_its_networks_alone(address: str | None) -> None:
    for inside in ("203.0.113.255", "2001:db8:0:ffff::1"):
        check_use(OFFICE, inside, NOW)
    check_use(TokenLimits(), address, NOW)
    with pytest.raises(TokenElsewhereError) as refused:
        check_use(OFFICE, address, NOW)
    assert refused.value.text.en == f"the token may not be used from {address or '?'}"


@for_each(
    ("typed", "network"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:DB8::/48", "2001:db8::/48"),
        ("::ffff:203.0.113.7", "203.0.113.7/32"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("128.0.0.0/1", "128.0.0.0/1"),
    ],
)
def test_networks_are_read_as_people_type_them(typed: str, network: str) -> None:
    assert read_networks([typed, network]) == (network,)


@for_each(
    "typed", ["", "shop", "203.0.113.7/24", "0.0.0.0/0", "::/0", "::ffff:0:0/96", "203.0.113.0/33", "fe80::1%eth0", "/"]
)
def test_what_is_no_network_is_refused(typed: str) -> None:
    with pytest.raises(RefusedError, match="is no network"):
        read_networks([typed])


def test_a_token_has_a_bounded_number_of_networks() -> None:
    some = [f"203.0.113.{number}" for number in range(MAX_NETWORKS)]
    assert len(read_networks(some)) == MAX_NETWORKS
    with pytest.raises(RefusedError, match="at most 32 networks"):
        read_networks([*some, "198.51.100.1"])


def test_a_new_token_has_every_limit_but_networks_and_what_cannot_be_set_is_refused() -> None:
    limits = default_limits(NOW)
    assert limits == TokenLimits(TOKEN_DEFAULTS, own_cards_only=True, expires_at=NOW + timedelta(days=365), networks=())
    check_limits(limits, NOW)
    check_limits(TokenLimits(), NOW)
    for wrong, reason in (
        (TokenLimits(expires_at=NOW), "must be in the future"),
        (TokenLimits(Ceilings(0)), "cards a day"),
    ):
        with pytest.raises(RefusedError, match=reason):
            check_limits(wrong, NOW)


def test_the_journal_has_the_limits_that_are_set() -> None:
    assert TokenLimits().described() == {"own_cards_only": False}
    assert default_limits(NOW)._replace(networks=("203.0.113.7/32",)).described() == {
        "cards_per_day": 1000,
        "longest_validity": "365d",
        "own_cards_only": True,
        "expires_at": "2027-03-01T12:00:00+00:00",
        "networks": ["203.0.113.7/32"],
    }
