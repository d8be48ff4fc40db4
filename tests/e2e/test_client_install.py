"""`pip install ./client` and `./client/conformance` on the oldest and the newest Python here."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.client.fakes import CARD, FakeServer, SigningKey, pinned
from tests.support.client.local_http import forged, serving

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
CLIENT, CONFORMANCE = ROOT / "client", ROOT / "client" / "conformance"
OLDEST_SUPPORTED = (3, 9)
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_", "COVERAGE_", "KADUN_"))
} | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}

# Every module is imported, and the program is opened over real HTTP with the machine's own string or a vendor's.
PROGRAM = """
import importlib, json, pathlib, pkgutil, sys
import kadun
from kadun import Client, HardwareUnknown
from kadun.hardware import machine_string

folder = pathlib.Path(kadun.__file__).parent
for module in pkgutil.walk_packages(kadun.__path__, "kadun."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
try:
    hardware = machine_string("ledger")
except HardwareUnknown:  # a container
    hardware = "of the vendor's own"
verdict = Client(sys.argv[1], public_keys=sys.argv[2], card_id=sys.argv[3], hardware=hardware, state_dir=None).open()
files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
print(json.dumps({"folder": str(folder), "code": verdict.code, "key": verdict.data_key is not None, "files": files}))
"""


def pythons() -> list[str]:
    """The oldest and the newest one on PATH or pyenv's that the SDK supports and that can make environments."""
    ask = "import sys, venv; print(*sys.version_info[:2], sys.version_info.releaselevel)"
    usable: dict[tuple[int, int], str] = {}
    named = [f"python3.{minor}" for minor in range(OLDEST_SUPPORTED[1], 20)]
    found = Path.home().glob(".pyenv/versions/3.*/bin/python3")
    for program in (sys.executable, "python3", "/usr/bin/python3", *named, *sorted(map(str, found))):
        try:  # pyenv's shims exist and fail
            major, minor, level = run(program, "-c", ask, cwd=ROOT).split()
        except (OSError, AssertionError):
            continue
        if level == "final" and (int(major), int(minor)) >= OLDEST_SUPPORTED:
            usable.setdefault((int(major), int(minor)), program)
    return [usable[version] for version in sorted({min(usable), max(usable)})]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def environment(python: str, folder: Path) -> tuple[Path, list[str | Path]]:
    """A clean virtual environment: its Python, and how to run pip for it. Debian takes pip out of Python."""
    folder.mkdir()
    run(python, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    own = folder / "venv" / "bin" / "python"
    return own, [sys.executable, "-m", "pip", "--python", own]


@pytest.mark.parametrize(
    "find",
    [pytest.param(lambda: [sys.executable], id="own"), pytest.param(pythons, id="all", marks=pytest.mark.nightly)],
)
def test_it_installs_into_a_clean_environment_and_opens_a_program(
    tmp_path: Path, find: Callable[[], list[str]]
) -> None:
    for number, python in enumerate(find()):
        installs_and_opens(python, tmp_path / str(number))


def installs_and_opens(python: str, tmp_path: Path) -> None:
    own, pip = environment(python, tmp_path)
    run(*pip, "install", "--quiet", CLIENT, cwd=tmp_path)
    run(*pip, "check", cwd=tmp_path)
    key = SigningKey()
    with serving(forged(FakeServer(key))) as server:
        said = run(own, "-I", "-W", "error", "-c", PROGRAM, server.url, json.dumps(pinned(key)), CARD, cwd=tmp_path)
    installed = json.loads(said)
    assert Path(installed["folder"]).is_relative_to(tmp_path)
    assert (installed["code"], installed["key"]) == ("OK", True)
    source = CLIENT / "src" / "kadun"
    wanted = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {name for name in installed["files"] if not name.endswith(".pyc")} == wanted
    assert "py.typed" in wanted


@pytest.mark.nightly
def test_the_conformance_kit_installs_and_tests_the_sdk(tmp_path: Path) -> None:
    own, pip = environment(sys.executable, tmp_path / "kit")
    run(*pip, "install", "--quiet", CONFORMANCE, cwd=tmp_path)
    command = [own, "-I", "-m", "kadun_conformance"]
    without_sdk = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert without_sdk.returncode == 2
    assert "the Python SDK is not installed" in without_sdk.stderr
    run(*pip, "install", "--quiet", CLIENT, cwd=tmp_path)
    run(*pip, "check", cwd=tmp_path)
    kit = [own, "-I", "-W", "error", "-m", "kadun_conformance", "--client-timeout", "2", "--jobs", "8"]
    assert "0 not refused; 13 genuine responses: 0 not accepted" in run(*kit, cwd=tmp_path)
