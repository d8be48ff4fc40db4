"""`python -m kadun seal`, as a vendor types it on their own PC."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import kadun
import pyrage
import pytest
from kadun import Secret
from kadun.__main__ import main
from kadun.sealing import unseal

from tests.support.tables import for_each

SOURCE = Path(kadun.__file__).parent.parent
CORE = "汇率表".encode()


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


def run(*arguments: object, limit_bytes: int | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if limit_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "kadun", *map(str, arguments)],
        # Under the limit on a file's size, a measured run could not even write down what it measured.
        env={**({} if limit_bytes else os.environ), "PYTHONPATH": str(SOURCE), "PYTHONUTF8": "1", **environment},
        preexec_fn=limit,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


class Sealing:
    """The command line in this process: as `run` does it, without starting a Python each time."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as usage:
            status = int(usage.code or 0)
        told = self._capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, told.out, told.err)


@pytest.fixture
def sealing(capsys: pytest.CaptureFixture[str]) -> Sealing:
    return Sealing(capsys)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_it_seals_opens_with_the_key_and_not_without(
    core: Path, tmp_path: Path, identity: pyrage.x25519.Identity, recipient: str
) -> None:
    target = tmp_path / "核心.dat.age"
    done = run("seal", core, "-o", target, "--recipient", recipient)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    sealed = target.read_bytes()
    assert sealed.startswith(b"age-encryption.org/v1\n")
    assert CORE not in sealed
    assert unseal(sealed, Secret(str(identity))) == CORE
    with pytest.raises(kadun.UnsealFailed):
        unseal(sealed, Secret(str(pyrage.x25519.Identity.generate())))
    assert left_in(tmp_path) == [core.name, target.name]
    assert core.read_bytes() == CORE


def test_an_older_output_is_replaced(core: Path, tmp_path: Path, recipient: str, sealing: Sealing) -> None:
    target = tmp_path / "core.age"
    target.write_bytes(b"old")
    assert sealing("seal", core, "--output", target, "--recipient", f" {recipient}\n").returncode == 0
    assert target.read_bytes().startswith(b"age-encryption.org/v1\n")
    assert target.stat().st_mode & 0o777 == 0o644


def test_a_large_file_does_not_pass_through_memory(tmp_path: Path, recipient: str) -> None:
    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    program = (
        "import re, sys\nfrom kadun.__main__ import main\nassert main(sys.argv[1:]) == 0\n"
        # Not getrusage: what a process forked from is counted there too.
        "print(re.search(r'VmHWM:\\s+([0-9]+) kB', open('/proc/self/status').read())[1])"
    )
    arguments = ["seal", str(source), "-o", str(tmp_path / "large.age"), "--recipient", recipient]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert (tmp_path / "large.age").stat().st_size > 100 * 1024 * 1024
    assert int(done.stdout) * 1024 < 80 * 1024 * 1024


@pytest.mark.parametrize("link", [None, os.link, os.symlink])
def test_a_file_is_not_sealed_onto_itself(
    link: object, core: Path, tmp_path: Path, recipient: str, sealing: Sealing
) -> None:
    target = core
    if callable(link):
        target = tmp_path / "other name"
        link(core, target)
    done = sealing("seal", core, "-o", target, "--recipient", recipient)
    assert done.returncode == 2
    assert "same file" in done.stderr
    assert core.read_bytes() == CORE


def test_a_secret_key_is_refused_and_not_shown(core: Path, tmp_path: Path, identity: pyrage.x25519.Identity) -> None:
    done = run("seal", core, "-o", tmp_path / "out", "--recipient", identity)
    assert done.returncode == 2
    assert "SECRET" in done.stderr
    assert str(identity)[20:] not in done.stderr
    assert left_in(tmp_path) == [core.name]


@for_each("text", ["", "age1", "age1xyz", "ssh-ed25519 AAAA", "卡密"])
def test_what_is_no_recipient_is_refused(text: str, core: Path, tmp_path: Path, sealing: Sealing) -> None:
    done = sealing("seal", core, "-o", tmp_path / "out", "--recipient", text)
    assert done.returncode == 2
    assert "age1…" in done.stderr
    assert left_in(tmp_path) == [core.name]


@for_each("arguments", [[], ["seal"], ["seal", "FILE"], ["unseal", "FILE"], ["seal", "FILE", "-o", "x"]])
def test_an_incomplete_command_line_is_usage(arguments: list[str], sealing: Sealing) -> None:
    done = sealing(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: python -m kadun")


def test_help_is_in_both_languages(sealing: Sealing) -> None:
    done = sealing("seal", "--help")
    assert done.returncode == 0
    assert "加密" in done.stdout
    assert "cardctl key recipient" in done.stdout


def test_files_that_cannot_be_read_or_written_are_one_line(
    core: Path, tmp_path: Path, recipient: str, sealing: Sealing
) -> None:
    for source, target in (
        (tmp_path / "missing", tmp_path / "out"),
        (tmp_path, tmp_path / "out"),
        (core, tmp_path / "missing" / "out"),
        (core, tmp_path),
    ):
        done = sealing("seal", source, "-o", target, "--recipient", recipient)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith("失败 / failed: ")
        assert left_in(tmp_path) == [core.name]


def test_a_write_that_the_system_refuses_leaves_the_old_output_alone(
    core: Path, tmp_path: Path, recipient: str
) -> None:
    core.write_bytes(bytes(200_000))
    target = tmp_path / "core.age"
    target.write_bytes(b"old")
    done = run("seal", core, "-o", target, "--recipient", recipient, limit_bytes=65_536)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "File too large" in done.stderr
    assert target.read_bytes() == b"old"
    assert left_in(tmp_path) == sorted([core.name, target.name])


def test_a_console_without_chinese_gets_question_marks_and_no_traceback(tmp_path: Path, recipient: str) -> None:
    done = run("seal", tmp_path / "缺失", "-o", tmp_path / "out", "--recipient", recipient, PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert done.stderr.startswith("?? / failed: ")
