"""scripts/lib/retention.py: which backups stay, and what a killed run left."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from scripts.lib.retention import ChecksumError, finished, main, surplus
from tests.support.service import ROOT
from tests.support.tables import for_each

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


def test_only_what_has_a_checksum_is_finished_and_may_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main("newest", str(tmp_path))
    assert capsys.readouterr().out == ""
    ours = [f"kadun-{time}.tar" for time in TIMES]
    others = ["kadun-20250101T000000Z.tar", "kadun-before-restore-20250101T000000Z.tar", "notes.txt"]
    touch(tmp_path, *ours, *(f"{name}.sha256" for name in ours), *others, "kadun-20270101T000000Z.tar.sha256")
    (tmp_path / "kadun-20270101T000000Z.tar").touch()
    assert finished(tmp_path) == ours, "one is unfinished, one is empty"
    main("newest", str(tmp_path))
    assert capsys.readouterr().out == ours[-1]
    main("prune", str(tmp_path), "0", "0", "0", ours[0])
    left = {ours[0], *ours[-3:]}
    assert {file.name for file in tmp_path.glob("kadun-2026*")} == left | {f"{name}.sha256" for name in left}
    assert {file.name for file in tmp_path.iterdir()} > set(others)


def test_of_the_dumps_before_a_restore_the_newest_three_stay_encrypted_or_not(tmp_path: Path) -> None:
    ours = [f"kadun-before-restore-{time}.tar{'.age' * (number % 2)}" for number, time in enumerate(TIMES)]
    others = [f"{name}-20250101T000000Z.tar" for name in ("kadun", "kadun-before-upgrade", "kadun-before-restore-mine")]
    touch(tmp_path, *ours, *others, *(f"{name}.sha256" for name in (*ours, *others)))
    main("keep-newest", str(tmp_path), "kadun-before-restore-", "3")
    left = [*ours[-3:], *others]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*left, *(f"{name}.sha256" for name in left)])


def test_leftovers_of_every_kind_of_archive_go_and_nothing_else(tmp_path: Path) -> None:
    ends, stay = ("", ".age", ".sha256", ".age.sha256"), ["kadun-before-christmas.tar.partial"]
    stay.append("kadun-before-upgrade-20260101T000000Z.tar")
    (tmp_path / ".staging.abc").mkdir()
    for kind in ("", "before-upgrade-", "before-restore-"):
        touch(tmp_path, *(f"kadun-{kind}20260101T000000Z.tar{end}.partial" for end in ends))
    touch(tmp_path, *stay, ".staging.abc/database.dump")
    main("leftovers", str(tmp_path))
    assert sorted(file.name for file in tmp_path.iterdir()) == stay


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """Return a backup with a manifest and a checksum file of both."""
    touch(tmp_path, "a.dump", "a.manifest")
    digest = hashlib.sha256(b"x").hexdigest()
    (tmp_path / "a.dump.sha256").write_text(f"{digest}  a.dump\n{digest}  a.manifest\n")
    return tmp_path / "a.dump"


@for_each(
    "name, change, complaint",
    [
        ("a.dump", lambda _: "dumb", r"a\.dump .*Its SHA-256 differs"),
        ("a.manifest", lambda _: "manifesto", r"a\.manifest .*Its SHA-256 differs"),
        ("a.manifest", None, r"names a\.manifest, which is missing"),
        ("a.dump.sha256", lambda text: text.splitlines()[1], r"no valid SHA-256 of a\.dump"),
        ("a.dump.sha256", lambda _: "", r"no valid SHA-256 of a\.dump"),
        ("a.dump.sha256", lambda text: text[:-80], r"no valid SHA-256 of a\.dump"),
        ("a.dump.sha256", lambda text: text.replace("a.manifest", "/"), r"no valid SHA-256 of a\.dump"),
        ("a.dump.sha256", lambda text: text + " " * 65536, r"is larger than 65536 bytes: .*a\.dump\.sha256"),
    ],
)
def test_a_backup_is_what_its_checksum_file_says(
    dump: Path, name: str, change: Callable[[str], str] | None, complaint: str
) -> None:
    file = dump.with_name(name)
    text = file.read_text()
    main("checksum", str(dump))
    if change:
        file.write_text(change(text))
    else:
        file.unlink()
    with pytest.raises((ChecksumError, OSError), match=complaint):
        main("checksum", str(dump))
    file.write_text(text)


@for_each("name", ["a.dump", "a.manifest", "a.dump.sha256"])
def test_neither_a_pipe_nor_a_link_is_read_in_a_backups_place(dump: Path, name: str) -> None:
    place = dump.with_name(name)
    content = place.rename(dump.with_name("elsewhere"))
    for exchange in (os.mkfifo, lambda path: path.symlink_to(content)):
        exchange(place)
        retention = (sys.executable, ROOT / "scripts/lib/retention.py", "checksum", dump)
        done = subprocess.run(retention, capture_output=True, text=True, check=False, timeout=20)
        assert (done.returncode, name in done.stderr, "Traceback" in done.stderr) == (1, True, False)
        place.unlink()
    content.rename(place)
