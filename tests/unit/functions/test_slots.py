import pytest

from app.functions.slots import BusyError, Slots


def test_one_card_gets_half_of_the_places() -> None:
    slots = Slots(4)
    with slots.taken_by("a"), slots.taken_by("a"):
        with pytest.raises(BusyError), slots.taken_by("a"):
            pass
        with slots.taken_by("b"), slots.taken_by("b"), pytest.raises(BusyError), slots.taken_by("c"):
            pass
    with slots.taken_by("a"), slots.taken_by("a"):
        pass


def test_where_there_is_one_place_anyone_may_take_it() -> None:
    slots = Slots(1)
    with slots.taken_by("a"), pytest.raises(BusyError), slots.taken_by("b"):
        pass
    with slots.taken_by("b"):
        pass


def test_a_place_is_free_again_after_a_failure() -> None:
    slots = Slots(1)
    with pytest.raises(ValueError, match="it"), slots.taken_by("a"):
        raise ValueError("it")
    with slots.taken_by("a"):
        pass
