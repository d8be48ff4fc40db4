"""Which calls of core functions may run at once, how often an address may ask, and whom self-service counts."""

from typing import Any

import pytest

from app.domain.calls import Caller, CallLimits, may_begin
from app.http.self_service import asker_of
from app.services import pace
from app.services.pace import BURST, Pace
from tests.support.tables import for_each

LIMITS = CallLimits(places=4, per_card=1, per_address=2)
HOME, NEIGHBOUR, ELSEWHERE, OFFICE = "2001:db8:1:1::/64", "2001:db8:1:2::/64", "2001:db8:2:1::/64", "192.0.2.1"
A, B, C, D = Caller("a", HOME), Caller("b", HOME), Caller("c", HOME), Caller("d", ELSEWHERE)
OPERATOR = Caller("0", None)


@for_each(
    ("caller", "running", "may"),
    [
        (A, [], True),
        (A, [D], True),
        (A, [A], False),
        (Caller("a", ELSEWHERE), [A], False),
        (B, [A], True),
        (C, [A, B], False),
        (D, [A, B], True),
        (B, [A, D, OPERATOR], False),
        (Caller("e", OFFICE), [A, B, D], True),
        (Caller("e", OFFICE), [A, B, D, OPERATOR], False),
        (Caller("e", NEIGHBOUR), [A, B], True),
        (Caller("e", NEIGHBOUR), [A, D, OPERATOR], False),
        (Caller("e", "192.0.2.2"), [A, D, Caller("f", OFFICE)], True),
    ],
)
def test_a_caller_may_begin(caller: Caller, running: list[Caller], may: bool) -> None:  # noqa: FBT001  # a column
    assert may_begin(caller, running, LIMITS) is may


def test_a_card_never_has_the_last_place_unless_it_is_the_only_one() -> None:
    limits = LIMITS._replace(per_card=4, per_address=4)
    assert may_begin(A, [A, A], limits)
    assert not may_begin(A, [A, A, A], limits)
    only = LIMITS._replace(places=1)
    assert may_begin(A, [], only)
    assert not may_begin(B, [A], only)


def test_a_site_has_five_times_what_an_address_has() -> None:
    limits = LIMITS._replace(places=64, per_address=1)
    running = [Caller(str(number), f"2001:db8:1:{number + 16:x}::/64") for number in range(5)]
    assert may_begin(A, running[:4], limits)
    assert not may_begin(A, running, limits)
    assert may_begin(D, running, limits)


def test_an_operators_call_counts_for_no_card_and_no_address_and_may_take_the_last_place() -> None:
    assert may_begin(Caller("0", HOME), [OPERATOR], LIMITS)
    assert may_begin(OPERATOR, [OPERATOR, OPERATOR, OPERATOR], LIMITS)
    assert not may_begin(OPERATOR, [OPERATOR] * 4, LIMITS)


class Seconds:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def asked(paced: Pace, *addresses: str) -> list[bool]:
    """Ask once from each address; return which were let through."""
    return [not paced.wait_seconds(address) for address in addresses]


def test_after_a_burst_an_address_may_ask_once_a_second() -> None:
    seconds = Seconds()
    paced = Pace(seconds)
    assert asked(paced, *["192.0.2.1"] * (BURST + 1)) == [True] * BURST + [False]
    assert asked(paced, "192.0.2.2") == [True]
    for _ in range(5):
        seconds.now += 1
        assert asked(paced, *["192.0.2.1"] * 2) == [True, False]
    assert {paced.wait_seconds("192.0.2.1") for _ in range(100)} == {1}, "what is refused counts for nothing"
    seconds.now += 3 * BURST
    assert asked(paced, *["192.0.2.1"] * (BURST + 1)) == [True] * BURST + [False]


def test_an_ipv6_address_counts_by_its_network_and_its_site() -> None:
    paced = Pace(Seconds())
    assert asked(paced, *(f"2001:db8:0:1::{host:x}" for host in range(BURST + 1))) == [True] * BURST + [False]
    fresh = Pace(Seconds())
    through = asked(fresh, *(f"2001:db8:1:{network:x}::1" for network in range(10 * BURST + 1)))
    assert through == [True] * 10 * BURST + [False]
    assert asked(fresh, "2001:db8:2::1", "192.0.2.1") == [True, True]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_MAX_KEPT", 20)
    seconds = Seconds()
    paced = Pace(seconds)
    asked(paced, *["192.0.2.1"] * BURST)
    seconds.now += 1.5
    asked(paced, *(f"198.51.100.{host}" for host in range(18)))
    assert asked(paced, "192.0.2.1", "203.0.113.1", "192.0.2.1") == [True, True, False], "those that have paid are kept"
    asked(paced, *(f"198.51.100.{host}" for host in range(100)))
    assert len(paced._paid_until) <= 20  # noqa: SLF001  # the memory that it takes


def environ(path: str, **headers: str) -> dict[str, Any]:
    return {"PATH_INFO": path, "REMOTE_ADDR": "192.0.2.1", "HTTP_X_REAL_IP": "203.0.113.7", **headers}


def test_a_request_for_self_service_is_its_addresss_and_all_others_are_nobodys() -> None:
    for path in ("/card", "/v1/self/status", "/v1/self/unbind", "/v1/self/renew"):
        assert asker_of(environ(path), behind_proxy=True) == "203.0.113.7"
        assert asker_of(environ(path), behind_proxy=False) == "192.0.2.1"
    for path in ("/", "/v1/selfish", "/v1/verify", "/admin/card", "/v1/shop/cards"):
        assert asker_of(environ(path), behind_proxy=True) is None


@for_each(
    ("seen", "asker"),
    [
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("2001:db8:1:ffff::9", "2001:db8:1::/48"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("nonsense", ""),
        ("", ""),
    ],
)
def test_a_site_is_one_asker_and_so_are_all_without_an_address(seen: str, asker: str) -> None:
    assert asker_of(environ("/card", HTTP_X_REAL_IP=seen), behind_proxy=True) == asker
    assert asker_of({"PATH_INFO": "/card"}, behind_proxy=True) == ""
