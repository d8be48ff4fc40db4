"""Every part of a release says the same version."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import kadun

from app.version import read_version

ROOT = Path(__file__).resolve().parents[2]


def test_the_server_says_the_version_of_the_sdk() -> None:
    assert read_version() == kadun.__version__


def test_cardctl_prints_the_version_without_a_service(tmp_path: Path) -> None:
    environ = os.environ | {"KADUN_DATA_DIR": str(tmp_path)}  # a trial that does not run
    command = [ROOT / "scripts/cardctl", "--version"]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert run.stdout == f"cardctl {kadun.__version__}\n"


def test_every_project_takes_its_version_from_that_file() -> None:
    for name in ("pyproject.toml", "client/pyproject.toml", "conformance/pyproject.toml"):
        project = tomllib.loads((ROOT / name).read_text("utf-8"))["project"]
        assert "version" not in project
        assert project["dynamic"] == ["version"]


def test_the_label_of_the_image_says_the_version() -> None:
    labels = re.findall(r'org\.opencontainers\.image\.version="([^"]+)"', (ROOT / "Dockerfile").read_text("utf-8"))
    assert labels == [kadun.__version__]


def test_the_changelog_has_a_dated_section_for_the_version() -> None:
    dated = re.findall(
        r"^## \[([0-9.]+)\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert dated[0] == kadun.__version__
