"""The fork server of `ForkedGunicorn`: `python -m … DESCRIPTOR`, a socket on which requests come until it is closed.

A request is gunicorn's arguments and environment as JSON, and two descriptors: of a pipe that gets the number of the
process and its exit status, and of a file for all that it prints.
"""

# ruff: noqa: E402  # the patch comes before other imports
import os
import socket
import tempfile

_metrics = tempfile.TemporaryDirectory()
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _metrics.name  # services have their own
_unpatched_socket, _unpatched_fork, _unpatched_waitpid = socket.socket, os.fork, os.waitpid

import prometheus_client  # noqa: F401  # before the patch, as in app/gunicorn_conf.py

from app.runtime import greenlets

greenlets.patch()

import gc
import json
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing.connection import Connection

from coverage import Coverage

from app.functions.processes import die_with
from app.services import polled
from app.services.operators import passwords
from app.services.reports import figures
from tests.support.licence.in_force import REAL_INTERVAL, SECONDS
from tests.support.secrets import CHEAP

_REQUEST_BYTES = 100_000
_IMPORTED = ("app.factory", "app.services.system.periodic", "app.worker", "gunicorn.app.wsgiapp", "gunicorn.arbiter")


def fork_on_request(channel: socket.socket) -> tuple[Sequence[str], Mapping[str, str]] | None:
    """Fork for each request; return in each fork what it is to become, and here None once all requests have come."""
    server = os.getpid()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, _REQUEST_BYTES, 2)
        if not request:
            return None
        if _unpatched_fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            channel.close()
            die_with(server)
            keep(*descriptors)
            arguments, environment = json.loads(request)
            return arguments, environment
        for descriptor in descriptors:
            os.close(descriptor)


def keep(teller: int, output: int) -> None:
    """Fork once more, and return in that fork; this process stays to tell how it ends."""
    keeper = os.getpid()
    pid = _unpatched_fork()
    if pid == 0:
        die_with(keeper)
        os.close(teller)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.close(output)
        return
    os.close(output)
    with Connection(teller, readable=False) as connection:
        connection.send(pid)
        connection.send(os.waitstatus_to_exitcode(_unpatched_waitpid(pid, 0)[1]))
    os._exit(0)


def main() -> None:
    passwords.PASSWORDS = passwords.Passwords(CHEAP)  # before others import it: a real hash takes as long as a test
    for module in _IMPORTED:
        import_module(module)
    _metrics.cleanup()
    if coverage := Coverage.current():
        coverage.save()  # what the imports ran; each fork has its own to save
    gc.freeze()  # a collection in a fork would copy every page
    with _unpatched_socket(fileno=int(sys.argv[1])) as channel:
        asked = fork_on_request(channel)
    if asked:
        arguments, environment = asked
        os.environ.clear()
        os.environ.update(environment)
        figures.QUICK_SECONDS = 5.0  # a busy machine takes longer, and would show those that the log-in showed
        if REAL_INTERVAL not in environment:
            polled._SECONDS = SECONDS  # noqa: SLF001  # tests wait for what is in force hundreds of times
        if coverage := Coverage.current():
            coverage.set_option("run:concurrency", ["thread", "gevent"])  # for the workers, which are forks
        sys.argv[:] = ["gunicorn", *arguments]
        runpy.run_module("gunicorn", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
