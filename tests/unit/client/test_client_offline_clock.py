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

HOURS = 3600
OFFSETS = [-8.0 * HOURS, 8.0 * DAY, YEAR_1970 - NOW, YEAR_2100 - NOW]


@pytest.fixture
def start(make_client: MakeClient, server: FakeServer, clock: Clock) -> MakeClient:
    """Make a client, as each new start of the program does."""
    server.tweak = at(NOW)
    return lambda **changes: make_client(clock=clock, **changes)


@pytest.fixture
def unplugged(start: MakeClient, server: FakeServer) -> MakeClient:
    """The same after an opening at NOW; the server cannot be reached any more."""
    start().open()
    unplug(server)
    return start


def test_it_ends_when_its_time_is_over(unplugged: MakeClient, server: FakeServer, clock: Clock) -> None:
    clock.now = NOW + GRACE - 1
    assert unplugged().open().offline
    clock.now = NOW + GRACE
    error = refused(unplugged())
    assert "ended at 2025-10-16 08:53:20 UTC" in error.detail
    assert "离线使用期限也已到" in error.message
    assert refused(unplugged(language="en")).message.isascii()
    unplug(server, Response(200, b"<html>"))
    assert "离线使用期限也已到" in refused(unplugged(), UntrustedAnswer).message


@for_each("time", [YEAR_1970, -1.0, NOW - DAY, NOW + GRACE, YEAR_2100, 1e300])
def test_an_online_start_works_whatever_the_clock_says(time: float, start: MakeClient, clock: Clock) -> None:
    clock.now = time
    assert start().open().accepted
    assert start().report("导出报表").accepted


@for_each(
    ("opened", "started", "refusals"),
    [
        # always wrong by the same: as good as a right one
        *((NOW + by, [NOW + by + s for s in (0, 1000, 2 * DAY, GRACE - 1)], [NOW + by + GRACE]) for by in OFFSETS),
        # turned back after the end: gains nothing
        (NOW, [], [NOW + GRACE, NOW, NOW + GRACE - 1, YEAR_1970]),
        # slow, and then set right: costs what it was slow by
        (NOW - 8 * HOURS, [NOW + GRACE - 8 * HOURS - 1], [NOW + GRACE - 8 * HOURS]),
        # fast, and then set right: costs a 24th, once
        *(
            (NOW + by, [NOW + 1, NOW + 2 * DAY, NOW + GRACE * 23 / 24], [NOW + 2 + GRACE * 23 / 24])
            for by in (1 * HOURS, 8 * DAY, YEAR_2100 - NOW)
        ),
        # set right by minutes: costs nothing
        (NOW + 300, [NOW + 1, NOW + DAY, NOW + GRACE + 299], [NOW + GRACE + 300]),
        # ten starts at once, now and then: lose nothing
        (NOW, [*[NOW + 1] * 10, *[NOW + DAY] * 10, *[NOW + 5 * DAY] * 10, NOW + GRACE - 1], [NOW + GRACE]),
    ],
)
def test_a_wrong_clock_costs_what_it_could_gain(
    opened: float, started: list[float], refusals: list[float], start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    plug_in(server)
    clock.now = opened
    start().open()
    unplug(server)
    for clock.now in started:
        assert start().open().offline
    for clock.now in refusals:
        refused(start())


@for_each("wrong_by", OFFSETS)
def test_a_report_tells_how_wrong_the_clock_is_as_well(
    wrong_by: float, start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    plug_in(server)
    clock.now, server.tweak = NOW, at(NOW)
    start().open()
    clock.now = NOW + wrong_by + DAY  # wrong from here on, and the server has said what is right
    server.tweak = at(NOW + DAY)
    start().report("导出报表")
    unplug(server)
    clock.now = NOW + wrong_by + GRACE - 1
    assert start().open().offline
    clock.now = NOW + wrong_by + GRACE
    refused(start())


def starts_until_refused(start: MakeClient, clock: Clock, seconds_between: float, most: int) -> int:
    for count in range(most):
        try:
            assert start().open().offline
        except ServerUnreachable:
            return count
        clock.now += seconds_between
    raise AssertionError(f"still allowed after {most} starts")


def test_a_clock_set_back_before_each_start_is_worth_a_24th_each(unplugged: MakeClient, clock: Clock) -> None:
    assert starts_until_refused(unplugged, clock, -301, most=50) == 24  # the first was not set back


def test_a_stopped_clock_ends_too(start: MakeClient, server: FakeServer, clock: Clock) -> None:
    server.tweak = setting(offline_until=NOW + 3600, card_expires_at=None)
    start().open()
    unplug(server)
    assert starts_until_refused(start, clock, 0, most=100) == 59  # a minute each


def test_a_clock_set_back_repeatedly_ends_offline_starts(unplugged: MakeClient, clock: Clock) -> None:
    for day in range(100):
        clock.now = NOW + day % 3 * DAY  # every third day, back by two days
        try:
            unplugged().open()
        except ServerUnreachable:
            break
    assert 7 <= day <= 24


@pytest.mark.parametrize("way", ["open", "report"])
def test_the_next_online_verdict_sets_right_what_a_clock_in_2100_did(
    way: str, unplugged: MakeClient, server: FakeServer, clock: Clock
) -> None:
    for clock.now in (YEAR_2100, NOW + DAY):
        refused(unplugged())  # 2100 was seen: until the server is heard again, that is what counts
    plug_in(server)
    server.tweak = at(NOW + DAY)
    unplugged().open() if way == "open" else unplugged().report("导出报表")
    unplug(server)
    assert unplugged().open().offline


def test_the_servers_time_counts_from_the_first_offline_start_on(
    start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    start().open()
    server.tweak = at(NOW + 6 * DAY)
    start().report("导出报表")  # the server has said how late it is
    unplug(server)
    clock.now = NOW - DAY  # and the local clock was turned back: a day is left of seven
    assert starts_until_refused(start, clock, -DAY, most=50) == 3


@for_each("step", [0, 1, 100, -1, -299])
def test_a_clock_that_stands_still_or_creeps_is_worth_a_thousand_starts(step: float) -> None:
    times, clock, count = synchronized(NOW, NOW), float(NOW), 0
    while times.spent < NOW + GRACE:
        clock += step
        times = times.started(clock, GRACE)
        count += 1
    assert count == pytest.approx(1000, abs=1) if step >= 0 else 23 < count < 1000


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
