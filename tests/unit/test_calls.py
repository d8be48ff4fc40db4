"""Which calls of core functions may run at once."""

from app.domain.calls import Caller, CallLimits, may_begin

LIMITS = CallLimits(places=4, per_card=1, per_address=2)
HOME, NEIGHBOUR, ELSEWHERE, OFFICE = "2001:db8:1:1::/64", "2001:db8:1:2::/64", "2001:db8:2:1::/64", "192.0.2.1"
A, B, C, D = Caller("a", HOME), Caller("b", HOME), Caller("c", HOME), Caller("d", ELSEWHERE)
OPERATOR = Caller("0", None)


def test_a_caller_may_begin() -> None:
    for caller, running, may in (
        (A, [], True),
        (A, [D], True),
        (A, [A], False),
        (Caller("a", ELSEWHERE), [A], False),
        (B, [A], True),
        (C, [A, B], False),
        (D, [A, B], True),
        (B, [A, D, OPERATOR], False),
        (Caller("e", OFFICE), [A, B, D], True),
        (Caller("e", OFFICE), [A, B, D, OPERATOR], False),
        (Caller("e", NEIGHBOUR), [A, B], True),
        (Caller("e", NEIGHBOUR), [A, D, OPERATOR], False),
        (Caller("e", "192.0.2.2"), [A, D, Caller("f", OFFICE)], True),
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
    running = [Caller(str(number), f"2001:db8:1:{number + 16:x}::/64") for number in range(5)]
    assert may_begin(A, running[:4], limits)
    assert not may_begin(A, running, limits)
    assert may_begin(D, running, limits)


def test_an_operators_call_counts_for_no_card_and_no_address_and_may_take_the_last_place() -> None:
    assert may_begin(Caller("0", HOME), [OPERATOR], LIMITS)
    assert may_begin(OPERATOR, [OPERATOR, OPERATOR, OPERATOR], LIMITS)
    assert not may_begin(OPERATOR, [OPERATOR] * 4, LIMITS)
