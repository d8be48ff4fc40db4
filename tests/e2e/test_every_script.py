"""What a person may expect of every script here, whatever its job: help, an answer to a slip of the pen, any folder."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.service import ROOT

SCRIPTS = sorted(file.name for file in (ROOT / "scripts").iterdir() if file.is_file())
NO_SUCH = "--no-such-argument"


def call(script: Path | str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_folder_holds_nothing_but_scripts_that_can_be_run() -> None:
    assert "provision.sh" in SCRIPTS
    for name in SCRIPTS:
        assert name == "cardctl" or name.endswith(".sh")
        assert os.access(ROOT / "scripts" / name, os.X_OK), name


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_it_has_help_that_names_it(name: str, option: str, tmp_path: Path) -> None:
    done = call(ROOT / "scripts" / name, option, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert name in done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_works_from_any_folder_and_through_a_link(name: str, tmp_path: Path) -> None:
    expected = call(ROOT / "scripts" / name, "--help", folder=Path("/")).stdout
    (tmp_path / "a folder").mkdir()
    (tmp_path / "checkout").symlink_to(ROOT)
    assert call(f"../checkout/scripts/{name}", "--help", folder=tmp_path / "a folder").stdout == expected
    assert call(f"./{name}", "--help", folder=ROOT / "scripts").stdout == expected


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_unknown_argument_is_refused_in_one_line_before_anything_is_done(name: str, tmp_path: Path) -> None:
    done = call(ROOT / "scripts" / name, NO_SUCH, folder=tmp_path)
    assert done.stdout == ""
    if name == "cardctl":  # where no service runs it says that first
        assert done.returncode in {1, 2}
    else:
        assert done.returncode == 2
        assert NO_SUCH in done.stderr
        assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
