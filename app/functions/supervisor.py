"""The supervisor of one call: forks the process that runs the function, and ends everything that it has started.

As a subreaper it is the ancestor of all these processes, in whatever session they are. When the service closes its
socket, the call is over. Where places have user IDs of their own, the call can neither signal nor read its supervisor.
"""

import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from app.domain.texts import Text
from app.functions import framing, processes, scratch
from app.functions.call import failed, run_function
from app.functions.decorator import CoreFunction
from app.functions.messages import CallRequest
from app.functions.monitor import Limits, Monitor, Pipes
from app.functions.places import Place

MAX_REQUEST_BYTES = 512 * 1024
"""More than the app's 64 KiB can become when numbers such as 1e15 are written out."""
CLEAR = b"c"
"""Follows an outcome when all processes of the call are gone."""


def supervise(
    service: socket.socket,
    registered: Mapping[str, CoreFunction],
    limits: Limits,
    place: Place | None,
    *,
    is_clear: bool,
) -> None:
    """Read a request from the service, run it, and send back what the function printed, the outcome and `CLEAR`.

    Args:
        service: The connection to the service.
        registered: The functions by name.
        limits: The limits of the call.
        place: Where the call runs, None where calls have the service's user.
        is_clear: Whether the last call in this place has been cleared away, as far as the service knows.
    """
    processes.become_subreaper()
    if not is_clear and not _clear(place):
        raise RuntimeError("a process of an earlier call in this place does not end")
    request = msgspec.json.decode(framing.receive(service, MAX_REQUEST_BYTES), type=CallRequest)
    try:
        folder = scratch.create()
    except OSError as error:
        full = Text("无法创建临时目录", "its temporary folder cannot be created")
        failure = failed(Text(f"{full.zh}：{error.strerror}", f"{full.en}: {error.strerror}"))
        service.sendall(framing.encode(b"") + framing.encode(msgspec.json.encode(failure)) + CLEAR)
        return
    try:
        printed, outcome = _run(service, registered[request.function], request, limits, place, folder)
    finally:
        is_cleared = _clear(place, folder)
    service.sendall(framing.encode(printed) + framing.encode(outcome) + (CLEAR if is_cleared else b""))
    service.close()


def _clear(place: Place | None, folder: Path | None = None) -> bool:
    """End all that a call has started, and delete what it has written: in its folder, and all that is its place's.

    Returns:
        Whether all its processes are gone. One that hangs in the kernel is left for the next call in the place.
    """
    is_clear = processes.end_descendants(None if place is None else place.kill_others)
    if place is not None:
        scratch.sweep(place.user)
    elif folder is not None:
        scratch.remove(folder)
    return is_clear


def _run(  # noqa: PLR0913  # all that makes a call
    service: socket.socket,
    function: CoreFunction,
    request: CallRequest,
    limits: Limits,
    place: Place | None,
    folder: Path,
) -> tuple[bytes, bytes]:
    """Run a function in a child process; return the end of what it printed, and the outcome as JSON."""
    result, result_end = os.pipe()
    output, output_end = os.pipe()
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        for descriptor in (service.fileno(), result, output):
            os.close(descriptor)
        if place is not None:
            place.become_call()
        processes.die_with(supervisor)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)  # whatever a module has set before
        has_own_user = place is not None
        _be_call(function, request, limits, result_end, output_end, has_own_user=has_own_user)
    os.close(result_end)
    os.close(output_end)
    monitor = Monitor(service, child, Pipes(result, output), limits)
    outcome = monitor.outcome()
    monitor.end_child()
    monitor.read_output()
    return monitor.take_printed(), outcome


def _be_call(  # noqa: PLR0913  # all that makes a call
    function: CoreFunction, request: CallRequest, limits: Limits, result: int, output: int, *, has_own_user: bool
) -> None:
    """Be the call's process, with no descriptors but these two and those that the modules have opened."""
    process = os.getpid()
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    processes.confine(limits.memory_bytes, has_own_user=has_own_user)  # in its own session, which it slows down
    message = framing.encode(run_function(function, request, limits.result_bytes, processes.lift_memory_limit))
    if os.getpid() == process:  # not a child that the function has forked and that returned
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the function may have closed or replaced it
                stream.flush()
        while message:
            message = message[os.write(result, message) :]
    os._exit(0)  # without waiting for threads
