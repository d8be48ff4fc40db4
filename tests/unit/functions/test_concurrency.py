import pytest

from app.domain.calls import Caller, CallLimits
from app.functions.concurrency import BusyError, ConcurrencyLimiter

A, B, C = Caller("a", "1"), Caller("b", "2"), Caller("c", "3")


def test_each_call_has_a_place_of_its_own_and_a_free_one_is_given_again() -> None:
    places = ConcurrencyLimiter(CallLimits(2, 1, 2))
    with places.place(B) as second:
        with places.place(A) as first:
            assert {first, second} == {0, 1}
            with pytest.raises(BusyError), places.place(C):
                pass
        with places.place(C) as again:
            assert again == first


def test_a_place_is_free_again_after_a_failure() -> None:
    places = ConcurrencyLimiter(CallLimits(1, 1, 2))
    with pytest.raises(ValueError, match="it"), places.place(A):
        raise ValueError("it")
    with places.place(A):
        pass
