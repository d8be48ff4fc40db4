"""Run `cardctl` in a fork of a process that has imported it: isolated like a process, without a Python start each.

One server process per test process waits for requests on a unix socket. It forks for each request, and the fork becomes
`python -m app`: with the arguments, environment and standard streams of the request, and an exit status.
"""

import atexit
import contextlib
import gc
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from coverage import Coverage

from app.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
_REQUEST_BYTES = 1_000_000


def run_cardctl(
    arguments: Sequence[str], environment: Mapping[str, str], text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command with exactly this environment; `text` is its standard input."""
    request = json.dumps({"arguments": arguments, "environment": dict(environment)}).encode()
    with contextlib.ExitStack() as stack:
        source, output, errors = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        source.write(text.encode())
        source.seek(0)
        connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        connection.connect(_server_address())
        socket.send_fds(connection, [request], [file.fileno() for file in (source, output, errors)])
        status = int(connection.recv(16))
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(
            ["cardctl", *arguments], status, output.read().decode(), errors.read().decode()
        )


@cache
def _server_address() -> str:
    """Start the server of this process; it ends with this process, whose end closes the server's standard input."""
    address = f"\0kadun-cardctl-{os.getpid()}"
    inherited = {name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COVERAGE_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.cardctl", address.removeprefix("\0")],
        cwd=ROOT,
        env=inherited,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None
    assert server.stdin is not None
    assert server.stdout.readline() == b"ready\n"
    atexit.register(server.wait)
    atexit.register(server.stdin.close)
    return address


class _Server:
    """Forks for each request and answers with the fork's exit status; ends when its standard input is closed."""

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
        pid = os.fork()
        if not pid:
            _become_cardctl(json.loads(request), streams)
        for stream in streams:
            os.close(stream)
        descriptor = os.pidfd_open(pid)
        self._selector.register(descriptor, selectors.EVENT_READ, lambda: self._report(descriptor, pid, connection))

    def _report(self, descriptor: int, pid: int, connection: socket.socket) -> None:
        self._selector.unregister(descriptor)
        os.close(descriptor)
        with connection:
            connection.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _become_cardctl(request: dict[str, Any], streams: Sequence[int]) -> None:
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["arguments"]
    try:
        main()
    except SystemExit as ended:
        sys.stdout.flush()
        sys.stderr.flush()
        # Without the interpreter's own end, which takes longer than most commands.
        os._exit(int(ended.code or 0))


def _main() -> None:
    for command in COMMANDS:
        import_module(f"app.cli.{command}")
    import_module("app.cli.failures")
    if measured := Coverage.current():
        measured.save()  # what the imports ran; the forks have only their own to save
    gc.freeze()  # a collection in a fork would copy every page
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0{sys.argv[1]}")
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        _Server(listener).serve()


if __name__ == "__main__":
    _main()
