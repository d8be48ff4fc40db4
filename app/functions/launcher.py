"""The first process of the functions service: it starts gunicorn and, when the worker asks, zygotes.

It adopts every process that a zygote or a call leaves behind, and ends it. Started as root it keeps SETUID, SETGID and
KILL, and only it and the zygotes can change user IDs. It reads no request.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

from app.functions import processes
from app.functions.zygote import Identity

DESCRIPTOR = "KADUN_FUNCTIONS_LAUNCHER"
"""The environment variable that tells gunicorn the number of the launcher's socket."""
PROJECT = Path(__file__).resolve().parents[2]
# One thread for numpy's libraries: each of their threads takes memory, and calls share the processors.
ENVIRONMENT = {
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONFAULTHANDLER": "1",
    "PYTHONUNBUFFERED": "1",
}
"""The environment of modules and functions, beside PATH."""
_POLL_MILLISECONDS = 250
_END_SECONDS = 5
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


class _Zygote(NamedTuple):
    process: subprocess.Popen[bytes]
    lifeline: socket.socket


def run(become: Callable[[], None], identity: Identity | None) -> NoReturn:
    """Start gunicorn, serve it, and exit with its status.

    Args:
        become: Gives gunicorn's process its user and takes its capabilities.
        identity: Whom the zygotes run as, None for this process's user.
    """
    requests, gunicorn_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    launcher = os.getpid()
    gunicorn = os.fork()
    if gunicorn == 0:
        requests.close()
        become()
        processes.die_with(launcher)
        _be_gunicorn(gunicorn_end)
    gunicorn_end.close()

    def forward(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(gunicorn, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    serve(requests, identity, gunicorn)
    _, status = os.waitpid(gunicorn, 0)
    sys.exit(abs(os.waitstatus_to_exitcode(status)))


def serve(requests: socket.socket, identity: Identity | None, spared: int | None = None) -> None:
    """Start a zygote for each request, until nobody is left who could ask.

    Args:
        requests: The socket on which requests come, each with a zygote's lifeline and its two descriptors.
        identity: Whom the zygotes run as, None for this process's user.
        spared: A child that is not ended.
    """
    processes.become_subreaper()
    _Launcher(requests, identity, spared).serve()


class _Launcher:
    def __init__(self, requests: socket.socket, identity: Identity | None, spared: int | None) -> None:
        self._requests = requests
        self._identity = identity
        self._spared = spared
        self._zygotes: list[_Zygote] = []

    def serve(self) -> None:
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            poll = select.poll()
            for descriptor in (woken, self._requests.fileno(), *(z.lifeline.fileno() for z in self._zygotes)):
                poll.register(descriptor, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(_POLL_MILLISECONDS)}
            if woken in ready:
                os.read(woken, 4096)
            if self._requests.fileno() in ready and not self._start():
                break
            for zygote in list(self._zygotes):
                if zygote.lifeline.fileno() in ready or zygote.process.poll() is not None:
                    self._end(zygote)
            self._end_orphans()
        for zygote in list(self._zygotes):
            self._end(zygote)
        self._end_orphans(_END_SECONDS)

    def _start(self) -> bool:
        """Start a zygote; tell whether others may be asked for."""
        message, descriptors, _, _ = socket.recv_fds(self._requests, 1, 3)
        if not message:
            return False
        lifeline = socket.socket(fileno=descriptors[0])
        ends = descriptors[1:]
        numbers = (os.getpid(), *ends, *(self._identity or ()))
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "app.functions.zygote", *map(str, numbers)],
                cwd=PROJECT,
                env={"PATH": os.environ.get("PATH", os.defpath), **ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),
                pass_fds=ends,
                start_new_session=True,  # a terminal's Ctrl-C is not for it
            )
        except OSError as error:
            sys.stderr.write(f"kadun: no process for the functions: {error}\n")
            lifeline.close()
        else:
            self._zygotes.append(_Zygote(process, lifeline))
        finally:
            for descriptor in ends:
                os.close(descriptor)
        return True

    def _end(self, zygote: _Zygote) -> None:
        """End a zygote and all that it has started, then tell the service its exit code."""
        self._zygotes.remove(zygote)
        zygote.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel
            zygote.process.wait(_END_SECONDS)
        self._end_orphans(_END_SECONDS)
        with zygote.lifeline, contextlib.suppress(OSError):  # the service has ended
            zygote.lifeline.send(str(zygote.process.returncode or 0).encode())

    def _end_orphans(self, seconds: float = 0) -> None:
        """Kill every child that this process did not start, and theirs, which then become its children."""
        deadline = time.monotonic() + seconds
        own = {self._spared, *(zygote.process.pid for zygote in self._zygotes)}
        while orphans := [child for child in processes.children(os.getpid()) if child not in own]:
            for orphan in orphans:
                processes.kill(orphan)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(orphan, os.WNOHANG)
            if time.monotonic() > deadline:
                return
            time.sleep(0.001)


def _be_gunicorn(launcher: socket.socket) -> NoReturn:
    os.environ[DESCRIPTOR] = str(launcher.detach())
    sys.argv = ["gunicorn", "--config", "python:app.functions.gunicorn_conf", "app.functions.wsgi:app"]
    from gunicorn.app.wsgiapp import run as run_gunicorn  # noqa: PLC0415  # the launcher itself does without it

    run_gunicorn()
    sys.exit()
