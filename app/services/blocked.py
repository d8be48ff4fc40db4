"""Requests that come from an address on the block list, where there is no verdict to say so."""

from app.domain.texts import RefusedError
from app.services.in_force import InForce


class ClientBlockedError(RefusedError):
    """The address is on the vendor's block list."""

    def __init__(self) -> None:
        super().__init__("网络在黑名单中", "the network is on the block list")


def refuse_blocked(in_force: InForce, address: str) -> None:
    """Refuse a request from a blocked address.

    Raises:
        ClientBlockedError: the address is blocked.
    """
    if in_force.blocks.find_address(address) is not None:
        raise ClientBlockedError
