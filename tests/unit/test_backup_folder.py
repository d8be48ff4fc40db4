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


def test_a_link_in_the_folder_tells_no_secret_and_takes_no_line(checkout: Path) -> None:
    shared, secret = checkout / "shared", checkout / "secret"
    shared.mkdir()
    secret.write_text("age-secret-key\n")
    (shared / ".project").symlink_to(secret)
    (shared / "backup.log").write_text("theirs\n")
    claim = "webhook_url() { :; }; BACKUP_FOLDER=$ROOT/shared; trap 'report_failure backup $?' EXIT; claim_folder"
    done = bash(checkout, claim)
    assert "age-secret-key" not in done.stdout + done.stderr + (shared / "backup.log").read_text()
    assert (secret.read_text(), (shared / ".project").read_text()) == ("age-secret-key\n", "kadun\n")
    (shared / ".project").write_text("x; reboot\n")
    assert bash(checkout, claim).returncode == 1
    assert "Stack xreboot keeps" in (shared / "backup.log").read_text(), "nothing but the letters of a name"


def test_the_log_is_appended_to_and_no_link_followed(checkout: Path) -> None:
    (checkout / "victim").touch()
    log = checkout / "data/backup.log"
    write = "BACKUP_FOLDER=$ROOT/data; log_run one; log_run two"
    assert bash(checkout, write).returncode == 0
    assert [line.split(" ")[1] for line in log.read_text().splitlines()] == ["one", "two"]
    log.unlink()
    log.symlink_to(checkout / "victim")
    assert "cannot write" in bash(checkout, write).stderr
    assert not (checkout / "victim").read_text()
