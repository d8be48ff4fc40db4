"""Ceilings: how many cards a day, and how long cards may last."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.domain.cards import MAX_VALIDITY, Card, validity_text
from app.domain.ceilings import (
    MAX_CARDS_PER_DAY,
    MAX_CHANGES_PER_DAY,
    OPERATOR_DEFAULTS,
    TOKEN_DEFAULTS,
    CeilingExceededError,
    Ceilings,
    changes_allowed,
    check_batches,
    check_ceilings,
    check_changes,
    check_count,
    check_extended,
    check_validity,
    described,
    format_longest,
    longest_of,
    time_left,
    with_defaults,
)
from app.domain.operators import Role
from app.domain.texts import RefusedError
from tests.support.tables import for_each

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
MONTH = Ceilings(10, 30 * DAY)
NONE = Ceilings()


@for_each(("issued", "count", "left"), [(0, 10, None), (9, 1, None), (0, 11, 10), (10, 1, 0), (12, 1, 0), (4, 7, 6)])
def test_no_more_cards_are_issued_than_are_left_of_the_day(issued: int, count: int, left: int | None) -> None:
    check_count(NONE, issued, count)
    if left is None:
        check_count(MONTH, issued, count)
        return
    with pytest.raises(CeilingExceededError, match=f"10 cards a day, and {left} are left today") as refused:
        check_count(MONTH, issued, count)
    assert refused.value.field == "count"


@for_each(
    ("longest", "lasting", "is_allowed"),
    [
        (None, None, True),
        (None, MAX_VALIDITY, True),
        (MAX_VALIDITY, None, True),
        (MAX_VALIDITY, MAX_VALIDITY, True),
        (30 * DAY, 30 * DAY, True),
        (30 * DAY, SECOND, True),
        (30 * DAY, 30 * DAY + SECOND, False),
        (30 * DAY, None, False),
        (MAX_VALIDITY - SECOND, None, False),
    ],
)
def test_a_new_card_lasts_no_longer_than_the_ceiling(
    longest: timedelta | None, lasting: timedelta | None, *, is_allowed: bool
) -> None:
    ceilings = Ceilings(None, longest)
    if is_allowed:
        check_validity(ceilings, lasting)
        return
    with pytest.raises(
        CeilingExceededError, match=f"the longest validity allowed is {format_longest(longest)};"
    ) as refused:
        check_validity(ceilings, lasting)
    assert refused.value.field == "validity"
    assert validity_text(longest).zh in refused.value.text.zh


def test_cards_that_get_a_file_are_for_owners_to_issue() -> None:
    check_batches(Role.OWNER, {"pro"})
    for role in (Role.SELLER, None):
        check_batches(role, set())
        with pytest.raises(CeilingExceededError, match="a file is for the batch “pro”") as refused:
            check_batches(role, {"studio", "pro"})
        assert refused.value.field == "batch"


def card(**values: Any) -> Card:
    return Card(
        **{"id": "0" * 32, "validity": DAY, "activated_at": None, "expires_at": None, "frozen_at": None} | values
    )


def test_an_extended_card_lasts_no_longer_than_the_ceiling_from_now() -> None:
    activated = {"activated_at": NOW - 300 * DAY}
    for good in (card(validity=30 * DAY), card(expires_at=NOW + 30 * DAY, **activated)):
        check_extended(MONTH, good, NOW)
    for long in (card(validity=31 * DAY), card(expires_at=NOW + 30 * DAY + SECOND, **activated)):
        check_extended(NONE, long, NOW)
        with pytest.raises(CeilingExceededError, match=r"0{32} would last longer than the ceiling of 30d") as refused:
            check_extended(MONTH, long, NOW)
        assert refused.value.field == "by"


@for_each(("changed", "count", "left"), [(0, 10_000, None), (0, 10_001, 10_000), (10_001, 1, 0)])
def test_no_more_cards_are_changed_than_are_left_of_the_day(changed: int, count: int, left: int | None) -> None:
    if left is None:
        check_changes(MAX_CHANGES_PER_DAY, changed, count)
        return
    with pytest.raises(CeilingExceededError, match=f"{MAX_CHANGES_PER_DAY} cards a day .* {left} are left") as refused:
        check_changes(MAX_CHANGES_PER_DAY, changed, count)
    assert refused.value.field == "ids"


@for_each(
    ("role", "changes_per_day", "allowed"),
    [
        (Role.SELLER, None, 0),
        (Role.SELLER, 0, 0),
        (Role.SELLER, 5, 5),
        (Role.OWNER, 5, MAX_CHANGES_PER_DAY),
    ],
)
def test_a_seller_changes_no_more_cards_than_an_owner_allows(
    role: Role, changes_per_day: int | None, allowed: int
) -> None:
    assert changes_allowed(Ceilings(changes_per_day=changes_per_day), role) == allowed


@for_each(("number", "is_good"), [(0, True), (MAX_CHANGES_PER_DAY, True), (-1, False), (10_001, False)])
def test_an_impossible_number_of_changes_is_refused(number: int, *, is_good: bool) -> None:
    if is_good:
        check_ceilings(Ceilings(changes_per_day=number))
        return
    with pytest.raises(RefusedError, match="from 0 to 10000"):
        check_ceilings(Ceilings(changes_per_day=number))


def test_a_card_lasts_from_its_activation_or_until_its_expiry() -> None:
    assert time_left(DAY, None, NOW) == DAY
    assert time_left(None, None, NOW) is None
    assert time_left(DAY, NOW + SECOND, NOW) == SECOND


@for_each("number", [0, -1, MAX_CARDS_PER_DAY + 1])
def test_an_impossible_ceiling_is_refused(number: int) -> None:
    for good in (NONE, MONTH, Ceilings(1), Ceilings(MAX_CARDS_PER_DAY)):
        check_ceilings(good)
    with pytest.raises(RefusedError, match="from 1 to 1000000"):
        check_ceilings(Ceilings(number))


def test_new_accounts_have_both_ceilings() -> None:
    assert set(OPERATOR_DEFAULTS) == set(Role)
    for defaults in (*OPERATOR_DEFAULTS.values(), TOKEN_DEFAULTS):
        check_ceilings(defaults)
        assert None not in (defaults.cards_per_day, defaults.longest_validity)
        assert defaults.changes_per_day is None
    assert with_defaults(NONE, TOKEN_DEFAULTS) == TOKEN_DEFAULTS
    assert with_defaults(Ceilings(5), MONTH) == Ceilings(5, 30 * DAY)
    assert with_defaults(Ceilings(None, DAY), MONTH) == Ceilings(10, DAY)
    assert with_defaults(Ceilings(0), MONTH) == Ceilings(0, 30 * DAY), "refused, not replaced"


def test_permanent_is_the_highest_ceiling() -> None:
    assert (longest_of(None), longest_of(DAY)) == (MAX_VALIDITY, DAY)
    assert (format_longest(None), format_longest(DAY), format_longest(MAX_VALIDITY)) == (None, "1d", "permanent")
    assert described(MONTH) == {"cards_per_day": 10, "longest_validity": "30d"}
    assert described(NONE) == {}
