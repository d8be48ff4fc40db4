"""Run `python -m MODULE` as a fork of a process that has imported the server's code, instead of a new Python.

One fork server per test process waits for requests on a unix socket. It forks for each request, and the fork becomes
the program: with the arguments, environment and standard streams of the request, and an exit status of its own.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from coverage import Coverage

from app.cli.main import COMMANDS
from app.functions.processes import die_with
from app.services import passwords, polled
from tests.support.in_force import REAL_INTERVAL, SECONDS
from tests.support.passwords import CHEAP

ROOT = Path(__file__).resolve().parents[2]
_REQUEST_BYTES = 1_000_000
_IMPORTED = ("app.factory", "app.functions.api", "app.cli.failures", "gunicorn.app.wsgiapp")


class ForkedProcess:
    """A program that the fork server started, with the methods of `subprocess.Popen` that tests use."""

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], streams: Sequence[IO[bytes]]
    ) -> None:
        request = {"module": module, "arguments": arguments, "environment": dict(environment)}
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with _STARTING:
            address = _server_address()
        self._connection.connect(address)
        socket.send_fds(self._connection, [json.dumps(request).encode()], [stream.fileno() for stream in streams])
        self.pid = int(self._connection.recv(16))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None while the program runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once the program has ended."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = int(self._connection.recv(16))
            except (TimeoutError, BlockingIOError) as error:
                raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout or 0) from error
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the program has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


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


_STARTING = threading.Lock()
"""Two threads of a test may be the first."""


@cache
def _server_address() -> str:
    """Start the fork server. It ends when its standard input is closed, at the latest by the end of this process."""
    address = f"\0kadun-fork-server-{os.getpid()}"
    inherited = {name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COVERAGE_")}
    metrics = tempfile.mkdtemp()  # prometheus_client looks for one when it is imported; services have their own
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.forked_python", address.removeprefix("\0")],
        cwd=ROOT,
        env=inherited | {"PROMETHEUS_MULTIPROC_DIR": metrics},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None
    assert server.stdin is not None
    assert server.stdout.readline() == b"ready\n"
    atexit.register(shutil.rmtree, metrics)
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    return address


class _ForkServer:
    """Forks for each request; answers with the fork's number and, once it has ended, its exit status."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._ends = False

    def serve(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(sys.stdin, selectors.EVENT_READ, self._end)
        while not self._ends:
            for key, _ in self._selector.select():
                key.data()

    def _end(self) -> None:
        self._ends = True

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        request, streams, _, _ = socket.recv_fds(connection, _REQUEST_BYTES, 3)
        server, pid = os.getpid(), os.fork()
        if not pid:
            die_with(server)  # and with it, at the latest, when the tests are killed
            self._listener.close()
            connection.close()
            _become(json.loads(request), streams)
        connection.send(str(pid).encode())
        for stream in streams:
            os.close(stream)
        descriptor = os.pidfd_open(pid)
        self._selector.register(descriptor, selectors.EVENT_READ, lambda: self._report(descriptor, pid, connection))

    def _report(self, descriptor: int, pid: int, connection: socket.socket) -> None:
        self._selector.unregister(descriptor)
        os.close(descriptor)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with connection, contextlib.suppress(BrokenPipeError):  # a test that failed waits no longer
            connection.send(str(status).encode())


def _become(request: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Run the request's program in this process, and end with its exit status."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["arguments"]
    if REAL_INTERVAL not in request["environment"]:
        polled._SECONDS = SECONDS  # noqa: SLF001  # tests wait for what is in force hundreds of times
    if request["module"] == "gunicorn" and (coverage := Coverage.current()):
        coverage.set_option("run:concurrency", ["thread", "gevent"])  # for its workers, which are forks
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    sys.exit()


def _main() -> None:
    # Before others import it: a real hash takes as long as a test.
    passwords.PASSWORDS = passwords.Passwords(CHEAP)
    for module in (*_IMPORTED, *(f"app.cli.{command}" for command in COMMANDS)):
        import_module(module)
    if coverage := Coverage.current():
        coverage.save()  # what the imports ran; each fork has its own to save
    gc.freeze()  # a collection in a fork would copy every page
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0{sys.argv[1]}")
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        _ForkServer(listener).serve()


if __name__ == "__main__":
    _main()
