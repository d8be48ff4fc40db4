"""Bounds: ceilings of a day, limits of a shop's token, and which calls of core functions may run at once."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.cards.cards import MAX_VALIDITY, CardFacts, validity_text
from app.domain.functions import CallLimits, CallOrigin, may_begin
from app.domain.operators import ceilings, token_limits
from app.domain.operators.ceilings import (
    MAX_CARDS_PER_DAY,
    MAX_CHANGES_PER_DAY,
    TOKEN_DEFAULTS,
    CeilingExceededError,
    Ceilings,
)
from app.domain.operators.operators import Role
from app.domain.operators.token_limits import MAX_NETWORKS, TokenElsewhereError, TokenExpiredError, TokenLimits
from app.domain.texts import RefusedError
from tests.support.tables import for_each

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
MONTH = Ceilings(10, 30 * DAY)
NONE = Ceilings()


@for_each(("issued", "count", "left"), [(0, 10, None), (9, 1, None), (0, 11, 10), (10, 1, 0), (12, 1, 0), (4, 7, 6)])
def test_no_more_cards_are_issued_than_are_left_of_the_day(issued: int, count: int, left: int | None) -> None:
    ceilings.check_count(NONE, issued, count)
    if left is None:
        ceilings.check_count(MONTH, issued, count)
        return
    with pytest.raises(CeilingExceededError, match=f"10 cards a day, and {left} are left today") as refused:
        ceilings.check_count(MONTH, issued, count)
    assert refused.value.field == "count"


@for_each(("changed", "count", "left"), [(0, 10_000, None), (0, 10_001, 10_000), (10_001, 1, 0)])
def test_no_more_cards_are_changed_than_are_left_of_the_day(changed: int, count: int, left: int | None) -> None:
    for changes_per_day, allowed in ((None, 0), (0, 0), (5, 5)):
        assert ceilings.changes_allowed(Ceilings(changes_per_day=changes_per_day), Role.SELLER) == allowed
    assert [ceilings.changes_allowed(Ceilings(changes_per_day=5), role) for role in (Role.OWNER, None)] == [10_000] * 2
    if left is None:
        ceilings.check_changes(MAX_CHANGES_PER_DAY, changed, count)
        return
    with pytest.raises(CeilingExceededError, match=f"{MAX_CHANGES_PER_DAY} cards a day .* {left} are left") as refused:
        ceilings.check_changes(MAX_CHANGES_PER_DAY, changed, count)
    assert refused.value.field == "ids"


@for_each(
    ("longest", "allowed", "refused"),
    [
        (None, [None, MAX_VALIDITY], []),
        (MAX_VALIDITY, [None, MAX_VALIDITY], []),
        (30 * DAY, [30 * DAY, SECOND], [30 * DAY + SECOND, None]),
        (MAX_VALIDITY - SECOND, [], [None]),
    ],
)
def test_a_new_card_lasts_no_longer_than_the_ceiling(
    longest: timedelta | None, allowed: list[timedelta | None], refused: list[timedelta | None]
) -> None:
    for lasting in allowed:
        ceilings.check_validity(Ceilings(None, longest), lasting)
    for lasting in refused:
        with pytest.raises(
            CeilingExceededError, match=f"longest validity allowed is {ceilings.format_longest(longest)};"
        ) as error:
            ceilings.check_validity(Ceilings(None, longest), lasting)
        assert (error.value.field, validity_text(longest).zh in error.value.text.zh) == ("validity", True)


def test_cards_that_get_a_file_are_for_owners_to_issue() -> None:
    ceilings.check_batches(Role.OWNER, {"pro"})
    for role in (Role.SELLER, None):
        ceilings.check_batches(role, set())
        with pytest.raises(CeilingExceededError, match="a file is for the batch “pro”") as refused:
            ceilings.check_batches(role, {"studio", "pro"})
        assert refused.value.field == "batch"


def test_an_extended_card_lasts_no_longer_than_the_ceiling_from_now() -> None:
    unused = CardFacts("0" * 32, 30 * DAY, None, None, None)
    active = unused._replace(activated_at=NOW - 300 * DAY, expires_at=NOW + 30 * DAY)
    for good in (unused, active):
        ceilings.check_extended(MONTH, good, NOW)
    for long in (unused._replace(validity=31 * DAY), active._replace(expires_at=NOW + 30 * DAY + SECOND)):
        ceilings.check_extended(NONE, long, NOW)
        with pytest.raises(CeilingExceededError, match=r"0{32} would last longer than the ceiling of 30d") as refused:
            ceilings.check_extended(MONTH, long, NOW)
        assert refused.value.field == "by"


@for_each(
    ("good", "bad", "bounds"),
    [
        ([NONE, MONTH, Ceilings(1), Ceilings(MAX_CARDS_PER_DAY)],
         [Ceilings(0), Ceilings(-1), Ceilings(MAX_CARDS_PER_DAY + 1)], "from 1 to 1000000"),
        ([Ceilings(changes_per_day=number) for number in (0, MAX_CHANGES_PER_DAY)],
         [Ceilings(changes_per_day=number) for number in (-1, 10_001)], "from 0 to 10000"),
    ],
)  # fmt: skip
def test_an_impossible_ceiling_is_refused(good: list[Ceilings], bad: list[Ceilings], bounds: str) -> None:
    for possible in good:
        ceilings.check_ceilings(possible)
    for impossible in bad:
        with pytest.raises(RefusedError, match=bounds):
            ceilings.check_ceilings(impossible)


def test_new_accounts_have_both_ceilings() -> None:
    assert set(ceilings.OPERATOR_DEFAULTS) == set(Role)
    for defaults in (*ceilings.OPERATOR_DEFAULTS.values(), TOKEN_DEFAULTS):
        ceilings.check_ceilings(defaults)
        assert None not in (defaults.cards_per_day, defaults.longest_validity)
        assert defaults.changes_per_day is None
    assert ceilings.with_defaults(NONE, TOKEN_DEFAULTS) == TOKEN_DEFAULTS
    assert ceilings.with_defaults(Ceilings(5), MONTH) == Ceilings(5, 30 * DAY)
    assert ceilings.with_defaults(Ceilings(None, DAY), MONTH) == Ceilings(10, DAY)
    assert ceilings.with_defaults(Ceilings(0), MONTH) == Ceilings(0, 30 * DAY), "refused, not replaced"


def test_permanent_is_the_highest_ceiling() -> None:
    assert (ceilings.longest_of(None), ceilings.longest_of(DAY)) == (MAX_VALIDITY, DAY)
    assert [ceilings.format_longest(each) for each in (None, DAY, MAX_VALIDITY)] == [None, "1d", "permanent"]
    assert ceilings.described(MONTH) == {"cards_per_day": 10, "longest_validity": "30d"}
    assert ceilings.described(NONE) == {}


def test_a_token_works_until_its_expiry_and_from_its_networks_alone() -> None:
    token_limits.check_use(NOW, None, "::1", NOW - SECOND)
    for late in (NOW, NOW + SECOND):
        with pytest.raises(TokenExpiredError, match="the token expired on 2026-03-01"):
            token_limits.check_use(NOW, None, "::1", late)
    office = ["203.0.113.0/24", "2001:db8::/48"]
    for inside in ("203.0.113.255", "2001:db8:0:ffff::1"):
        token_limits.check_use(None, office, inside, NOW)
    for outside in ("203.0.114.0", "2001:db8:1::1", "::1"):
        token_limits.check_use(None, None, outside, NOW)
        with pytest.raises(TokenElsewhereError) as refused:
            token_limits.check_use(None, office, outside, NOW)
        assert refused.value.text.en == f"the token may not be used from {outside}"


def test_a_token_has_a_bounded_number_of_networks_each_once() -> None:
    some = [f"203.0.113.{number}" for number in range(MAX_NETWORKS)]
    assert len(token_limits.read_networks(some)) == MAX_NETWORKS
    with pytest.raises(RefusedError, match="at most 32 networks"):
        token_limits.read_networks([*some, "198.51.100.1"])
    read = token_limits.read_networks(["203.0.113.7", "2001:DB8::1", "203.0.113.7/32"])
    assert read == ["203.0.113.7/32", "2001:db8::/64"]
    with pytest.raises(RefusedError, match=r"'shop' is no network"):
        token_limits.read_networks(["203.0.113.7", "shop"])


def test_a_new_token_has_every_limit_but_networks_and_what_cannot_be_set_is_refused() -> None:
    limits = token_limits.default_limits(NOW)
    assert limits == TokenLimits(1000, timedelta(days=365), own_cards_only=True, expires_at=NOW + timedelta(days=365))
    token_limits.check_limits(limits, NOW)
    token_limits.check_limits(TokenLimits(), NOW)
    for wrong, reason in ((TokenLimits(expires_at=NOW), "must be in the future"), (TokenLimits(0), "cards a day")):
        with pytest.raises(RefusedError, match=reason):
            token_limits.check_limits(wrong, NOW)
    assert TokenLimits().described() == {"own_cards_only": False}, "the journal has those that are set"
    assert limits._replace(networks=["203.0.113.7/32"]).described() == {
        "cards_per_day": 1000, "longest_validity": "365d", "own_cards_only": True,
        "expires_at": "2027-03-01T12:00:00+00:00", "networks": ["203.0.113.7/32"],
    }  # fmt: skip


LIMITS = CallLimits(places=4, per_card=1, per_address=2)
HOME, NEIGHBOUR, ELSEWHERE, OFFICE = "2001:db8:1:1::/64", "2001:db8:1:2::/64", "2001:db8:2:1::/64", "192.0.2.1"
A, B, C, D = CallOrigin("a", HOME), CallOrigin("b", HOME), CallOrigin("c", HOME), CallOrigin("d", ELSEWHERE)
OPERATOR = CallOrigin("0", None)


def test_a_caller_may_begin() -> None:
    for caller, running, may in (
        (A, [], True),
        (A, [D], True),
        (A, [A], False),
        (CallOrigin("a", ELSEWHERE), [A], False),
        (B, [A], True),
        (C, [A, B], False),
        (D, [A, B], True),
        (B, [A, D, OPERATOR], False),
        (CallOrigin("e", OFFICE), [A, B, D], True),
        (CallOrigin("e", OFFICE), [A, B, D, OPERATOR], False),
        (CallOrigin("e", NEIGHBOUR), [A, B], True),
        (CallOrigin("e", NEIGHBOUR), [A, D, OPERATOR], False),
        (CallOrigin("e", "192.0.2.2"), [A, D, CallOrigin("f", OFFICE)], True),
    ):
        assert may_begin(caller, running, LIMITS) is may, (caller, running)


def test_a_card_never_has_the_last_place_unless_it_is_the_only_one() -> None:
    limits = LIMITS._replace(per_card=4, per_address=4)
    assert may_begin(A, [A, A], limits)
    assert not may_begin(A, [A, A, A], limits)
    only = LIMITS._replace(places=1)
    assert may_begin(A, [], only)
    assert not may_begin(B, [A], only)


def test_a_site_has_five_times_what_an_address_has() -> None:
    limits = LIMITS._replace(places=64, per_address=1)
    running = [CallOrigin(str(number), f"2001:db8:1:{number + 16:x}::/64") for number in range(5)]
    assert may_begin(A, running[:4], limits)
    assert not may_begin(A, running, limits)
    assert may_begin(D, running, limits)


def test_an_operators_call_counts_for_no_card_and_no_address_and_may_take_the_last_place() -> None:
    assert may_begin(CallOrigin("0", HOME), [OPERATOR], LIMITS)
    assert may_begin(OPERATOR, [OPERATOR, OPERATOR, OPERATOR], LIMITS)
    assert not may_begin(OPERATOR, [OPERATOR] * 4, LIMITS)
