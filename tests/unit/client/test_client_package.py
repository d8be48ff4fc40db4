"""The package as a vendor's program sees it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import kadun
import pytest

SOURCE = Path(kadun.__file__).parent
ROOT = Path(__file__).parents[3]
REQUIRED = {
    "cryptography": "cryptography",
    "joserfc": "joserfc",
    "platformdirs": "platformdirs",
    "py-machineid": "machineid",
    "pyjwt": "jwt",
    "pyrage": "pyrage",
    "requests": "requests",
    "urllib3": "urllib3",
}
"""Each requirement, and the name that it is imported by."""


def test_everything_promised_is_there_and_every_error_is_a_kadun_error() -> None:
    assert set(kadun.__all__) >= {"Client", "CardRejected", "ServerUnreachable", "UntrustedAnswer"}
    assert all(hasattr(kadun, name) for name in kadun.__all__)
    assert (SOURCE / "py.typed").is_file()
    errors = [value for value in vars(kadun).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(errors) >= 7
    assert all(issubclass(error, kadun.KadunError) for error in errors)


def test_it_imports_what_it_requires_and_nothing_of_the_server() -> None:
    imported = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).split(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"kadun", *REQUIRED.values()}
    project = tomllib.loads((SOURCE.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [re.split(r"[^\w-]", requirement, maxsplit=1)[0] for requirement in project["dependencies"]]
    assert sorted(named) == sorted(REQUIRED)


@pytest.mark.parametrize("platform", ["win32", pytest.param("darwin", marks=pytest.mark.nightly)])
def test_its_types_hold_on_every_platform(platform: str, tmp_path: Path) -> None:
    """With a cache of its own: mypy throws away what it knows whenever the platform changes."""
    command = [sys.executable, "-m", "mypy", "--platform", platform, "--cache-dir", str(tmp_path), str(SOURCE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_it_prints_nothing_and_warns_of_nothing() -> None:
    command = [sys.executable, "-W", "error", "-c", "import kadun"]
    done = subprocess.run(command, env={"PYTHONPATH": str(SOURCE.parent)}, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
