"""Offline starts and the clock of the machine: wrong, stopped, or set back and forth."""

from __future__ import annotations

import pytest
from kadun import ServerUnreachable, UntrustedAnswer
from kadun.clocks import LATEST_TIME, synchronized
from kadun.responses import Response

from tests.support.client.fake_server import NOW, FakeServer, setting
from tests.support.client.offline import (
    DAY,
    GRACE,
    YEAR_1970,
    YEAR_2100,
    Clock,
    MakeClient,
    at,
    plug_in,
    refused,
    unplug,
)
from tests.support.tables import for_each


@pytest.fixture
def start(make_client: MakeClient, server: FakeServer, clock: Clock) -> MakeClient:
    """Make a client, as each new start of the program does."""
    server.tweak = at(NOW)
    return lambda **changes: make_client(clock=clock, **changes)


def test_it_ends_when_its_time_is_over(start: MakeClient, server: FakeServer, clock: Clock) -> None:
    start().open()
    unplug(server)
    clock.now = NOW + GRACE - 1
    assert start().open().offline
    clock.now = NOW + GRACE
    error = refused(start())
    assert "ended at 2025-10-16 08:53:20 UTC" in error.detail
    assert "离线使用期限也已到" in error.message
    assert refused(start(language="en")).message.isascii()
    unplug(server, Response(200, b"<html>"))
    assert "离线使用期限也已到" in refused(start(), UntrustedAnswer).message


@pytest.mark.parametrize("time", [YEAR_1970, -1.0, NOW - DAY, NOW + GRACE, YEAR_2100, 1e300])
def test_an_online_start_works_whatever_the_clock_says(time: float, start: MakeClient, clock: Clock) -> None:
    clock.now = time
    assert start().open().accepted
    assert start().report("导出报表").accepted


def test_a_clock_that_was_turned_back_after_the_end_gains_nothing(
    start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    start().open()
    unplug(server)
    clock.now = NOW + GRACE
    refused(start())
    for clock.now in (NOW, NOW + GRACE - 1, YEAR_1970):
        refused(start())


def starts_until_refused(start: MakeClient, clock: Clock, seconds_between: float, most: int) -> int:
    for count in range(most):
        try:
            assert start().open().offline
        except ServerUnreachable:
            return count
        clock.now += seconds_between
    raise AssertionError(f"still allowed after {most} starts")


OFFSETS = {"8 hours slow": -8 * 3600.0, "8 days fast": 8.0 * DAY, "1970": YEAR_1970 - NOW, "2100": YEAR_2100 - NOW}


@pytest.mark.parametrize("offset", OFFSETS.values(), ids=OFFSETS)
def test_a_clock_that_is_always_wrong_by_the_same_is_as_good_as_a_right_one(
    offset: float, start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    clock.now = NOW + offset
    start().open()
    unplug(server)
    for second in (0, 1000, 2 * DAY, GRACE - 1):
        clock.now = NOW + offset + second
        assert start().open().offline
    clock.now = NOW + offset + GRACE
    refused(start())


@pytest.mark.parametrize("offset", OFFSETS.values(), ids=OFFSETS)
def test_a_report_tells_how_wrong_the_clock_is_as_well(
    offset: float, start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    start().open()
    clock.now = NOW + offset + DAY  # wrong from here on, and the server has said what is right
    server.tweak = at(NOW + DAY)
    start().report("导出报表")
    unplug(server)
    clock.now = NOW + offset + GRACE - 1
    assert start().open().offline
    clock.now = NOW + offset + GRACE
    refused(start())


def test_a_slow_clock_that_was_set_right_in_between_costs_what_it_was_slow_by(
    start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    clock.now = NOW - 8 * 3600
    start().open()
    unplug(server)
    clock.now = NOW + GRACE - 8 * 3600 - 1  # right: 8 hours are left
    assert start().open().offline
    clock.now += 1
    refused(start())
    plug_in(server)
    server.tweak = at(int(clock.now))
    start().open()
    unplug(server)
    clock.now += GRACE - 1
    assert start().open().offline


@pytest.mark.parametrize("fast_by", [3600, 8 * DAY, YEAR_2100 - NOW])
def test_a_fast_clock_that_was_set_right_in_between_costs_a_24th_once(
    fast_by: float, start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    clock.now = NOW + fast_by
    start().open()
    unplug(server)
    for clock.now in (NOW + 1, NOW + 2 * DAY, NOW + 1 + GRACE * 23 / 24 - 1):
        assert start().open().offline
    clock.now += 2
    refused(start())


def test_a_clock_set_right_by_minutes_costs_nothing(start: MakeClient, server: FakeServer, clock: Clock) -> None:
    clock.now = NOW + 300
    start().open()
    unplug(server)
    for clock.now in (NOW + 1, NOW + DAY, NOW + GRACE + 299):
        assert start().open().offline
    clock.now += 1
    refused(start())


def test_a_clock_set_back_before_each_start_is_worth_a_24th_each(
    start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    start().open()
    unplug(server)
    assert starts_until_refused(start, clock, -301, most=50) == 24  # the first was not set back


@for_each("step", [0, 1, 100, -1, -299])
def test_a_clock_that_stands_still_or_creeps_is_worth_a_thousand_starts(step: float) -> None:
    times, clock, count = synchronized(NOW, NOW), float(NOW), 0
    while times.spent < NOW + GRACE:
        clock += step
        times = times.started(clock, GRACE)
        count += 1
    assert count == pytest.approx(1000, abs=1) if step >= 0 else 23 < count < 1000


def test_a_stopped_clock_ends_too(start: MakeClient, server: FakeServer, clock: Clock) -> None:
    server.tweak = setting(offline_until=NOW + 3600, card_expires_at=None)
    start().open()
    unplug(server)
    assert starts_until_refused(start, clock, 0, most=100) == 59  # a minute each


def test_starts_less_frequent_than_a_step_lose_nothing(start: MakeClient, server: FakeServer, clock: Clock) -> None:
    start().open()
    unplug(server)
    for clock.now in (NOW + 1, NOW + DAY, NOW + 5 * DAY):
        for _ in range(10):  # ten at once, now and then
            assert start().open().offline
    clock.now = NOW + GRACE - 1
    assert start().open().offline


def test_a_clock_set_back_repeatedly_ends_offline_starts(start: MakeClient, server: FakeServer, clock: Clock) -> None:
    start().open()
    unplug(server)
    for day in range(100):
        clock.now = NOW + day % 3 * DAY  # every third day, back by two days
        try:
            start().open()
        except ServerUnreachable:
            break
    assert 7 <= day <= 24


@pytest.mark.parametrize("way", ["open", "report"])
def test_the_next_online_verdict_sets_right_what_a_clock_in_2100_did(
    way: str, start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    start().open()
    unplug(server)
    clock.now = YEAR_2100
    refused(start())
    clock.now = NOW + DAY
    refused(start())  # 2100 was seen: until the server is heard again, that is what counts
    plug_in(server)
    server.tweak = at(NOW + DAY)
    start().open() if way == "open" else start().report("导出报表")
    unplug(server)
    assert start().open().offline


def test_the_servers_time_counts_from_the_first_offline_start_on(
    start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    start().open()
    server.tweak = at(NOW + 6 * DAY)
    start().report("导出报表")  # the server has said how late it is
    unplug(server)
    clock.now = NOW - DAY  # and the local clock was turned back: a day is left of seven
    assert starts_until_refused(start, clock, -DAY, most=50) == 3


@for_each(
    ("clock", "spent", "reached"),
    [
        (1100.0, 1100.0, 1100.0),  # goes on
        (1000.0, 1086.4, 1000.0),  # stands still
        (1001.0, 1086.4, 1001.0),  # creeps
        (700.0, 1086.4, 1000.0),  # was set right by a little
        (699.0, 4600.0, 4600.0),  # was set back
        (0.0, 4600.0, 4600.0),
        (-5.0, 4600.0, 4600.0),
        (float("-inf"), 4600.0, 4600.0),
        (float("nan"), 4600.0, 4600.0),
        (1e12, LATEST_TIME, LATEST_TIME),
        (float("inf"), LATEST_TIME, LATEST_TIME),
    ],
)
def test_the_time_of_an_offline_start(clock: float, spent: float, reached: float) -> None:
    assert synchronized(1000.0, 1000.0).started(clock, allowed_seconds=DAY)[:2] == (spent, reached)


@for_each("strange", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_a_clock_that_was_no_clock_when_the_server_was_heard_leaves_some_starts(strange: float) -> None:
    times = synchronized(1000.0, strange)
    assert times.started(strange, DAY).spent == 1086.4
    assert times.started(5000.0, DAY).spent >= 1086.4
