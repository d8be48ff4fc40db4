"""Offline starts and the clock of the machine: wrong, stopped, or set back and forth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kadun import UntrustedAnswer
from kadun.clocks import LATEST_TIME, synchronized
from kadun.responses import Response

from tests.support.client.fake_server import NOW, setting
from tests.support.client.offline import DAY, GRACE, YEAR_1970, YEAR_2100, at
from tests.support.tables import for_each

if TYPE_CHECKING:
    from tests.support.client.customer_machine import Machine

HOUR = 3600
OFFSETS = [-8.0 * HOUR, 8.0 * DAY, YEAR_1970 - NOW, YEAR_2100 - NOW]


def test_it_ends_when_its_time_is_over(machine: Machine) -> None:
    machine.open()
    machine.now = NOW + GRACE - 1
    assert machine.starts_offline()
    machine.now = NOW + GRACE
    error = machine.fails_offline()
    assert "ended at 2025-10-16 08:53:20 UTC" in error.detail
    assert "离线使用期限也已到" in error.message
    assert machine.fails_offline(language="en").message.isascii()
    assert "离线使用期限也已到" in machine.fails_offline(UntrustedAnswer, Response(200, b"<html>")).message


@for_each("time", [YEAR_1970, -1.0, NOW - DAY, NOW + GRACE, YEAR_2100, 1e300])
def test_an_online_start_works_whatever_the_clock_says(time: float, machine: Machine) -> None:
    machine.now = time
    assert machine.open().accepted
    assert machine.run().report("导出报表").accepted


@for_each(
    ("opened", "starts", "refusals"),
    [
        # always wrong by the same: as good as a right one
        *((NOW + by, [NOW + by + s for s in (0, 1000, 2 * DAY, GRACE - 1)], [NOW + by + GRACE]) for by in OFFSETS),
        # turned back after the end: gains nothing
        (NOW, [], [NOW + GRACE, NOW, NOW + GRACE - 1, YEAR_1970]),
        # slow, and then set right: costs what it was slow by
        (NOW - 8 * HOUR, [NOW + GRACE - 8 * HOUR - 1], [NOW + GRACE - 8 * HOUR]),
        # fast, and then set right: costs a 24th, once
        *(
            (NOW + by, [NOW + 1, NOW + 2 * DAY, NOW + GRACE * 23 / 24], [NOW + GRACE * 23 / 24 + 2])
            for by in (1 * HOUR, 8 * DAY, YEAR_2100 - NOW)
        ),
        # set right by minutes: costs nothing
        (NOW + 300, [NOW + 1, NOW + DAY, NOW + GRACE + 299], [NOW + GRACE + 300]),
        # ten starts at once, now and then: lose nothing
        (NOW, [*[NOW + 1] * 10, *[NOW + DAY] * 10, *[NOW + 5 * DAY] * 10, NOW + GRACE - 1], [NOW + GRACE]),
    ],
)
def test_a_wrong_clock_costs_what_it_could_gain(
    opened: float, starts: list[float], refusals: list[float], machine: Machine
) -> None:
    machine.now = opened
    machine.open()
    for machine.now in starts:
        assert machine.starts_offline()
    for machine.now in refusals:
        assert not machine.starts_offline()


@for_each("wrong_by", OFFSETS)
def test_a_report_tells_how_wrong_the_clock_is_as_well(wrong_by: float, machine: Machine) -> None:
    machine.now, machine.server.tweak = NOW, at(NOW)
    machine.open()
    machine.now = NOW + wrong_by + DAY  # wrong from here on, and the server has said what is right
    machine.server.tweak = at(NOW + DAY)
    machine.run().report("导出报表")
    for machine.now, starts in ((NOW + wrong_by + GRACE - 1, True), (NOW + wrong_by + GRACE, False)):
        assert machine.starts_offline() is starts


def starts_until_refused(machine: Machine, seconds_between: float) -> int:
    for count in range(100):
        if not machine.starts_offline():
            return count
        machine.now += seconds_between
    raise AssertionError("still allowed after 100 starts")


def test_a_clock_set_back_before_each_start_is_worth_a_24th_each(machine: Machine) -> None:
    machine.open()
    assert starts_until_refused(machine, -301) == 24  # the first was not set back


def test_a_stopped_clock_ends_too(machine: Machine) -> None:
    machine.server.tweak = setting(offline_until=NOW + HOUR, card_expires_at=None)
    machine.open()
    assert starts_until_refused(machine, 0) == 59  # a minute each


def test_a_clock_set_back_repeatedly_ends_offline_starts(machine: Machine) -> None:
    machine.open()
    for day in range(100):
        machine.now = NOW + day % 3 * DAY  # every third day, back by two days
        if not machine.starts_offline():
            break
    assert 7 <= day <= 24


@pytest.mark.parametrize("way", ["open", "report"])
def test_the_next_online_verdict_sets_right_what_a_clock_in_2100_did(way: str, machine: Machine) -> None:
    machine.open()
    for machine.now in (YEAR_2100, NOW + DAY):
        assert not machine.starts_offline()  # 2100 was seen: until the server is heard again, that is what counts
    machine.server.tweak = at(NOW + DAY)
    machine.open() if way == "open" else machine.run().report("导出报表")
    assert machine.starts_offline()


def test_the_servers_time_counts_from_the_first_offline_start_on(machine: Machine) -> None:
    machine.open()
    machine.server.tweak = at(NOW + 6 * DAY)
    machine.run().report("导出报表")  # the server has said how late it is
    machine.now = NOW - DAY  # and the local clock was turned back: a day is left of seven
    assert starts_until_refused(machine, -DAY) == 3


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
        *((clock, 4600.0, 4600.0) for clock in (699.0, 0.0, -5.0, float("-inf"), float("nan"))),  # was set back
        *((clock, LATEST_TIME, LATEST_TIME) for clock in (1e12, float("inf"))),
    ],
)
def test_the_time_of_an_offline_start(clock: float, spent: float, reached: float) -> None:
    assert synchronized(1000.0, 1000.0).started(clock, allowed_seconds=DAY)[:2] == (spent, reached)


@for_each("strange", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_a_clock_that_was_no_clock_when_the_server_was_heard_leaves_some_starts(strange: float) -> None:
    times = synchronized(1000.0, strange)
    assert times.started(strange, DAY).spent == 1086.4
    assert times.started(5000.0, DAY).spent >= 1086.4
