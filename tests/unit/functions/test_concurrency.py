import pytest

from app.domain.calls import Caller, CallLimits
from app.functions.concurrency import BusyError, ConcurrencyLimiter

A, B, C = Caller("a", "192.0.2.1"), Caller("b", "192.0.2.2"), Caller("c", "192.0.2.3")


def test_each_call_has_a_slot_of_its_own_and_a_free_one_is_given_again() -> None:
    slots = ConcurrencyLimiter(CallLimits(2, 1, 2))
    with slots.slot(B) as second:
        with slots.slot(A) as first:
            assert {first.number, second.number} == {0, 1}
            with pytest.raises(BusyError), slots.slot(C):
                pass
        with slots.slot(C) as again:
            assert again is first


def test_a_slot_is_free_again_after_a_failure() -> None:
    slots = ConcurrencyLimiter(CallLimits(1, 1, 2))
    with pytest.raises(ValueError, match="it"), slots.slot(A):
        raise ValueError("it")
    with slots.slot(A):
        pass


def test_a_slot_that_is_clear_is_given_before_others() -> None:
    slots = ConcurrencyLimiter(CallLimits(3, 1, 2))
    with slots.slot(A), slots.slot(B) as second:
        second.is_clear = True
    with slots.slot(C) as given:
        assert given is second
