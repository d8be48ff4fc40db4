"""Run `python -m MODULE` as a fork of a process that has imported the server's code, instead of a new Python.

The fork becomes the program: with arguments, environment and standard streams of its own, and an exit status.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.process import _children  # type: ignore[attr-defined]
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any

from app.functions.processes import die_with

_IMPORTED = "tests.support.services.forked_imports"
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([_IMPORTED])
_STARTING = threading.Lock()


class ForkedProcess:
    """A program that the fork server started, with the methods of `subprocess.Popen` that tests use."""

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], streams: Sequence[IO[bytes]]
    ) -> None:
        passed = [_Passed(stream) for stream in streams]
        self._process = _FORKS.Process(target=_become, args=(module, arguments, dict(environment), passed))
        with _STARTING:
            self._process.start()
            _children.discard(self._process)  # or another thread's start would ask for its status, which is told once
        assert self._process.pid
        self.pid = self._process.pid
        self.kill, self.terminate = self._process.kill, self._process.terminate

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit status, or None while the program runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once the program has ended."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the program has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


class _Passed:
    """A stream on its way to the fork, which gets the number of its descriptor there."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (DupFd(self._stream.fileno()),)


def _received(duplicate: Any) -> int:
    return int(duplicate.detach())


def start(module: str, *arguments: str, environment: Mapping[str, str], output: IO[bytes]) -> ForkedProcess:
    """Start a program with exactly this environment; all that it prints goes to `output`."""
    with Path(os.devnull).open("rb") as nothing:
        return ForkedProcess(module, arguments, environment, (nothing, output, output))


def run(
    module: str, *arguments: str, environment: Mapping[str, str], text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with exactly this environment; `text` is its standard input."""
    with (
        tempfile.TemporaryFile() as source,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        source.write(text.encode())
        source.seek(0)
        status = ForkedProcess(module, arguments, environment, (source, output, errors)).wait()
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess([module, *arguments], status, output.read().decode(), errors.read().decode())


def _become(module: str, arguments: Sequence[str], environment: Mapping[str, str], streams: Sequence[int]) -> None:
    """Run the program in this process, and end with its exit status."""
    die_with(os.getppid())  # the fork server, which ends when nobody holds this descriptor, and the tests may be killed
    os.close(forkserver._forkserver._forkserver_alive_fd)  # type: ignore[attr-defined]  # noqa: SLF001
    import_module(_IMPORTED)  # where the fork server could not, from another folder
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # the fork server's is another descriptor
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
