"""The supervisor of one call: forks the process that runs the function, and ends everything that it has started.

As a subreaper it is the ancestor of all these processes, in whatever session they are. When the service closes its
connection, the call is over. It reads neither arguments nor results, since it can take on user IDs where places have
some.
"""

import contextlib
import os
import select
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

import msgspec

from app.domain.texts import Text
from app.functions import processes
from app.functions.call import failed, run_function, tail
from app.functions.decorator import CoreFunction
from app.functions.messages import CallRequest, Limits, TimedOut
from app.functions.places import ROOT, Place, remove

_MAX_OUTPUT_BYTES = 16 * 1024
_ENVELOPE_BYTES = 8 * 4096  # of an outcome beside its result: the detail, however it is escaped
_CHUNK_BYTES = 64 * 1024


class Call(NamedTuple):
    """A call to be run."""

    service: socket.socket
    request: int  # a file with the `CallRequest` as JSON
    functions: Mapping[tuple[str, str], CoreFunction]
    limits: Limits
    place: Place | None  # None where calls have the service's user


def supervise(call: Call) -> NoReturn:
    """Run a call; send the service the end of what was printed, as a line of JSON, and the outcome."""
    try:
        processes.become_subreaper()
        if call.place is not None:
            call.place.enter()
        call.service.sendall(_run(call))
    except ConnectionError:  # the service no longer waits
        pass
    except BaseException:  # noqa: BLE001  # the process must end here, whatever happens
        traceback.print_exc()
    os._exit(0)


def _run(call: Call) -> bytes:
    _clear(call.place)  # of what a supervisor that was killed has left
    with contextlib.nullcontext() if call.place is None else call.place.owned():
        folder = Path(tempfile.mkdtemp(prefix="kadun-call-", dir=ROOT))
    try:
        monitor = _start(call, folder)
        ending = monitor.ending()
    finally:
        _clear(call.place)
        if call.place is None:
            remove(folder)
    printed = monitor.printed()
    if isinstance(ending, bytes):
        return msgspec.json.encode(printed) + b"\n" + ending
    failure = TimedOut(tail(printed)) if ending is None else failed(f"{printed}\n{ending}".lstrip())
    return b'""\n' + msgspec.json.encode(failure)


def _clear(place: Place | None) -> None:
    if place is None:
        processes.end_descendants(processes.kill_children)
    else:
        processes.end_descendants(place.kill_others)
        place.sweep()


def _start(call: Call, folder: Path) -> "_Monitor":
    result, result_end = os.pipe()
    output, output_end = os.pipe()
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            for descriptor in (call.service.fileno(), result, output):
                os.close(descriptor)
            if call.place is not None:
                call.place.become_call()
            processes.die_with(supervisor)
            os.environ["TMPDIR"] = tempfile.tempdir = str(folder)  # whatever a module has set before
            _be_call(call, result_end, output_end)
        except BaseException:  # noqa: BLE001  # the supervisor's code that follows is not for this process
            traceback.print_exc()
        os._exit(1)
    for descriptor in (call.request, result_end, output_end):
        os.close(descriptor)
    return _Monitor(call, child, result, output)


def _be_call(call: Call, result: int, output: int) -> NoReturn:
    """Be the call's process, with no descriptors but the pipes and those that the modules have opened."""
    process = os.getpid()
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    with os.fdopen(call.request, "rb") as file:
        asked = msgspec.json.decode(file.read(), type=CallRequest)
    # In its own session, which it slows down.
    processes.confine(call.limits.memory_bytes, has_own_user=call.place is not None)
    function = call.functions[asked.key]
    outcome = run_function(function, asked, call.limits.result_bytes, processes.lift_memory_limit)
    if os.getpid() == process:  # not a child that the function has forked and that returned
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the function may have closed or replaced it
                stream.flush()
        while outcome:
            outcome = outcome[os.write(result, outcome) :]
    os._exit(0)  # without waiting for threads


class _Monitor:
    def __init__(self, call: Call, child: int, result: int, output: int) -> None:
        self._call = call
        self._child = child
        self._end = os.pidfd_open(child)
        self._result = result
        self._output = output
        self._message = bytearray()
        self._tail = b""
        self._poll = select.poll()
        for descriptor in (call.service.fileno(), self._end, result, output):
            self._poll.register(descriptor, select.POLLIN)
        for pipe in (result, output):
            os.set_blocking(pipe, False)

    def ending(self) -> bytes | Text | None:
        """Wait for the outcome, and return it as JSON, unchecked; or why there is none; or None after the time."""
        deadline = time.monotonic() + self._call.limits.seconds
        most = self._call.limits.result_bytes + _ENVELOPE_BYTES
        while (left := deadline - time.monotonic()) > 0:
            ready = {descriptor for descriptor, _ in self._poll.poll(left * 1000)}
            if self._call.service.fileno() in ready:
                return Text("服务不再等待结果", "the service no longer waits for the result")
            if self._output in ready:
                self._read_output()
            if self._result in ready or self._end in ready:
                while len(self._message) <= most and (chunk := self._read(self._result)):
                    self._message += chunk
            if len(self._message) > most:
                return bytes(self._message)
            if self._end in ready:
                status = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
                return bytes(self._message) if self._message and status == 0 else processes.how_it_ended(status)
        return None

    def printed(self) -> str:
        """Return the end of what the call has printed."""
        self._read_output()
        return self._tail.decode("utf-8", "replace")

    def _read_output(self) -> None:
        # At most what a pipe holds, lest endless printing delays the clock.
        self._tail = (self._tail + self._read(self._output))[-_MAX_OUTPUT_BYTES:]

    def _read(self, pipe: int) -> bytes:
        try:
            chunk = os.read(pipe, _CHUNK_BYTES)
        except BlockingIOError:  # nothing has come yet
            return b""
        if not chunk:
            with contextlib.suppress(KeyError):  # closed, and unregistered before
                self._poll.unregister(pipe)
        return chunk
