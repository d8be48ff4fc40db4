"""Canonical addresses, when two count as the same, and the block list in memory."""
# Owns verdict-addresses.

import re
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.addresses import (
    UNKNOWN_ADDRESS,
    canonical_address,
    known,
    network_of,
    read_any_network,
    read_network,
    same_address,
    site_of,
)
from app.domain.licence.blocks import BlockList, has_several_addresses, read_block_network
from app.domain.texts import RefusedError


def test_addresses_are_the_same_when_equal_or_within_one_ipv6_network() -> None:
    for left, right, same in (
        ("203.0.113.7", "203.0.113.7", True),
        ("::ffff:203.0.113.7", "203.0.113.7", True),
        ("::ffff:203.0.113.7", "::ffff:203.0.113.8", False),
        ("2001:db8::1", "2001:db8:0:0:ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("2001:db8:0:1::", "2001:db8:0:0:ffff:ffff:ffff:ffff", False),
        ("::1", "127.0.0.1", False),
        ("::203.0.113.7", "203.0.113.7", False),
    ):
        assert same_address(left, right) is same, (left, right)
        assert same_address(right, left) is same, (left, right)


def test_an_address_has_one_spelling_counts_by_a_network_may_have_a_site_and_other_text_is_none() -> None:
    for text, canonical, network, site in (
        ("203.0.113.7", "203.0.113.7", "203.0.113.7", None),
        ("::ffff:203.0.113.7", "203.0.113.7", "203.0.113.7", None),
        ("::FFFF:CB00:7107", "203.0.113.7", "203.0.113.7", None),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1", "2001:db8::/64", "2001:db8::/48"),
        ("2001:db8:1:2::1", "2001:db8:1:2::1", "2001:db8:1:2::/64", "2001:db8:1::/48"),
    ):
        assert (canonical_address(text), network_of(text), site_of(text)) == (canonical, network, site)
        assert known(text) == text
    assert known(UNKNOWN_ADDRESS) is None
    for text in (
        *("", " ", "localhost", "203.0.113", "203.0.113.7 ", "203.0.113.7, 198.51.100.9", "203.0.113.07"),
        *("203.0.113.256", "203.0.113.7:80", "203.0.113.0/24", "[2001:db8::1]", "2001:db8::1::", "fe80::1%eth0"),
        *("２０３.0.113.7", "unix:", "\0"),
    ):
        for read in (canonical_address, network_of):
            with pytest.raises(ValueError):  # noqa: PT011  # the standard library's own words
                pytest.fail(f"{text!r} is read as {read(text)}")


def test_a_network_is_read_as_typed_or_the_message_says_what_is_wrong_with_it() -> None:
    for read, typed, network in (
        (read_network, "203.0.113.7", "203.0.113.7"),
        (read_network, "2001:DB8:0:1::9", "2001:db8:0:1::/64"),
        (read_network, "2001:db8:0:1::/64", "2001:db8:0:1::/64"),
        (read_any_network, "203.0.113.7", "203.0.113.7/32"),
        (read_any_network, "203.0.113.0/24", "203.0.113.0/24"),
        (read_any_network, "::ffff:203.0.113.0/120", "203.0.113.0/24"),
        (read_any_network, "2001:DB8::/32", "2001:db8::/32"),
        (read_any_network, "::1.2.3.4", "::/64"),
        (read_any_network, "::1/128", "::1/128"),
        (read_any_network, "0.0.0.0/1", "0.0.0.0/1"),
    ):
        assert read(typed) == network, (read, typed)
        if read is read_any_network:
            assert read_block_network(typed) == network
    several = ("203.0.113.6/31", "2001:db8::/63")
    for network in ("203.0.113.7/32", "2001:db8::/64", *several):
        assert has_several_addresses(network) is (network in several), network
    for read, typed, wrong in (
        (read_network, "fe80::1%eth0", "has a zone, which has a meaning on one host only"),
        (read_network, "2001:db8::/48", "is neither an address nor a /64 network"),
        (read_network, "2001:db8:0:1::9/64", "is neither an address nor a /64 network"),
        (read_network, "203.0.113.7/32", "is neither an address nor a /64 network"),
        (read_any_network, "::1:0/112", "is of IPv4-compatible addresses"),
        (read_any_network, "0.0.0.0/0", "has every address in it"),
        (read_any_network, "::ffff:0:0/96", "has every address in it"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(repr(typed))} {wrong}$"):
            read(typed)
    invalid = ("203.0.113.7/24", "203.0.113.0/33", "a/b", "fe80::1%eth0", "::ffff:1.2.3.4%1/120")
    for typed in ("", "0.0.0.0/0", "::/0", *invalid):
        with pytest.raises(RefusedError, match=r"must be an address, or a network .* not all addresses$") as refused:
            read_block_network(typed)
        assert f"“{typed}”须为 IP 地址" in refused.value.text.zh


MACHINE, OTHER = "a" * 64, "b" * 64


def test_a_machine_is_found_before_its_address() -> None:
    blocks = BlockList([(1, None, "203.0.113.0/24"), (2, MACHINE, None)])
    assert blocks.find(MACHINE, "203.0.113.7") == 2
    assert blocks.find(OTHER, "203.0.113.7") == 1
    assert blocks.find(OTHER, "203.0.114.7") is None
    assert BlockList().find(MACHINE, "203.0.113.7") is None
    blocks = BlockList([(1, None, "0.0.0.0/1"), (2, None, "8000::/1")])
    asked = ("1.2.3.4", "::1", "200.0.0.1", "ffff::1")  # a network of one family has no address of the other
    assert [blocks.find_address(address) for address in asked] == [1, None, None, 2]


any_address = st.ip_addresses(v=4) | st.ip_addresses(v=6)


@st.composite
def networks(draw: st.DrawFn) -> str:
    address = draw(any_address)
    return str(ip_network((address, draw(st.integers(1, address.max_prefixlen))), strict=False))


@given(st.lists(networks(), unique=True, max_size=8), st.data())
def test_an_address_is_found_exactly_where_one_network_has_it(blocked: list[str], data: st.DataObject) -> None:
    blocks = BlockList([(number, None, network) for number, network in enumerate(blocked)])
    ends = [ip_network(network)[place] for network in blocked for place in (0, -1)]
    address = data.draw(st.one_of(any_address, st.sampled_from(ends)) if ends else any_address)
    having = {number for number, network in enumerate(blocked) if ip_address(address) in ip_network(network)}
    found = blocks.find_address(str(address))
    assert found in having if having else found is None
