"""The rule of which backups go, by names alone: scripts/lib/retention.sh."""

import subprocess
from collections.abc import Iterable
from datetime import date, timedelta

import pytest

from tests.support.stack import ROOT

RULE = 'source "$1/scripts/lib/retention.sh" && surplus "$2" "$3" "$4"'
TODAY = date(2026, 11, 25)


def surplus(names: Iterable[str], daily: int, weekly: int, monthly: int) -> set[str]:
    numbers = (str(number) for number in (daily, weekly, monthly))
    done = subprocess.run(
        ["bash", "-c", RULE, "rule", ROOT, *numbers],
        input="".join(f"{name}\n" for name in names), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


def backup(day: date, time: str = "031700", suffix: str = "") -> str:
    return f"kadun-{day:%Y%m%d}T{time}Z.dump{suffix}"


def days_back(number: int) -> list[date]:
    return [TODAY - timedelta(days=back) for back in range(number)]


def test_a_year_of_nights_leaves_seven_days_five_weeks_and_twelve_months() -> None:
    days = days_back(500)
    left = {backup(day) for day in days} - surplus(map(backup, days), 7, 5, 12)
    weeks = {day.isocalendar()[:2]: day for day in reversed(days)}  # the last of each wins
    months = {(day.year, day.month): day for day in reversed(days)}
    expected = {*days[:7], *sorted(weeks.values())[-5:], *sorted(months.values())[-12:]}
    assert left == {backup(day) for day in expected}


def test_night_after_night_the_same_are_left_as_from_the_whole_year_at_once() -> None:
    kept: set[str] = set()
    for day in reversed(days_back(60)):
        kept.add(backup(day))
        kept -= surplus(kept, 2, 2, 2)
    days = {TODAY, TODAY - timedelta(days=1), TODAY - timedelta(days=2), date(2026, 11, 22), date(2026, 10, 31)}
    assert kept == {backup(day) for day in days}


def test_when_backups_stop_time_alone_removes_none() -> None:
    old = [backup(date(2019, 5, day)) for day in range(1, 8)]
    assert surplus(old, 7, 0, 0) == set()


def test_the_newest_three_stay_whatever_the_numbers() -> None:
    names = [backup(TODAY, f"{hour:02}0000") for hour in range(10)]
    assert surplus(names, 0, 0, 0) == set(names[:-3])
    assert surplus(names, 1, 1, 1) == set(names[:-3])


def test_encrypted_and_plain_ones_count_alike() -> None:
    days = days_back(20)
    names = [backup(day, suffix=".age" if day.day % 2 else "") for day in days]
    assert surplus(names, 5, 0, 0) == set(names[5:])


@pytest.mark.parametrize(
    "stranger",
    [
        "kadun-before-restore-20200101T000000Z.dump",
        "kadun-20200101T000000Z.dump.partial",
        "kadun-20200101T000000Z.dump.sha256",
        "kadun-20200101T000000Z.dump.gpg",
        "kadun-20201399T000000Z.dump",
        "my-kadun-20200101T000000Z.dump",
        "kadun-20200101.dump",
        "last-good",
    ],
)
def test_a_name_that_is_not_a_backups_is_never_named(stranger: str) -> None:
    assert surplus([stranger, *(backup(day) for day in days_back(4))], 0, 0, 0) == {backup(days_back(4)[3])}
