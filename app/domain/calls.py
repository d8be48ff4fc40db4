"""Which calls of core functions may run at once, so that a few callers cannot take every place."""

from collections.abc import Collection
from typing import NamedTuple


class CallLimits(NamedTuple):
    """How many calls may run at once: of all callers, of one card, and of one address."""

    places: int
    per_card: int
    per_address: int


class Caller(NamedTuple):
    """Who calls; `address` is what counts as one address, None for an operator, who has no share to keep to."""

    card_id: str
    address: str | None


def may_begin(caller: Caller, running: Collection[Caller], limits: CallLimits) -> bool:
    """Decide whether a caller may begin another call beside those that run.

    A caller whose card or address has a call under way never takes the last free place.
    """
    free = limits.places - len(running)
    if caller.address is None:
        return free > 0
    customers = [other for other in running if other.address is not None]
    of_card = sum(other.card_id == caller.card_id for other in customers)
    of_address = sum(other.address == caller.address for other in customers)
    if of_card >= limits.per_card or of_address >= limits.per_address:
        return False
    return free > (1 if of_card or of_address else 0)
