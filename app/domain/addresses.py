"""Canonical forms of network addresses, and when two count as the same. Other texts are a ValueError."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

UNKNOWN_ADDRESS = ""
"""The recorded address of a machine that was imported without one: it is the same as no other."""
SITE_SHARE = 5
"""How many times as much as one address an IPv6 /48 may do: be refused, fail to log in, call functions at once."""
_IPV6_PREFIX_BITS = 64
_MAPPED_PREFIX_BITS = 96
_IPV4_COMPATIBLE = IPv6Network("::/96")
_IPV6_SITE_BITS = 48
_IPV4_SITE_BITS = 24


def known(address: str) -> str | None:
    """Return a recorded address, None where it is unknown."""
    return None if address == UNKNOWN_ADDRESS else address


def _parse(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError(f"{text!r} has a zone, which has a meaning on one host only")
        return address.ipv4_mapped or address
    return address


@lru_cache(maxsize=4096)
def canonical_address(text: str) -> str:
    """Return the canonical spelling of an address; an IPv4-mapped IPv6 address becomes its IPv4 address."""
    return str(_parse(text))


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 of an IPv6 one, whose rest rotates (RFC 8981)."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, _IPV6_PREFIX_BITS), strict=False))
    return str(parsed)


def site_of(address: str) -> str | None:
    """Return the /48 network of an IPv6 address, as many providers give one customer; None for IPv4."""
    parsed = _parse(address)
    return str(IPv6Network((parsed, _IPV6_SITE_BITS), strict=False)) if isinstance(parsed, IPv6Address) else None


def site_of_network(network: str) -> str:
    """Return the site of what `network_of` returns: the /48 of an IPv6 network, or an IPv4 address itself."""
    address = network.partition("/")[0]
    return site_of(address) or address


def neighbourhood_of(address: str) -> str:
    """Return the network in which a site's addresses change: an IPv6 address's /48, an IPv4 address's /24."""
    return site_of(address) or str(IPv4Network((_parse(address), _IPV4_SITE_BITS), strict=False))


def read_network(text: str) -> str:
    """Read an address or a /64 network as a person types it, and return it as `network_of` does."""
    address, slash, _bits = text.partition("/")
    network = network_of(address)
    if slash and text != network:
        raise ValueError(f"{text!r} is neither an address nor a /64 network")
    return network


def read_any_network(text: str) -> str:
    """Read a network in CIDR notation, or an address, which stands for what counts as one address; return it in CIDR.

    A network of IPv4-mapped IPv6 addresses is its IPv4 network. A ValueError is any other text, the network of all
    addresses, and one of IPv4-compatible addresses, which RFC 4291 has abolished.
    """
    network = ip_network(text if "/" in text else network_of(text))
    if isinstance(network, IPv6Network):
        first = _parse(str(network.network_address))
        if isinstance(first, IPv4Address):
            network = ip_network((first, max(network.prefixlen - _MAPPED_PREFIX_BITS, 0)))
        elif first in _IPV4_COMPATIBLE and int(first) >> 16:
            raise ValueError(f"{text!r} is of IPv4-compatible addresses")
    if network.prefixlen == 0:
        raise ValueError(f"{text!r} has every address in it")
    return str(network)


def is_in_network(address: str, network: str) -> bool:
    """Tell whether a canonical address is in a network, as `read_any_network` returns it."""
    return ip_address(address) in ip_network(network)


def same_address(left: str, right: str) -> bool:
    """Tell whether two addresses count as the same. IPv4 and IPv6 addresses never do."""
    if UNKNOWN_ADDRESS in (left, right):
        return False
    return left == right or network_of(left) == network_of(right)
