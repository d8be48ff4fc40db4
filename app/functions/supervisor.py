"""The supervisor of one call: forks the process that runs the function, and ends everything that it has started.

As a subreaper it is the ancestor of all these processes, in whatever session they are. When the service closes its
socket, the call is over. It reads neither arguments nor results, since it can take on user IDs where places have some.
"""

import contextlib
import os
import socket
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

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


class Channel(NamedTuple):
    """What the service sends for a call: the connection for its outcome, and a file with its `CallRequest` as JSON."""

    service: socket.socket
    request: int


def supervise(
    channel: Channel,
    registered: Mapping[str, CoreFunction],
    limits: Limits,
    place: Place | None,
    *,
    is_clear: bool,
) -> None:
    """Run a call, and send the service the end of what the function printed, the outcome and `CLEAR`.

    Args:
        channel: What connects it to the service.
        registered: The functions by name.
        limits: The limits of the call.
        place: Where the call runs, None where calls have the service's user.
        is_clear: Whether the last call in this place has been cleared away, as far as the service knows.
    """
    processes.become_subreaper()
    if not is_clear:
        _clear(place)
    try:
        folder = scratch.create()
    except OSError as error:
        full = Text("无法创建临时目录", "its temporary folder cannot be created")
        failure = failed(Text(f"{full.zh}：{error.strerror}", f"{full.en}: {error.strerror}"))
        _send(channel, b"", msgspec.json.encode(failure), is_cleared=True)
        return
    is_cleared = False
    try:
        monitor = _start(channel, registered, limits, place, folder)
        outcome = monitor.outcome()
    finally:
        is_cleared = _clear(place, folder)
    monitor.read_output()
    _send(channel, monitor.take_printed(), outcome, is_cleared=is_cleared)


def _send(channel: Channel, printed: bytes, outcome: bytes, *, is_cleared: bool) -> None:
    with channel.service as service:
        service.sendall(framing.encode(printed) + framing.encode(outcome) + (CLEAR if is_cleared else b""))


def _clear(place: Place | None, folder: Path | None = None) -> bool:
    """End all that a call has started, and delete what it has written: in its folder, and all that is its place's.

    Returns:
        Whether all its processes are gone. One that hangs in the kernel is left for the next call in the place.
    """
    is_clear = processes.end_descendants(None if place is None else place.kill_others)
    if place is not None:
        with place.owned():
            scratch.sweep(place.user)
    elif folder is not None:
        scratch.remove(folder)
    return is_clear


def _start(
    channel: Channel, registered: Mapping[str, CoreFunction], limits: Limits, place: Place | None, folder: Path
) -> Monitor:
    """Run the function in a child process, and return what watches it."""
    result, result_end = os.pipe()
    output, output_end = os.pipe()
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            for descriptor in (channel.service.fileno(), result, output):
                os.close(descriptor)
            if place is not None:
                place.become_call()
            processes.die_with(supervisor)
            os.environ["TMPDIR"] = tempfile.tempdir = str(folder)  # whatever a module has set before
            _be_call(channel.request, registered, limits, Pipes(result_end, output_end), has_own_user=place is not None)
        except BaseException:  # noqa: BLE001  # the supervisor's code that follows is not for this process
            traceback.print_exc()
        os._exit(1)
    for descriptor in (channel.request, result_end, output_end):
        os.close(descriptor)
    return Monitor(channel.service, child, Pipes(result, output), limits)


def _be_call(
    request: int, registered: Mapping[str, CoreFunction], limits: Limits, pipes: Pipes, *, has_own_user: bool
) -> None:
    """Be the call's process, with no descriptors but the pipes and those that the modules have opened."""
    process = os.getpid()
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (pipes.output, 1), (pipes.output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(pipes.output)
    with open(request, "rb") as file:
        asked = msgspec.json.decode(file.read(), type=CallRequest)
    processes.confine(limits.memory_bytes, has_own_user=has_own_user)  # in its own session, which it slows down
    message = framing.encode(
        run_function(registered[asked.function], asked, limits.result_bytes, processes.lift_memory_limit)
    )
    if os.getpid() == process:  # not a child that the function has forked and that returned
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the function may have closed or replaced it
                stream.flush()
        while message:
            message = message[os.write(pipes.result, message) :]
    os._exit(0)  # without waiting for threads
