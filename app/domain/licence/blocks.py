"""The block list (黑名单): machines and networks whose every request is refused."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from app.domain.addresses import read_any_network
from app.domain.texts import RefusedError


class BlockList:
    """The blocks in force, in dictionaries for machines and for each length of a prefix.

    Each is given by its ID, the hex SHA-256 of a hardware string, or else a network in CIDR notation.
    """

    def __init__(self, blocks: Iterable[tuple[int, str | None, str | None]] = ()) -> None:
        self._machines: dict[str, int] = {}
        self._networks: dict[tuple[int, int], dict[int, int]] = {}
        for block_id, hardware_sha256, cidr in blocks:
            if hardware_sha256 is not None:
                self._machines[hardware_sha256] = block_id
            if cidr is not None:
                network = ip_network(cidr)
                shift = network.max_prefixlen - network.prefixlen
                of_length = self._networks.setdefault((network.version, shift), {})
                of_length[int(network.network_address) >> shift] = block_id

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
    """Read an address or a network to be blocked; return it in CIDR notation. An IPv6 address means its /64."""
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
