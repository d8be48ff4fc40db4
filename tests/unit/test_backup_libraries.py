"""scripts/lib/backup.sh and dump.sh in bash itself: files of one's own making, and no database."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from tests.support.service import ROOT

PRELUDE = """
set -euo pipefail
ROOT=$1
for module in common backup; do source "$ROOT/scripts/lib/$module.sh"; done
"""
DUMP = "kadun-20260101T000000Z.dump"
TIMES = [f"202601{day:02}T000000Z" for day in range(1, 7)]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    (tmp_path / "data").mkdir()
    (tmp_path / ".env").touch()
    return tmp_path


def bash(checkout: Path, code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ("bash", "-c", PRELUDE + code, "script.sh", checkout, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def sums(ending: str = "\n", *, manifest: bool = True, last: bool = True, upper: bool = False) -> str:
    """What stands in the checksum file of a dump and its manifest, with these ends of lines."""
    names = [DUMP, DUMP.replace(".dump", ".manifest")] if manifest else [DUMP]
    lines = [f"{hashlib.sha256(name.encode()).hexdigest()}  {name}" for name in names]
    text = ending.join(line.upper() if upper else line for line in lines)
    return text + ending if last else text


SUMS = {
    "as the scripts write it": sums(),
    "without its last end of a line": sums(last=False),
    "of the dump alone, without an end": sums(manifest=False, last=False),
    "with Windows's ends of lines": sums("\r\n"),
    "with Windows's and without the last": sums("\r\n", manifest=False, last=False),
    "the sum alone": sums(manifest=False).split()[0],
    "the sum alone, by Windows": sums(manifest=False, upper=True).split()[0] + "\r\n",
    "with a line between that is empty": sums("\n\n"),
}


@pytest.mark.parametrize("text", SUMS.values(), ids=SUMS)
def test_a_checksum_is_compared_however_its_file_ends(checkout: Path, text: str) -> None:
    dump = checkout / DUMP
    dump.write_text(dump.name)
    dump.with_suffix(".manifest").write_text(dump.with_suffix(".manifest").name)
    dump.with_name(f"{DUMP}.sha256").write_text(text, newline="")
    done = bash(checkout, 'check_sum "$2"', dump)
    assert done.returncode == 0, done.stderr
    dump.write_text("damaged")
    done = bash(checkout, 'check_sum "$2"', dump)
    assert done.returncode == 1
    assert "It is damaged" in done.stderr
    dump.write_text(dump.name)
    dump.with_suffix(".manifest").write_text("damaged")
    assert bash(checkout, 'check_sum "$2"', dump).returncode == (".manifest" in text)


@pytest.mark.parametrize("text", ["", "\n", "\r\n\r\n"])
def test_a_checksum_file_with_nothing_to_compare_is_none(checkout: Path, text: str) -> None:
    (checkout / DUMP).write_text("a dump")
    (checkout / f"{DUMP}.sha256").write_text(text, newline="")
    done = bash(checkout, 'check_sum "$2"', checkout / DUMP)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is empty" in done.stderr


def test_of_the_dumps_before_a_restore_the_newest_three_stay_encrypted_or_not(checkout: Path) -> None:
    folder = checkout / "data"
    dumps = [f"kadun-before-restore-{time}.dump{'.age' * (number % 2)}" for number, time in enumerate(TIMES)]
    others = [
        "kadun-before-restore-mine.dump",
        "kadun-20250101T000000Z.dump",
        "kadun-before-upgrade-20250101T000000Z.dump",
    ]
    for name in (*dumps, *others):
        for part in (name, f"{name}.sha256", name.replace(".dump", ".manifest")):
            (folder / part).touch()
    done = bash(checkout, "BACKUP_FOLDER=$ROOT/data; keep_newest kadun-before-restore- 3")
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in folder.glob("*.dump*") if file.suffix != ".sha256") == sorted(
        dumps[3:] + others
    )
    assert len(list(folder.glob("*.manifest*"))) == len(list(folder.glob("*.sha256"))) == 6
    assert bash(checkout, "BACKUP_FOLDER=$ROOT/data; keep_newest kadun-before-nothing- 3").returncode == 0


@pytest.mark.parametrize(
    "line",
    ["", "KADUN_BACKUP_DIR=./data/backups", "KADUN_BACKUP_DIR=data/backups/", "KADUN_BACKUP_DIR='./data/backups'\r"],
)
def test_the_default_folder_is_made_however_it_is_written(checkout: Path, line: str) -> None:
    (checkout / ".env").write_text(f"{line}\n", newline="")
    assert bash(checkout, 'find_folder; echo "$BACKUP_FOLDER"').stdout.rstrip("/\n") == str(checkout / "data/backups")


@pytest.mark.parametrize("value", ['"./my backups"', "elsewhere", "$HOME/backups", '"', "/nowhere/at/all"])
def test_no_other_folder_is_made_and_a_slip_of_the_pen_is_said(checkout: Path, value: str) -> None:
    (checkout / ".env").write_text(f"KADUN_BACKUP_DIR={value}\n")
    before = sorted(checkout.rglob("*"))
    done = bash(checkout, "find_folder")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "The backup folder does not exist" in done.stderr
    assert sorted(checkout.rglob("*")) == before


def test_a_quoted_folder_is_the_one_that_was_meant(checkout: Path) -> None:
    (checkout / "my disk").mkdir()
    (checkout / ".env").write_text('KADUN_BACKUP_DIR="./my disk" # the second one\r\n', newline="")
    assert bash(checkout, 'find_folder; echo "$BACKUP_FOLDER"').stdout == f"{checkout}/my disk\n"
