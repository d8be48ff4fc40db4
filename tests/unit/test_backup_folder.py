"""scripts/lib/backups.sh: finding the backup folder, and telling a webhook."""

import subprocess
from pathlib import Path

import pytest

from tests.support.service import ROOT

PRELUDE = """
set -euo pipefail
ROOT=$1
for module in common stack backups; do source "$ROOT/scripts/lib/$module.sh"; done
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    (tmp_path / "data").mkdir()
    (tmp_path / ".env").touch()
    return tmp_path


def bash(checkout: Path, code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ("bash", "-c", PRELUDE + code, "script.sh", checkout, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


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
