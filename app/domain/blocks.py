"""The block list (黑名单): machines and networks whose every request is refused (protocol, section 2)."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from app.domain.addresses import read_any_network
from app.domain.texts import RefusedError

_BITS = {4: 32, 6: 128}


class Block(NamedTuple):
    """A block of a machine, by the hex SHA-256 of its hardware string, or else of a network in CIDR notation."""

    id: int
    hardware_sha256: str | None
    network: str | None


class BlockList:
    """The blocks in force, to be looked up in memory: a dictionary for machines, one for each length of a prefix.

    Args:
        blocks: All of them; no two block the same.
    """

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self._machines: dict[str, int] = {}
        self._networks: dict[tuple[int, int], dict[int, int]] = {}
        for block in blocks:
            if block.hardware_sha256 is not None:
                self._machines[block.hardware_sha256] = block.id
            if block.network is not None:
                network = ip_network(block.network)
                shift = _BITS[network.version] - network.prefixlen
                of_length = self._networks.setdefault((network.version, shift), {})
                of_length[int(network.network_address) >> shift] = block.id

    def find(self, hardware_sha256: str, address: str) -> int | None:
        """Return the ID of a block of this machine, or else of this canonical address, None where there is none."""
        found = self._machines.get(hardware_sha256)
        return self.find_address(address) if found is None else found

    def find_address(self, address: str) -> int | None:
        """Return the ID of a block of this canonical address, None where there is none."""
        if not self._networks:
            return None
        parsed = ip_address(address)
        number = int(parsed)
        for (version, shift), of_length in self._networks.items():
            if version == parsed.version and (found := of_length.get(number >> shift)) is not None:
                return found
        return None


def read_block_network(text: str) -> str:
    """Read an address or a network to be blocked; return it in CIDR notation. An IPv6 address means its /64.

    Raises:
        RefusedError: it is neither, has bits beyond the prefix, or is the network of all addresses.
    """
    try:
        return read_any_network(text)
    except ValueError as error:
        raise RefusedError(
            f"“{text}”须为 IP 地址，或前缀之外的位均为 0 的网段（如 203.0.113.0/24），且不能包含全部地址",
            f"“{text}” must be an address, or a network without bits beyond its prefix (203.0.113.0/24), and not all "
            "addresses",
        ) from error


def has_several_addresses(network: str) -> bool:
    """Tell whether a network, as `read_block_network` returns it, has more than what counts as one address."""
    first, _slash, _bits = network.partition("/")
    return read_any_network(first) != network
