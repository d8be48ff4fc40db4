import pytest

from app.functions.concurrency import BusyError, ConcurrencyLimiter


def test_one_card_gets_half_of_the_slots() -> None:
    slots = ConcurrencyLimiter(4)
    with slots.slot("a"), slots.slot("a"):
        with pytest.raises(BusyError), slots.slot("a"):
            pass
        with slots.slot("b"), slots.slot("b"), pytest.raises(BusyError), slots.slot("c"):
            pass
    with slots.slot("a"), slots.slot("a"):
        pass


def test_a_single_slot_is_open_to_every_card() -> None:
    slots = ConcurrencyLimiter(1)
    with slots.slot("a"), pytest.raises(BusyError), slots.slot("b"):
        pass
    with slots.slot("b"):
        pass


def test_a_slot_is_free_again_after_a_failure() -> None:
    slots = ConcurrencyLimiter(1)
    with pytest.raises(ValueError, match="it"), slots.slot("a"):
        raise ValueError("it")
    with slots.slot("a"):
        pass
