"""gunicorn as a fork of a process that has imported the app and patched the standard library, instead of a new Python.

`multiprocessing` cannot wait for forks there.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import IO

_ROOT = Path(__file__).resolve().parents[3]
_starting = threading.Lock()
_server: tuple[int, socket.socket] | None = None


class ForkedGunicorn:
    """A gunicorn, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], output: IO[bytes]) -> None:
        self._keeper, keeper = Pipe(duplex=False)
        self.returncode: int | None = None
        with keeper, _starting:
            request = json.dumps([arguments, dict(environment)]).encode()
            socket.send_fds(_forks(), [request], [keeper.fileno(), output.fileno()])
        self.pid: int = self._keeper.recv()

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs."""
        if self.returncode is None and self._keeper.poll():
            self.returncode = self._keeper.recv()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once it has ended."""
        if self.returncode is None and not self._keeper.poll(timeout):
            raise subprocess.TimeoutExpired(f"gunicorn {self.pid}", timeout or 0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _forks() -> socket.socket:
    """Return the way to this process's fork server, which ends with it."""
    global _server  # noqa: PLW0603  # a process has one
    if _server is None or _server[0] != os.getpid():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.support.services.gunicorn_forks", str(theirs.fileno())]
        with theirs:
            process = subprocess.Popen(command, cwd=_ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        atexit.register(process.wait)
        atexit.register(ours.close)
        _server = os.getpid(), ours
    return _server[1]
