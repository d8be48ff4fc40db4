"""scripts/lib/retention.py: which backups stay."""

from datetime import date, timedelta
from pathlib import Path

from scripts.lib.retention import surplus
from tests.support.hosts.script_libraries import bash, checkout_in

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


def test_backups_go_with_the_checksums_of_version_1_0_and_no_other_file_does(tmp_path: Path) -> None:
    folder = checkout_in(tmp_path / "checkout") / "data"
    ours = [f"kadun-{time}.tar{'.age' * (number % 2)}" for number, time in enumerate(TIMES)]
    safety = [name.replace("kadun-", "kadun-before-restore-") for name in ours]
    strangers = ["kadun-20261301T000000Z.tar", *(f"kadun-20200101T000000Z.tar.{end}" for end in ("partial", "gpg"))]
    strangers += ["kadun-before-upgrade-20200101T000000Z.tar", "my-kadun-20200101T000000Z.tar", "kadun-20200101.tar"]
    for name in (*ours, *safety, *strangers, *(f"{name}.sha256" for name in ours)):
        (folder / name).write_text("x")
    code = f"""archives kadun- | library retention.py 0 0 0 | remove_archives "$BACKUP_FOLDER/{ours[0]}"
    keep_newest kadun-before-restore- "$BACKUP_FOLDER/{safety[0]}"
    """  # the clock was set back
    assert not bash(tmp_path / "checkout", code).stderr
    kept = [name for names in (ours, safety) for name in (names[0], *names[-3:])]
    left = {*kept, *strangers, *(f"{name}.sha256" for name in ours if name in kept)}
    assert {file.name for file in folder.iterdir() if file.is_file()} == left
