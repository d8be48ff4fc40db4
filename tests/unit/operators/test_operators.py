"""Operators' names, passwords and ceilings, limits of a shop's token, and which calls of functions may run at once."""

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
from app.domain.operators.operators import (
    FREE_FAILURES,
    MAX_NAME,
    MAX_PASSWORD,
    Role,
    check_name,
    check_password,
    console_actor,
    next_attempt,
    shop_actor,
)
from app.domain.operators.token_limits import MAX_NETWORKS, TokenElsewhereError, TokenExpiredError, TokenLimits
from app.domain.texts import RefusedError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
MONTH = Ceilings(10, 30 * DAY)
NONE = Ceilings()


def test_a_name_is_printable_and_without_white_space_at_its_ends() -> None:
    for right in ("a", "老板", "小王 2", "x" * MAX_NAME):
        check_name(right)
    for name in ("", "x" * (MAX_NAME + 1), " a", "a ", "a\nb", "a\0", "a\u202eb", "\ud800"):
        with pytest.raises(RefusedError, match="a name must be 1 to 64 printable characters, without white space at"):
            check_name(name)
    assert (console_actor("olga"), shop_actor("taobao")) == ("console:olga", "shop:taobao")


def test_a_password_of_another_length_or_an_easy_one_is_refused() -> None:
    long = "x1y2z3w4v5u6" * 22
    for right in ("correct horse", "abcde" * 3, "卡密卡密卡密管理员密码！", long[:MAX_PASSWORD]):
        check_password(right, "alice")
    check_password("correct horse", "c")  # a name of a letter or two may be in it
    for password, name, reason in (
        *(
            (text, "Alice", "a password must be 12 to 256 characters")
            for text in ("", "short", "elevenchars", long[: MAX_PASSWORD + 1])
        ),
        *(
            (text, "Alice", "the password is too easy")
            for text in ("a" * 20, "abcd" * 5, "alice-and-more", "my name is ALICE")
        ),
        ("my name is bob", "bob", "the password is too easy"),
    ):
        with pytest.raises(RefusedError, match=reason):
            pytest.fail(f"{password} is taken: {check_password(password, name)}")


def test_the_first_failures_cost_nothing_and_each_after_them_doubles_the_wait_up_to_a_quarter_of_an_hour() -> None:
    waits = [(next_attempt(failures, NOW) - NOW) / SECOND for failures in range(FREE_FAILURES + 4)]
    assert waits == [0] * FREE_FAILURES + [1, 2, 4, 8]
    for failures in (20, 100, 10_000_000):
        assert next_attempt(failures, NOW) - NOW == timedelta(minutes=15)


def test_no_more_cards_are_issued_or_changed_than_are_left_of_the_day() -> None:
    ceilings.check_count(NONE, 0, 11)
    ceilings.check_count(MONTH, 0, 10)
    ceilings.check_count(MONTH, 9, 1)
    for issued, count, left in ((0, 11, 10), (10, 1, 0), (12, 1, 0), (4, 7, 6)):
        with pytest.raises(CeilingExceededError, match=f"10 cards a day, and {left} are left today") as refused:
            ceilings.check_count(MONTH, issued, count)
        assert refused.value.field == "count"
    for changes_per_day, allowed in ((None, 0), (0, 0), (5, 5)):
        assert ceilings.changes_allowed(Ceilings(changes_per_day=changes_per_day), Role.SELLER) == allowed
    assert [ceilings.changes_allowed(Ceilings(changes_per_day=5), role) for role in (Role.OWNER, None)] == [10_000] * 2
    ceilings.check_changes(MAX_CHANGES_PER_DAY, 0, 10_000)
    for changed, count, left in ((0, 10_001, 10_000), (10_001, 1, 0)):
        with pytest.raises(CeilingExceededError, match=f"10000 cards a day .* {left} are left") as refused:
            ceilings.check_changes(MAX_CHANGES_PER_DAY, changed, count)
        assert refused.value.field == "ids"


def test_a_new_or_extended_card_lasts_no_longer_than_the_ceiling() -> None:
    for longest, lasting, is_allowed in (
        *((longest, lasting, True) for longest in (None, MAX_VALIDITY) for lasting in (None, MAX_VALIDITY)),
        *((30 * DAY, lasting, True) for lasting in (30 * DAY, SECOND)),
        *((30 * DAY, lasting, False) for lasting in (30 * DAY + SECOND, None)),
        (MAX_VALIDITY - SECOND, None, False),
    ):
        if is_allowed:
            ceilings.check_validity(Ceilings(None, longest), lasting)
            continue
        said = f"longest validity allowed is {ceilings.format_longest(longest)};"
        with pytest.raises(CeilingExceededError, match=said) as error:
            ceilings.check_validity(Ceilings(None, longest), lasting)
        assert (error.value.field, validity_text(longest).zh in error.value.text.zh) == ("validity", True)
    unused = CardFacts("0" * 32, 30 * DAY, None, None, None)
    active = unused._replace(activated_at=NOW - 300 * DAY, expires_at=NOW + 30 * DAY)
    for good in (unused, active):
        ceilings.check_extended(MONTH, good, NOW)
    for long in (unused._replace(validity=31 * DAY), active._replace(expires_at=NOW + 30 * DAY + SECOND)):
        ceilings.check_extended(NONE, long, NOW)
        with pytest.raises(CeilingExceededError, match=r"0{32} would last longer than the ceiling of 30d") as refused:
            ceilings.check_extended(MONTH, long, NOW)
        assert refused.value.field == "by"


def test_cards_that_get_a_file_are_for_owners_to_issue() -> None:
    ceilings.check_batches(Role.OWNER, {"pro"})
    for role in (Role.SELLER, None):
        ceilings.check_batches(role, set())
        with pytest.raises(CeilingExceededError, match="a file is for the batch “pro”") as refused:
            ceilings.check_batches(role, {"studio", "pro"})
        assert refused.value.field == "batch"


def test_an_impossible_ceiling_is_refused_permanent_is_the_highest_and_new_accounts_have_both() -> None:
    for possible in (NONE, MONTH, Ceilings(1), Ceilings(MAX_CARDS_PER_DAY)):
        ceilings.check_ceilings(possible)
    for number in (0, MAX_CHANGES_PER_DAY):
        ceilings.check_ceilings(Ceilings(changes_per_day=number))
    for impossible, bounds in (
        *((Ceilings(number), "from 1 to 1000000") for number in (0, -1, MAX_CARDS_PER_DAY + 1)),
        *((Ceilings(changes_per_day=number), "from 0 to 10000") for number in (-1, 10_001)),
    ):
        with pytest.raises(RefusedError, match=bounds):
            ceilings.check_ceilings(impossible)
    assert (ceilings.longest_of(None), ceilings.longest_of(DAY)) == (MAX_VALIDITY, DAY)
    assert [ceilings.format_longest(each) for each in (None, DAY, MAX_VALIDITY)] == [None, "1d", "permanent"]
    assert ceilings.described(MONTH) == {"cards_per_day": 10, "longest_validity": "30d"}
    assert ceilings.described(NONE) == {}
    assert set(ceilings.OPERATOR_DEFAULTS) == set(Role)
    for defaults in (*ceilings.OPERATOR_DEFAULTS.values(), TOKEN_DEFAULTS):
        ceilings.check_ceilings(defaults)
        assert None not in (defaults.cards_per_day, defaults.longest_validity)
        assert defaults.changes_per_day is None
    assert ceilings.with_defaults(NONE, TOKEN_DEFAULTS) == TOKEN_DEFAULTS
    for given, full in (
        ((5, None), Ceilings(5, 30 * DAY)),
        ((None, DAY), Ceilings(10, DAY)),
        ((0, None), Ceilings(0, 30 * DAY)),
    ):
        assert ceilings.with_defaults(Ceilings(*given), MONTH) == full, "0 is refused, not replaced"


def test_a_token_works_until_its_expiry_and_from_a_bounded_number_of_networks_alone() -> None:
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
        # An operator's call counts for no card and no address, and may take the last place.
        (CallOrigin("0", HOME), [OPERATOR], True),
        (OPERATOR, [OPERATOR] * 3, True),
        (OPERATOR, [OPERATOR] * 4, False),
    ):
        assert may_begin(caller, running, LIMITS) is may, (caller, running)


def test_a_card_never_has_the_last_place_unless_it_is_the_only_one_and_a_site_five_times_an_addresss() -> None:
    limits = LIMITS._replace(per_card=4, per_address=4)
    assert (may_begin(A, [A, A], limits), may_begin(A, [A, A, A], limits)) == (True, False)
    only = LIMITS._replace(places=1)
    assert (may_begin(A, [], only), may_begin(B, [A], only)) == (True, False)
    limits = LIMITS._replace(places=64, per_address=1)
    running = [CallOrigin(str(number), f"2001:db8:1:{number + 16:x}::/64") for number in range(5)]
    assert [may_begin(*asked, limits) for asked in ((A, running[:4]), (A, running), (D, running))] == [
        True,
        False,
        True,
    ]
