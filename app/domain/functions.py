"""Which calls of core functions may run at once, so that a few callers cannot take every place."""

from collections.abc import Collection
from typing import NamedTuple

from app.domain.addresses import SITE_SHARE, site_of_network

MAX_PLACES = 64
"""How many calls may run at once at most, whatever is set."""


class CallLimits(NamedTuple):
    """How many calls may run at once: of all, of a card, of an address; an IPv6 /48 has `SITE_SHARE` times that."""

    places: int
    per_card: int
    per_address: int


class CallOrigin(NamedTuple):
    """Who calls; `address` is what `network_of` returns, None for an operator, who has no share to keep to."""

    card_id: str
    address: str | None


def may_begin(caller: CallOrigin, running: Collection[CallOrigin], limits: CallLimits) -> bool:
    """Decide whether a call may begin; a card or site with a call under way never takes the last free place."""
    free = limits.places - len(running)
    if caller.address is None:
        return free > 0
    customers = [other for other in running if other.address is not None]
    of_card = sum(other.card_id == caller.card_id for other in customers)
    of_address = sum(other.address == caller.address for other in customers)
    site = site_of_network(caller.address)
    of_site = sum(site_of_network(address) == site for _, address in running if address is not None)
    if of_card >= limits.per_card or of_address >= limits.per_address or of_site >= SITE_SHARE * limits.per_address:
        return False
    return free > (1 if of_card or of_site else 0)
