"""What every script here has, whatever its job: help, a line for a slip of the pen, and no need of a certain folder."""

import os
import subprocess
from pathlib import Path

from tests.support.services.service import ROOT

NO_SUCH = "--no-such-argument"


def call(script: Path | str, argument: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [script, argument]
    return subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300
    )


def test_each_script_has_help_through_a_link_and_refuses_an_unknown_argument_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "checkout").symlink_to(ROOT)
    names = [file.name for file in (ROOT / "scripts").iterdir() if file.is_file()]
    assert {"cardctl", "provision.sh"} <= set(names)
    for name in names:
        assert name == "cardctl" or name.endswith(".sh")
        assert os.access(ROOT / "scripts" / name, os.X_OK), name
        told = call(f"../checkout/scripts/{name}", "--help", tmp_path / "a folder")
        assert (told.returncode, told.stderr, name in told.stdout) == (0, "", True)
        refused = call(ROOT / "scripts" / name, NO_SUCH, tmp_path / "a folder")
        assert refused.stdout == ""
        if name in {"bench.sh", "cardctl"}:  # where no service runs cardctl says that first; argparse takes three lines
            assert refused.returncode in {1, 2}
        else:
            assert (refused.returncode, NO_SUCH in refused.stderr, refused.stderr.count("\n")) == (2, True, 1), name
    assert list((tmp_path / "a folder").iterdir()) == []
