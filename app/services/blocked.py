"""Requests that come from an address on the block list, where there is no verdict to say so."""

from app.domain.texts import RefusedError
from app.services.in_force import InForce, VendorRules


class ClientBlockedError(RefusedError):
    """The address is on the vendor's block list."""

    def __init__(self) -> None:
        super().__init__("网络在黑名单中", "the network is on the block list")


def refuse_blocked(rules: VendorRules, in_force: InForce, address: str) -> None:
    """Count a request from a blocked address against its block, and refuse it.

    Raises:
        ClientBlockedError: the address is blocked.
    """
    block = in_force.blocks.find_address(address)
    if block is not None:
        rules.hit(block)
        raise ClientBlockedError
