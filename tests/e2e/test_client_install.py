"""`pip install ./client` and `./conformance` on the oldest and the newest Python here, and for other systems."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from email.policy import compat32
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.client.fake_server import CARD, FakeServer, SigningKey, pinned
from tests.support.client.local_http import forged, serving

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
CLIENT, CONFORMANCE = ROOT / "client", ROOT / "conformance"
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


class Python(NamedTuple):
    version: tuple[int, int]
    program: str
    has_pip: bool


OWN = Python(sys.version_info[:2], sys.executable, has_pip=bool(find_spec("ensurepip")))
"""What runs the tests."""


def candidates() -> list[str]:
    """Wherever Pythons usually are: on PATH, and where pyenv puts them."""
    named = [f"python3.{minor}" for minor in range(OLDEST_SUPPORTED[1], 20)]
    found = Path.home().glob(".pyenv/versions/3.*/bin/python3")
    return [sys.executable, "python3", "/usr/bin/python3", *named, *sorted(map(str, found))]


@functools.cache
def pythons() -> list[Python]:
    """The oldest and the newest one that the SDK supports and that can make environments; at least our own."""
    ask = (
        "import sys, importlib.util as u, venv; "
        "print(*sys.version_info[:2], sys.version_info.releaselevel == 'final', bool(u.find_spec('ensurepip')))"
    )
    usable = []
    for program in candidates():
        try:  # pyenv's shims exist and fail
            said = subprocess.run([program, "-c", ask], env=ENVIRONMENT, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        major, minor, is_final, has_pip = said.stdout.split()
        python = Python((int(major), int(minor)), program, has_pip == "True")
        if is_final == "True" and python.version >= OLDEST_SUPPORTED and (has_pip == "True" or not usable):
            usable.append(python)
    usable.sort(key=lambda python: python.version)
    return usable[:1] + usable[-1:] if usable[0].version != usable[-1].version else usable[:1]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def environment(python: Python, folder: Path) -> tuple[Path, list[str | Path]]:
    """A clean virtual environment: its Python, and how to run pip for it. Debian takes pip out of Python."""
    run(python.program, "-m", "venv", *([] if python.has_pip else ["--without-pip"]), folder / "venv", cwd=folder)
    own = folder / "venv" / "bin" / "python"
    return own, [own, "-m", "pip"] if python.has_pip else [sys.executable, "-m", "pip", "--python", own]


def test_it_installs_into_a_clean_environment_and_opens_a_program(tmp_path: Path) -> None:
    installs_and_opens(OWN, tmp_path)


@pytest.mark.nightly
def test_it_does_so_with_the_oldest_and_the_newest_python_here(tmp_path: Path) -> None:
    for python in pythons():
        folder = tmp_path / ".".join(map(str, python.version))
        folder.mkdir()
        installs_and_opens(python, folder)


def installs_and_opens(python: Python, tmp_path: Path) -> None:
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
    own, pip = environment(OWN, tmp_path)
    run(*pip, "install", "--quiet", CONFORMANCE, cwd=tmp_path)
    without_sdk = subprocess.run(
        [own, "-I", "-m", "kadun_conformance"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert without_sdk.returncode == 2
    assert "the Python SDK is not installed" in without_sdk.stderr
    run(*pip, "install", "--quiet", CLIENT, cwd=tmp_path)
    run(*pip, "check", cwd=tmp_path)
    kit = [own, "-I", "-W", "error", "-m", "kadun_conformance", "--client-timeout", "2", "--jobs", "8"]
    assert "0 accepted, 0 untested; 25 genuine responses: 0 refused" in run(*kit, cwd=tmp_path)


SYSTEMS = {
    "win_amd64": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
    "macosx_11_0_arm64": {
        "sys_platform": "darwin",
        "platform_system": "Darwin",
        "os_name": "posix",
        "platform_machine": "arm64",
    },
}


@pytest.mark.nightly
@pytest.mark.parametrize("version", ["3.9", "3.13"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_its_requirements_are_there_for_other_systems_without_a_compiler(
    system: str, version: str, tmp_path: Path
) -> None:
    """pip judges `; sys_platform == "win32"` by the system that it runs on, so each wheel's own words are followed."""
    wheels = ["--only-binary=:all:", "--implementation", "cp", "--platform", system, "--python-version", version]
    target = SYSTEMS[system] | {"python_version": version, "python_full_version": f"{version}.0", "extra": ""}
    missing = [one for one in requirements() if applies(one, target)]
    while missing:
        named = [f"{one.name}{one.specifier}" for one in missing]
        run(sys.executable, "-m", "pip", "download", "--quiet", *wheels, *named, cwd=tmp_path)
        missing = still_missing(tmp_path, target)
    assert list(tmp_path.glob("pyrage-*.whl"))


def requirements() -> list[Requirement]:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(text) for text in project["dependencies"]]


def applies(requirement: Requirement, target: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(target)


def still_missing(folder: Path, target: dict[str, str]) -> list[Requirement]:
    """What the target would install, and is not in the folder."""
    there = {canonicalize_name(wheel.name.split("-", 1)[0]): wheel for wheel in folder.glob("*.whl")}
    pending, seen, missing = requirements(), set(), []
    while pending:
        one = pending.pop()
        name = canonicalize_name(one.name)
        if name in seen or not applies(one, target):
            continue
        seen.add(name)
        if name in there:
            pending += required_by(there[name])
        else:
            missing.append(one)
    return missing


def required_by(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        metadata = HeaderParser(policy=compat32).parsestr(archive.read(name).decode("utf-8"))
    return [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]
