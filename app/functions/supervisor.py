"""The supervisor of one call: forks the process that runs the function, and ends everything that it has started.

As a subreaper it is the ancestor of all these processes, in whatever session they are. When the service closes its
socket, the call is over.
"""

import contextlib
import os
import select
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.domain.texts import Text
from app.functions import framing, processes, scratch
from app.functions.call import failed, run_function, tail
from app.functions.decorator import CoreFunction
from app.functions.messages import CallRequest, Outcome, TimedOut

MAX_REQUEST_BYTES = 512 * 1024
"""More than the app's 64 KiB can become when numbers such as 1e15 are written out."""
MAX_OUTPUT_BYTES = 16 * 1024
MAX_PROCESSES = 64
_ENVELOPE_BYTES = 8 * 4096  # of an outcome beside its result: the detail, however it is escaped
_CHECK_SECONDS = 0.5
_POLL_SECONDS = 0.1
_LAST_POLL_SECONDS = 0.02
_CHUNK_BYTES = 64 * 1024


class Limits(msgspec.Struct, frozen=True):
    """The limits of one call: time in seconds, memory and the result as JSON in bytes."""

    seconds: int
    memory_bytes: int
    result_bytes: int

    @property
    def outcome_bytes(self) -> int:
        """The limit of an outcome, as JSON."""
        return self.result_bytes + _ENVELOPE_BYTES


class _Pipes(NamedTuple):
    """The reading ends of the pipes that the call's process writes to."""

    result: int
    output: int


def supervise(service: socket.socket, registered: Mapping[str, CoreFunction], limits: Limits) -> None:
    """Read a request from the service, run it, and send back what the function printed and the outcome."""
    processes.become_subreaper()
    request = msgspec.json.decode(framing.receive(service, MAX_REQUEST_BYTES), type=CallRequest)
    folder = scratch.create(os.getppid())
    try:
        monitor, outcome = _run(service, registered[request.function], request, limits, folder)
    finally:
        processes.end_descendants()
        scratch.remove(folder)
    monitor.read_output()
    service.sendall(framing.encode(monitor.take_printed()) + framing.encode(outcome))
    service.close()


def _run(
    service: socket.socket, function: CoreFunction, request: CallRequest, limits: Limits, folder: Path
) -> tuple["_Monitor", bytes]:
    """Run a function in a child process; return its monitor, and the outcome as JSON."""
    result, result_end = os.pipe()
    output, output_end = os.pipe()
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        for descriptor in (service.fileno(), result, output):
            os.close(descriptor)
        processes.die_with(supervisor)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)  # whatever a module has set before
        _be_call(function, request, limits, result_end, output_end)
    os.close(result_end)
    os.close(output_end)
    monitor = _Monitor(service, child, _Pipes(result, output), limits)
    outcome = monitor.outcome()
    monitor.end_child()
    return monitor, outcome


def _be_call(function: CoreFunction, request: CallRequest, limits: Limits, result: int, output: int) -> None:
    """Be the call's process, with no descriptors but these two and those that the modules have opened."""
    process = os.getpid()
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    processes.confine(limits.memory_bytes)
    message = framing.encode(run_function(function, request, limits.result_bytes, processes.lift_memory_limit))
    if os.getpid() == process:  # not a child that the function has forked and that returned
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the function may have closed or replaced it
                stream.flush()
        while message:
            message = message[os.write(result, message) :]
    os._exit(0)  # without waiting for threads


class _Monitor:
    """Watches one call until it has an outcome."""

    def __init__(self, service: socket.socket, child: int, pipes: _Pipes, limits: Limits) -> None:
        self._service = service
        self._child = child
        self._pipes = pipes
        self._limits = limits
        self._message = bytearray()
        self._tail = b""
        self._poll = select.poll()
        for descriptor in (service.fileno(), *pipes):
            self._poll.register(descriptor, select.POLLIN)
        for pipe in pipes:
            os.set_blocking(pipe, False)

    def outcome(self) -> bytes:
        """Wait for the outcome, and return it as JSON."""
        deadline = time.monotonic() + self._limits.seconds
        crowded = processes.tasks() + MAX_PROCESSES
        max_bytes = self._limits.memory_bytes + processes.private_bytes()
        check_at = time.monotonic() + _CHECK_SECONDS
        poll_seconds = _POLL_SECONDS
        while (now := time.monotonic()) < deadline:
            ready = {descriptor for descriptor, _ in self._poll.poll(min(poll_seconds, deadline - now) * 1000)}
            if self._service.fileno() in ready:
                return self._failed(Text("服务不再等待结果", "the service no longer waits for the result"))
            if self._pipes.output in ready:
                self.read_output()
            if self._pipes.result in ready and not self._read_result():
                self._poll.unregister(self._pipes.result)
                poll_seconds = _LAST_POLL_SECONDS  # nothing more can come: the process ends now, or idles
            if self._is_complete():
                return self._checked()
            ended, status = os.waitpid(self._child, os.WNOHANG)
            if ended:
                return self._ended(os.waitstatus_to_exitcode(status))
            if now >= check_at or processes.tasks() > crowded:  # a fork bomb is ended at once
                check_at = now + _CHECK_SECONDS
                family = list(processes.descendants(os.getpid()))
                if len(family) > MAX_PROCESSES:
                    return self._failed(
                        Text(f"启动了超过 {MAX_PROCESSES} 个进程", f"it started more than {MAX_PROCESSES} processes")
                    )
                # The kernel's limit is for one process, and does not count memory that processes share.
                if sum(map(processes.memory_of, family)) > max_bytes:
                    return self._failed(Text("内存超过上限", "it took more memory than a call may"))
        return msgspec.json.encode(TimedOut(tail(self._text())))

    def end_child(self) -> None:
        """End the call's process. It is nearly always the only one, and this is cheaper than looking for others."""
        with contextlib.suppress(ChildProcessError):  # it was waited for
            for _ in range(100):
                if os.waitpid(self._child, os.WNOHANG)[0]:
                    return
                processes.kill(self._child)
                time.sleep(0.0005)

    def read_output(self) -> None:
        """Read what was printed and keep its end; at most what a pipe holds, lest endless printing delays the clock."""
        chunk = _read(self._pipes.output)
        if chunk == b"":
            with contextlib.suppress(KeyError):  # unregistered before
                self._poll.unregister(self._pipes.output)
        elif chunk is not None:
            self._tail = (self._tail + chunk)[-MAX_OUTPUT_BYTES:]

    def take_printed(self) -> bytes:
        """Return the end of what was printed, only once: it is not to be repeated in an outcome's `detail`."""
        printed, self._tail = self._tail, b""
        return printed

    def _read_result(self) -> bool:
        """Read what has come of the message; tell whether more can come."""
        while len(self._message) <= self._limits.outcome_bytes:
            chunk = _read(self._pipes.result)
            if not chunk:
                return chunk is None
            self._message += chunk
        return True

    def _declared_bytes(self) -> int:
        return framing.decode_length(bytes(self._message[: framing.HEADER_BYTES]))

    def _is_complete(self) -> bool:
        size = min(self._declared_bytes(), self._limits.outcome_bytes - framing.HEADER_BYTES)
        return len(self._message) >= framing.HEADER_BYTES + max(size, 1)

    def _checked(self) -> bytes:
        """Return the message if it is an outcome: the function might have written to the descriptor itself."""
        content = bytes(self._message[framing.HEADER_BYTES : framing.HEADER_BYTES + self._declared_bytes()])
        try:
            msgspec.json.decode(content, type=Outcome)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._failed(Text("进程写出的不是结果", "its process wrote something that is not an outcome"))
        return content

    def _ended(self, status: int) -> bytes:
        self._read_result()
        if self._is_complete():
            return self._checked()
        self.read_output()
        return self._failed(processes.how_it_ended(status))

    def _failed(self, what: Text) -> bytes:
        return msgspec.json.encode(failed(f"{self._text()}\n{what}".lstrip()))

    def _text(self) -> str:
        return self.take_printed().decode("utf-8", "replace")


def _read(pipe: int) -> bytes | None:
    """Return what has come, b"" at the end, None when nothing has come yet."""
    try:
        return os.read(pipe, _CHUNK_BYTES)
    except BlockingIOError:
        return None
