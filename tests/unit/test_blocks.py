"""The block list in memory."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.blocks import Block, BlockList, has_several_addresses, read_block_network
from app.domain.texts import RefusedError
from tests.support.tables import for_each

MACHINE, OTHER = "a" * 64, "b" * 64


@for_each(
    ("typed", "network"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("::ffff:203.0.113.7", "203.0.113.7/32"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::1", "::/64"),
        ("::1.2.3.4", "::/64"),
        ("0.0.0.0/1", "0.0.0.0/1"),
    ],
)
def test_an_address_or_a_network_is_read(typed: str, network: str) -> None:
    assert read_block_network(typed) == network


@for_each(
    "typed",
    [
        *("", "0.0.0.0/0", "::/0", "::ffff:0:0/96", "203.0.113.7/24", "203.0.113.0/33", "300.0.0.1", "a/b"),
        *("fe80::1%eth0", "fe80::%1/64", "::1.2.3.0/120", "::ffff:1.2.3.4%1/120"),
    ],
)
def test_all_addresses_and_what_is_no_network_are_refused(typed: str) -> None:
    with pytest.raises(RefusedError, match=r"must be an address, or a network .* and not all addresses$") as refused:
        read_block_network(typed)
    assert f"“{typed}”须为 IP 地址" in refused.value.text.zh


def test_a_machine_is_found_before_its_address() -> None:
    blocks = BlockList([Block(1, None, "203.0.113.0/24"), Block(2, MACHINE, None)])
    assert blocks.find(MACHINE, "203.0.113.7") == 2
    assert blocks.find(OTHER, "203.0.113.7") == 1
    assert blocks.find(OTHER, "203.0.114.7") is None
    assert BlockList().find(MACHINE, "203.0.113.7") is None
    blocks = BlockList([Block(1, None, "0.0.0.0/1"), Block(2, None, "8000::/1")])
    asked = ("1.2.3.4", "::1", "200.0.0.1", "ffff::1")  # a network of one family has no address of the other
    assert [blocks.find_address(address) for address in asked] == [1, None, None, 2]


addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6)


@st.composite
def networks(draw: st.DrawFn) -> str:
    address = draw(addresses)
    return str(ip_network((address, draw(st.integers(1, address.max_prefixlen))), strict=False))


@given(st.lists(networks(), unique=True, max_size=8), st.data())
def test_an_address_is_found_exactly_where_one_network_has_it(blocked: list[str], data: st.DataObject) -> None:
    blocks = BlockList([Block(number, None, network) for number, network in enumerate(blocked)])
    ends = [ip_network(network)[place] for network in blocked for place in (0, -1)]
    address = data.draw(st.one_of(addresses, st.sampled_from(ends)) if ends else addresses)
    having = {number for number, network in enumerate(blocked) if ip_address(address) in ip_network(network)}
    found = blocks.find_address(str(address))
    assert found in having if having else found is None


def test_a_network_has_several_addresses_or_is_what_counts_as_one() -> None:
    networks = ("203.0.113.7/32", "203.0.113.6/31", "2001:db8::/64", "2001:db8::/63")
    assert [has_several_addresses(network) for network in networks] == [False, True, False, True]
