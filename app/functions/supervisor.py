"""The supervisor of one call: it forks the process that runs the function, and leaves nothing of it behind.

It is the parent, near or far, of all that the function starts, in whatever session, and so can end it all. Its
socket to the service is its lifeline: when that closes, the call is over too.
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
from app.functions.call import end_of, failed, outcome_of
from app.functions.decorator import CoreFunction
from app.functions.messages import CallRequest, Outcome, TimedOut

MAX_REQUEST_BYTES = 512 * 1024
"""More than the app's 64 KiB become when 1e15 is written out."""
MAX_OUTPUT_BYTES = 16 * 1024
MAX_PROCESSES = 64
_ENVELOPE_BYTES = 8 * 4096  # what an outcome may have beside its result: the detail, however it is escaped
_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 0.1
_LAST_PATIENCE_SECONDS = 0.02
_CHUNK_BYTES = 64 * 1024


class Limits(msgspec.Struct, frozen=True):
    """What one call may take: time in seconds, memory and the result as JSON in bytes."""

    seconds: int
    memory_bytes: int
    result_bytes: int

    @property
    def outcome_bytes(self) -> int:
        """How large an outcome as JSON may be."""
        return self.result_bytes + _ENVELOPE_BYTES


class _Pipes(NamedTuple):
    """Reading ends of what the call's process writes."""

    result: int
    output: int


def supervise(service: socket.socket, registered: Mapping[str, CoreFunction], limits: Limits) -> None:
    """Read a request from the service, have it run, and send back what the function printed and the outcome."""
    processes.adopt_orphans()
    request = msgspec.json.decode(framing.receive(service, MAX_REQUEST_BYTES), type=CallRequest)
    folder = scratch.make(os.getppid())
    try:
        watch, outcome = _watched(service, registered[request.function], request, limits, folder)
    finally:
        processes.end_descendants()
        scratch.remove(folder)
    watch.take_output()
    service.sendall(framing.encode(watch.printed()) + framing.encode(outcome))
    service.close()


def _watched(
    service: socket.socket, offer: CoreFunction, request: CallRequest, limits: Limits, folder: Path
) -> tuple["_Watch", bytes]:
    """Have a function run to its end, and return its outcome as JSON, and who saw it."""
    result, result_end = os.pipe()
    output, output_end = os.pipe()
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        for ours in (service.fileno(), result, output):
            os.close(ours)
        processes.die_with(supervisor)
        _use(folder)
        _run(offer, request, limits, result_end, output_end)
    os.close(result_end)
    os.close(output_end)
    watch = _Watch(service, child, _Pipes(result, output), limits)
    outcome = watch.outcome()
    watch.end_child()
    return watch, outcome


def _use(folder: Path) -> None:
    """Have this process and what it starts write temporary files there, whatever a module has asked for before."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def _run(offer: CoreFunction, request: CallRequest, limits: Limits, result: int, output: int) -> None:
    """Be the call's process. All descriptors but these two, and what the modules opened themselves, are closed."""
    me = os.getpid()
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    processes.confine(limits.memory_bytes)
    message = framing.encode(outcome_of(offer, request, limits.result_bytes, processes.lift_memory_limit))
    if os.getpid() == me:  # and no child that the function forked and let return
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        while message:
            message = message[os.write(result, message) :]
    os._exit(0)  # threads that never end do not hold it up


def _flush(stream: object) -> None:
    with contextlib.suppress(Exception):  # the function may have closed it, or put anything in its place
        stream.flush()  # type: ignore[attr-defined]


class _Watch:
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
        most_bytes = self._limits.memory_bytes + processes.private_bytes()
        look_at = time.monotonic() + _LOOK_SECONDS
        patience = _PATIENCE_SECONDS
        while (now := time.monotonic()) < deadline:
            ready = {descriptor for descriptor, _ in self._poll.poll(min(patience, deadline - now) * 1000)}
            if self._service.fileno() in ready:
                return self._failed(Text("服务不再等待结果", "the service no longer waits for it"))
            if self._pipes.output in ready:
                self.take_output()
            if self._pipes.result in ready and not self._take_result():
                self._poll.unregister(self._pipes.result)
                patience = _LAST_PATIENCE_SECONDS  # nothing more can come: the process ends now, or idles
            if self._is_complete():
                return self._checked()
            ended, status = os.waitpid(self._child, os.WNOHANG)
            if ended:
                return self._ended(os.waitstatus_to_exitcode(status))
            if now >= look_at or processes.tasks() > crowded:  # a bomb is not to have a second's time
                look_at = now + _LOOK_SECONDS
                family = list(processes.descendants(os.getpid()))
                if len(family) > MAX_PROCESSES:
                    return self._failed(
                        Text(f"启动了超过 {MAX_PROCESSES} 个进程", f"it started more than {MAX_PROCESSES} processes")
                    )
                # The kernel's limit is for one process, and knows nothing of memory that processes share.
                if sum(map(processes.memory_of, family)) > most_bytes:
                    return self._failed(Text("内存超过上限", "it took more memory than a call may"))
        return msgspec.json.encode(TimedOut(end_of(self._text())))

    def end_child(self) -> None:
        """End the call's process, which nearly always is all there is to end: cheaper than looking for others."""
        with contextlib.suppress(ChildProcessError):  # it has been waited for
            for _ in range(100):
                if os.waitpid(self._child, os.WNOHANG)[0]:
                    return
                processes.kill(self._child)
                time.sleep(0.0005)

    def take_output(self) -> None:
        """Read what was printed: as much as a pipe holds, and no more, lest endless printing keeps us from the clock.

        Only the end is kept.
        """
        chunk = _read(self._pipes.output)
        if chunk == b"":
            with contextlib.suppress(KeyError):  # it was at its end before
                self._poll.unregister(self._pipes.output)
        elif chunk is not None:
            self._tail = (self._tail + chunk)[-MAX_OUTPUT_BYTES:]

    def printed(self) -> bytes:
        """Return the end of what was printed, once: no outcome's `detail` repeats it."""
        printed, self._tail = self._tail, b""
        return printed

    def _take_result(self) -> bool:
        """Read what there is of the message; tell whether more can come."""
        while len(self._message) <= self._limits.outcome_bytes:
            chunk = _read(self._pipes.result)
            if not chunk:
                return chunk is None
            self._message += chunk
        return True

    def _declared(self) -> int:
        return framing.decode_length(bytes(self._message[: framing.HEADER_BYTES]))

    def _is_complete(self) -> bool:
        size = min(self._declared(), self._limits.outcome_bytes - framing.HEADER_BYTES)
        return len(self._message) >= framing.HEADER_BYTES + max(size, 1)

    def _checked(self) -> bytes:
        """Return the message, if it is one of ours: the function might have written to a descriptor not its own."""
        content = bytes(self._message[framing.HEADER_BYTES : framing.HEADER_BYTES + self._declared()])
        try:
            msgspec.json.decode(content, type=Outcome)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._failed(Text("进程写出的不是结果", "its process wrote what is no outcome"))
        return content

    def _ended(self, status: int) -> bytes:
        self._take_result()
        if self._is_complete():
            return self._checked()
        self.take_output()
        return self._failed(processes.how_it_ended(status))

    def _failed(self, what: Text) -> bytes:
        return msgspec.json.encode(failed(f"{self._text()}\n{what}".lstrip()))

    def _text(self) -> str:
        return self.printed().decode("utf-8", "replace")


def _read(pipe: int) -> bytes | None:
    """Return what there is, b"" at the end, None when nothing has come yet."""
    try:
        return os.read(pipe, _CHUNK_BYTES)
    except BlockingIOError:
        return None
