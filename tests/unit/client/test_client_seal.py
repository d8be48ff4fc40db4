"""`python -m kadun seal`, as a vendor types it on their own PC."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import kadun
import pyrage
import pytest
from kadun import Secret
from kadun.__main__ import main
from kadun.sealing import unseal

from tests.support.client.file_server import left_in

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., tuple[int, str, str]]

SOURCE = Path(kadun.__file__).parent.parent
CORE = "汇率表".encode()
MEBIBYTE = 1024 * 1024


@pytest.fixture
def identity() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.generate()


@pytest.fixture
def recipient(identity: pyrage.x25519.Identity) -> str:
    return str(identity.to_public())


@pytest.fixture
def core(tmp_path: Path) -> Path:
    path = tmp_path / "核心.dat"
    path.write_bytes(CORE)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process: status, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as usage:
            status = int(usage.code or 0)
        return (status, *capsys.readouterr())

    return run


def started(*arguments: object, limit_bytes: int = resource.RLIM_INFINITY, **environment: str) -> tuple[int, str, str]:
    """The same in a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "kadun", *map(str, arguments)],
        env={"PYTHONPATH": str(SOURCE), "PYTHONUTF8": "1", **environment},
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_what_it_seals_opens_with_the_key_and_replaces_an_older_output(
    core: Path, tmp_path: Path, identity: pyrage.x25519.Identity, recipient: str, run: Run
) -> None:
    target = tmp_path / "核心.dat.age"
    target.write_bytes(b"old")
    assert run("seal", core, "--output", target, "--recipient", f" {recipient}\n") == (0, "", "")
    sealed = target.read_bytes()
    assert sealed.startswith(b"age-encryption.org/v1\n")
    assert CORE not in sealed
    assert unseal(sealed, Secret(str(identity))) == CORE
    assert target.stat().st_mode & 0o777 == 0o644
    assert left_in(tmp_path) == [core.name, target.name]
    assert core.read_bytes() == CORE


def test_a_large_file_does_not_pass_through_memory(tmp_path: Path, recipient: str) -> None:
    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(100 * MEBIBYTE)
    program = (
        "import re, sys\nfrom kadun.__main__ import main\nassert main(sys.argv[1:]) == 0\n"
        # Not getrusage: what a process forked from is counted there too.
        "print(re.search(r'VmHWM:\\s+([0-9]+) kB', open('/proc/self/status').read())[1])"
    )
    arguments = ["seal", str(source), "-o", str(tmp_path / "large.age"), "--recipient", recipient]
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env={"PYTHONPATH": str(SOURCE)}, capture_output=True, check=True)
    assert (tmp_path / "large.age").stat().st_size > 100 * MEBIBYTE
    assert int(done.stdout) * 1024 < 80 * MEBIBYTE


@pytest.mark.parametrize("link", [None, os.link, os.symlink])
def test_a_file_is_not_sealed_onto_itself(
    link: Callable[[Path, Path], None] | None, core: Path, tmp_path: Path, recipient: str, run: Run
) -> None:
    target = core
    if link is not None:
        target = tmp_path / "other name"
        link(core, target)
    status, _output, errors = run("seal", core, "-o", target, "--recipient", recipient)
    assert status == 2
    assert "same file" in errors
    assert core.read_bytes() == CORE


def test_what_is_no_recipient_is_refused_and_a_secret_key_not_shown(
    core: Path, tmp_path: Path, identity: pyrage.x25519.Identity, run: Run
) -> None:
    for text in ("", "age1", "age1xyz", "ssh-ed25519 AAAA", "卡密", str(identity)):
        status, _output, errors = run("seal", core, "-o", tmp_path / "out", "--recipient", text)
        assert status == 2
        assert "age1…" in errors
        assert ("SECRET" in errors) is (text == str(identity))
        assert str(identity)[20:] not in errors
        assert left_in(tmp_path) == [core.name]


def test_files_that_cannot_be_read_or_written_are_one_line(
    core: Path, tmp_path: Path, recipient: str, run: Run
) -> None:
    for source, target in (
        (tmp_path / "missing", tmp_path / "out"),
        (tmp_path, tmp_path / "out"),
        (core, tmp_path / "missing" / "out"),
        (core, tmp_path),
    ):
        status, output, errors = run("seal", source, "-o", target, "--recipient", recipient)
        assert (status, output, errors.count("\n")) == (1, "", 1)
        assert errors.startswith("失败 / failed: ")
        assert left_in(tmp_path) == [core.name]


def test_a_write_that_the_system_refuses_leaves_the_old_output_alone(
    core: Path, tmp_path: Path, recipient: str
) -> None:
    core.write_bytes(bytes(200_000))
    target = tmp_path / "core.age"
    target.write_bytes(b"old")
    status, _output, errors = started("seal", core, "-o", target, "--recipient", recipient, limit_bytes=65_536)
    assert (status, errors.count("\n")) == (1, 1)
    assert "File too large" in errors
    assert target.read_bytes() == b"old"
    assert left_in(tmp_path) == sorted([core.name, target.name])


def test_a_console_without_chinese_gets_question_marks_and_no_traceback(tmp_path: Path, recipient: str) -> None:
    arguments = ["seal", tmp_path / "缺失", "-o", tmp_path / "out", "--recipient", recipient]
    status, _output, errors = started(*arguments, PYTHONIOENCODING="ascii")
    assert status == 1
    assert errors.startswith("?? / failed: ")
