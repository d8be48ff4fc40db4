"""The package as a vendor's program sees it, and its command line: `python -m kadun seal`."""

import ast
import io
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import kadun
import pyrage
import pytest
from kadun import Secret
from kadun.__main__ import main
from kadun.sealing import unseal

from tests.support.client.customer_machine import full_disk, left_in

Seal = Callable[..., tuple[int, str, str]]

SOURCE = Path(kadun.__file__).parent
ROOT = Path(__file__).parents[3]
CORE = "汇率表".encode()
MEBIBYTE = 1024 * 1024
IDENTITY = pyrage.x25519.Identity.generate()


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
    project = tomllib.loads((SOURCE.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = [re.split(r"[^\w-]", requirement, maxsplit=1)[0] for requirement in project["dependencies"]]
    importable = {{"py-machineid": "machineid", "pyjwt": "jwt"}.get(name, name) for name in required}
    assert imported - set(sys.stdlib_module_names) == {"kadun", *importable}
    (machine_id,) = (requirement for requirement in project["dependencies"] if "py-machineid" in requirement)
    assert machine_id.endswith("; sys_platform != 'win32'")


@pytest.mark.parametrize("platform", ["win32", pytest.param("darwin", marks=pytest.mark.nightly)])
def test_its_types_hold_on_every_platform(platform: str, tmp_path: Path) -> None:
    """With a cache of its own: mypy throws away what it knows whenever the platform changes."""
    command = [sys.executable, "-m", "mypy", "--platform", platform, "--cache-dir", str(tmp_path), str(SOURCE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def python(code: str, *arguments: object) -> str:
    """Run the code in a Python of its own, and return what it printed."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    environment = {"PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_importing_it_prints_nothing_and_warns_of_nothing() -> None:
    assert python("import kadun") == ""


@pytest.fixture
def core(tmp_path: Path) -> Path:
    path = tmp_path / "核心.dat"
    path.write_bytes(CORE)
    return path


@pytest.fixture
def seal(capsys: pytest.CaptureFixture[str]) -> Seal:
    """The command line in this process: status, output and errors."""

    def run(source: Path, target: Path, recipient: str = f" {IDENTITY.to_public()}\n") -> tuple[int, str, str]:
        try:
            status = main(["seal", str(source), "-o", str(target), "--recipient", recipient])
        except SystemExit as usage:
            status = int(usage.code or 0)
        return (status, *capsys.readouterr())

    return run


def test_what_it_seals_opens_with_the_key_and_replaces_an_older_output(core: Path, tmp_path: Path, seal: Seal) -> None:
    target = tmp_path / "核心.dat.age"
    target.write_bytes(b"old")
    assert seal(core, target) == (0, "", "")
    sealed = target.read_bytes()
    assert sealed.startswith(b"age-encryption.org/v1\n")
    assert CORE not in sealed
    assert unseal(sealed, Secret(str(IDENTITY))) == CORE
    assert target.stat().st_mode & 0o777 == 0o644
    core.write_bytes(bytes(200_000))
    with full_disk(65_536):
        status, _output, errors = seal(core, target)
    assert (status, errors.count("\n"), "File too large" in errors) == (1, 1, True)
    assert target.read_bytes() == sealed
    assert left_in(tmp_path) == [core.name, target.name]


def test_a_large_file_does_not_pass_through_memory(tmp_path: Path) -> None:
    source, target = tmp_path / "large", tmp_path / "large.age"
    source.touch()
    os.truncate(source, 100 * MEBIBYTE)
    code = (
        "import pathlib, re, sys\nfrom kadun.__main__ import main\nassert main(sys.argv[1:]) == 0\n"
        # Not getrusage: what a process forked from is counted there too.
        "print(re.search(r'VmHWM:\\s+([0-9]+) kB', pathlib.Path('/proc/self/status').read_text())[1])"
    )
    peak_kilobytes = python(code, "seal", source, "-o", target, "--recipient", IDENTITY.to_public())
    assert target.stat().st_size > 100 * MEBIBYTE
    assert int(peak_kilobytes) * 1024 < 80 * MEBIBYTE


def test_it_refuses_to_seal_a_file_onto_itself_or_to_what_is_no_recipient(
    core: Path, tmp_path: Path, seal: Seal
) -> None:
    os.link(core, tmp_path / "link")
    (tmp_path / "symlink").symlink_to(core)
    before = left_in(tmp_path)
    for target in (core, tmp_path / "link", tmp_path / "symlink"):
        status, _output, errors = seal(core, target)
        assert (status, "same file" in errors) == (2, True), target
    for text in ("", "age1", "age1xyz", "ssh-ed25519 AAAA", "卡密", str(IDENTITY)):
        status, _output, errors = seal(core, tmp_path / "out", text)
        assert (status, "age1…" in errors, "SECRET" in errors) == (2, True, text == str(IDENTITY))
        assert str(IDENTITY)[20:] not in errors  # logs and screens keep what is printed
    assert core.read_bytes() == CORE
    assert left_in(tmp_path) == before


def test_files_that_cannot_be_read_or_written_are_one_line(
    core: Path, tmp_path: Path, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for source, target in ((tmp_path / "missing", out), (tmp_path, out), (core, out / "below"), (core, tmp_path)):
        status, output, errors = seal(source, target)
        assert (status, output, errors.count("\n")) == (1, "", 1)
        assert errors.startswith("失败 / failed: ")
        assert left_in(tmp_path) == [core.name]
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stderr", console)  # without Chinese
    assert seal(tmp_path / "缺失", out)[0] == 1
    assert console.buffer.getvalue().startswith(b"?? / failed: ")  # type: ignore[attr-defined]  # BytesIO
