"""The first process of the functions service: it starts the one that serves requests and, when that asks, zygotes.

Started as root it keeps SETUID, SETGID and KILL, and only it and the zygotes can change user IDs. It reads no request.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from app.functions import processes
from app.functions.zygote import Identity

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
_MAX_START_BYTES = 64 * 1024


def run(become: Callable[[], None], serve: Callable[[socket.socket], None], identity: Identity | None) -> NoReturn:
    """Start the process that serves requests, again when it is killed, and exit with its status.

    `become` gives that process its user and takes its capabilities; `serve` is given the socket on which to ask for
    zygotes. They run as `identity`, or as this process's user.
    """
    launcher = os.getpid()
    status, is_ending = -1, False
    while status < 0 and not is_ending:
        requests, asking = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        service = os.fork()
        if service == 0:
            requests.close()
            become()
            processes.die_with(launcher)
            serve(asking)
            sys.exit()
        asking.close()

        def forward(number: int, _frame: object, service: int = service) -> None:
            nonlocal is_ending
            is_ending = True
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.kill(service, number)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, forward)
        with requests:
            start_zygotes(requests, identity)
        status = os.waitstatus_to_exitcode(os.waitpid(service, 0)[1])
    sys.exit(abs(status))


def start_zygotes(requests: socket.socket, identity: Identity | None) -> None:
    """Start a zygote for each `Start` as JSON that comes with a socket's end, until nobody is left who could ask."""
    zygotes: list[subprocess.Popen[bytes]] = []

    def reap(_number: int, _frame: object) -> None:
        zygotes[:] = [zygote for zygote in zygotes if zygote.poll() is None]

    signal.signal(signal.SIGCHLD, reap)
    while True:
        start, descriptors, _, _ = socket.recv_fds(requests, _MAX_START_BYTES, 1)
        if not start:
            return
        (control,) = descriptors
        numbers = map(str, (os.getpid(), control, *(identity or ())))
        try:
            zygote = subprocess.Popen(
                [sys.executable, "-m", "app.functions.zygote", start.decode(), *numbers],
                cwd=PROJECT,
                env={"PATH": os.environ.get("PATH", os.defpath), **ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),
                pass_fds=descriptors,
                start_new_session=True,  # a terminal's Ctrl-C is not for it
            )
        except OSError as error:
            sys.stderr.write(f"kadun: no process for the functions: {error}\n")
        else:
            zygotes.append(zygote)
        finally:
            os.close(control)
