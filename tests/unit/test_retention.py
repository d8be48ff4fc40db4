"""scripts/lib/retention.py: which backups stay, and what a killed run left."""

import hashlib
import os
import subprocess
import sys
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


@for_each(
    "stranger",
    [
        "kadun-before-restore-20200101T000000Z.tar",
        "kadun-20200101T000000Z.tar.partial",
        "kadun-20200101T000000Z.tar.sha256",
        "kadun-20200101T000000Z.tar.gpg",
        "kadun-20201399T000000Z.tar",
        "my-kadun-20200101T000000Z.tar",
        "kadun-20200101.tar",
        "last-good",
    ],
)
def test_a_name_that_is_not_a_backups_is_never_named(stranger: str) -> None:
    assert surplus([stranger, *(backup(day) for day in days_back(4))], 0, 0, 0) == {backup(days_back(4)[3])}


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("x")


def test_only_what_has_a_checksum_is_finished_and_may_go(tmp_path: Path) -> None:
    ours = [f"kadun-{time}.tar" for time in TIMES]
    others = ["kadun-20250101T000000Z.tar", "kadun-before-restore-20250101T000000Z.tar", "notes.txt"]
    touch(tmp_path, *ours, *(f"{name}.sha256" for name in ours), *others)
    (tmp_path / "kadun-20270101T000000Z.tar").touch()
    touch(tmp_path, "kadun-20270101T000000Z.tar.sha256")
    assert finished(tmp_path) == ours, "one is unfinished, one is empty"
    main("prune", str(tmp_path), "0", "0", "0", ours[0])
    left = {ours[0], *ours[-3:]}
    assert {file.name for file in tmp_path.glob("kadun-2026*")} == left | {f"{name}.sha256" for name in left}
    assert {file.name for file in tmp_path.iterdir()} > set(others)


def test_of_the_dumps_before_a_restore_the_newest_three_stay_encrypted_or_not(tmp_path: Path) -> None:
    ours = [f"kadun-before-restore-{time}.tar{'.age' * (number % 2)}" for number, time in enumerate(TIMES)]
    others = [f"{name}-20250101T000000Z.tar" for name in ("kadun", "kadun-before-upgrade", "kadun-before-restore-mine")]
    for name in (*ours, *others):
        touch(tmp_path, name, f"{name}.sha256")
    main("keep-newest", str(tmp_path), "kadun-before-restore-", "3")
    left = [*ours[-3:], *others]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*left, *(f"{name}.sha256" for name in left)])


def test_leftovers_of_every_kind_of_archive_go_and_nothing_else(tmp_path: Path) -> None:
    gone = [
        f"kadun-{kind}20260101T000000Z.tar{end}.partial"
        for kind in ("", "before-upgrade-", "before-restore-")
        for end in ("", ".age", ".sha256", ".age.sha256")
    ]
    stay = ["kadun-before-upgrade-20260101T000000Z.tar", "kadun-before-christmas.tar.partial"]
    touch(tmp_path, *gone, *stay)
    (tmp_path / ".staging.abc").mkdir()
    touch(tmp_path / ".staging.abc", "database.dump")
    main("leftovers", str(tmp_path))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(stay)


def test_the_newest_is_printed_or_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main("newest", str(tmp_path))
    for time in TIMES:
        touch(tmp_path, f"kadun-{time}.tar", f"kadun-{time}.tar.sha256")
    main("newest", str(tmp_path))
    assert capsys.readouterr().out == f"kadun-{TIMES[-1]}.tar"


def checksum_line(file: Path) -> str:
    return f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("the backup changed", r"a\.dump .*Its SHA-256 differs"),
        ("the manifest changed", r"a\.manifest .*Its SHA-256 differs"),
        ("the manifest is missing", r"names a\.manifest, which is missing"),
        ("the checksum is of another", r"no valid SHA-256 of a\.dump"),
        ("the checksum is empty", r"no valid SHA-256 of a\.dump"),
        ("the checksum is cut off", r"no valid SHA-256 of a\.dump"),
        ("the checksum is of a folder", r"no valid SHA-256 of a\.dump"),
    ],
)
def test_a_backup_is_what_its_checksum_file_says(tmp_path: Path, fault: str, complaint: str) -> None:
    dump, manifest, checksums = (tmp_path / name for name in ("a.dump", "a.manifest", "a.dump.sha256"))
    dump.write_text("dump")
    manifest.write_text("manifest")
    lines = [checksum_line(dump), checksum_line(manifest)]
    checksums.write_text("".join(lines))
    main("checksum", str(dump))
    checksums.write_text("".join(lines).replace("  ", " */elsewhere/"))
    main("checksum", str(dump))
    match fault:
        case "the backup changed":
            dump.write_text("dumb")
        case "the manifest changed":
            manifest.write_text("manifesto")
        case "the manifest is missing":
            manifest.unlink()
        case "the checksum is of another":
            checksums.write_text(lines[1])
        case "the checksum is empty":
            checksums.write_text("")
        case "the checksum is cut off":
            checksums.write_text("".join(lines)[:-80])
        case "the checksum is of a folder":
            checksums.write_text(lines[0] + lines[1].replace("a.manifest", "/"))
    with pytest.raises(ChecksumError, match=complaint):
        main("checksum", str(dump))


@pytest.mark.parametrize("name", ["a.dump", "a.manifest", "a.dump.sha256"])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_neither_a_pipe_nor_a_link_is_read_in_a_backups_place(tmp_path: Path, name: str, kind: str) -> None:
    files = [tmp_path / each for each in ("a.dump", "a.manifest")]
    for file in files:
        file.write_text(file.name)
    (tmp_path / "a.dump.sha256").write_text("".join(checksum_line(file) for file in files))
    content = (tmp_path / name).rename(tmp_path / "elsewhere")
    if kind == "link":
        (tmp_path / name).symlink_to(content)
    else:
        os.mkfifo(tmp_path / name)
    retention = (sys.executable, ROOT / "scripts/lib/retention.py", "checksum", files[0])
    done = subprocess.run(retention, capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, name in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_a_checksum_file_is_read_up_to_a_size(tmp_path: Path) -> None:
    (tmp_path / "a.dump").write_text("dump")
    (tmp_path / "a.dump.sha256").write_text(checksum_line(tmp_path / "a.dump") + " " * 65536)
    with pytest.raises(OSError, match=r"is larger than 65536 bytes: .*a\.dump\.sha256"):
        main("checksum", str(tmp_path / "a.dump"))
