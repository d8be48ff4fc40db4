"""scripts/lib/retention.py: which backups stay."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from scripts.lib.retention import main, surplus

TODAY = date(2026, 11, 25)
TIMES = [f"202601{day:02}T000000Z" for day in range(1, 7)]


def backup(day: date, time: str = "031700", suffix: str = "") -> str:
    return f"kadun-{day:%Y%m%d}T{time}Z.tar{suffix}"


def days_back(number: int) -> list[date]:
    return [TODAY - timedelta(days=back) for back in range(number)]


def test_a_year_of_nights_leaves_seven_days_five_weeks_and_twelve_months() -> None:
    days = days_back(500)
    left = {backup(day) for day in days} - surplus(map(backup, days), 7, 5, 12)
    weeks = {day.isocalendar()[:2]: day for day in reversed(days)}  # the last of each wins
    months = {(day.year, day.month): day for day in reversed(days)}
    expected = {*days[:7], *sorted(weeks.values())[-5:], *sorted(months.values())[-12:]}
    assert left == {backup(day) for day in expected}
    kept: set[str] = set()
    for day in reversed(days_back(60)):  # night after night the same are left as at once
        kept.add(backup(day))
        kept -= surplus(kept, 2, 2, 2)
    assert kept == {backup(day) for day in (*days_back(3), date(2026, 11, 22), date(2026, 10, 31))}


def test_the_newest_stay_whatever_the_numbers_and_time_alone_removes_none() -> None:
    old = [backup(date(2019, 5, day)) for day in range(1, 8)]
    assert surplus(old, 7, 0, 0) == set()
    names = [backup(TODAY, f"{hour:02}0000") for hour in range(10)]
    assert surplus(names, 0, 0, 0) == surplus(names, 1, 1, 1) == set(names[:-3])
    mixed = [backup(day, suffix=".age" if day.day % 2 else "") for day in days_back(20)]
    assert surplus(mixed, 5, 0, 0) == set(mixed[5:]), "encrypted and plain ones count alike"
    strangers = [f"kadun-20200101T000000Z.tar.{end}" for end in ("partial", "sha256", "gpg")]
    strangers += ["kadun-before-restore-20200101T000000Z.tar", "my-kadun-20200101T000000Z.tar", "last-good"]
    strangers += ["kadun-20201399T000000Z.tar", "kadun-20200101.tar"]
    assert surplus([*strangers, *map(backup, days_back(4))], 0, 0, 0) == {backup(days_back(4)[3])}


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("x")


def test_surplus_backups_go_with_the_checksums_of_version_1_0_and_never_the_one_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main("newest", str(tmp_path))
    assert capsys.readouterr().out == ""
    ours = [f"kadun-{time}.tar{'.age' * (number % 2)}" for number, time in enumerate(TIMES)]
    others = ["kadun-before-restore-20250101T000000Z.tar", "kadun-20270101T000000Z.tar.age.partial", "notes.txt"]
    touch(tmp_path, *ours, *(f"{name}.sha256" for name in ours), *others)
    main("newest", str(tmp_path))
    assert capsys.readouterr().out == ours[-1]
    main("prune", str(tmp_path), "0", "0", "0", ours[0])
    left = {ours[0], *ours[-3:]}
    assert {file.name for file in tmp_path.iterdir()} == {*left, *(f"{name}.sha256" for name in left), *others}


def test_of_the_backups_before_a_restore_the_newest_three_stay(tmp_path: Path) -> None:
    ours = [f"kadun-before-restore-{time}.tar{'.age' * (number % 2)}" for number, time in enumerate(TIMES)]
    others = [f"{name}-20250101T000000Z.tar" for name in ("kadun", "kadun-before-upgrade", "kadun-before-restore-mine")]
    touch(tmp_path, *ours, *others)
    main("keep-newest", str(tmp_path), "kadun-before-restore-", "3")
    assert {file.name for file in tmp_path.iterdir()} == {*ours[-3:], *others}
