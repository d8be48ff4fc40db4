"""What the supervisor of a call watches: its time, memory, processes and output, until it has an outcome."""

import contextlib
import os
import select
import socket
import time
from typing import NamedTuple

import msgspec

from app.domain.texts import Text
from app.functions import framing, processes
from app.functions.call import failed, tail
from app.functions.messages import TimedOut

MAX_OUTPUT_BYTES = 16 * 1024
_ENVELOPE_BYTES = 8 * 4096  # of an outcome beside its result: the detail, however it is escaped
_CHECK_SECONDS = 0.5
_REST = 10
"""Adding up the memory of many processes takes at most one part in so many of the time."""
_POLL_SECONDS = 0.1
_LAST_POLL_SECONDS = 0.02


class Limits(msgspec.Struct, frozen=True):
    """The limits of one call: time in seconds, memory and the result as JSON in bytes."""

    seconds: int
    memory_bytes: int
    result_bytes: int

    @property
    def outcome_bytes(self) -> int:
        """The limit of an outcome, as JSON."""
        return self.result_bytes + _ENVELOPE_BYTES


class Pipes(NamedTuple):
    """The ends of the pipes that the call's process writes to: those for reading, or its own."""

    result: int
    output: int


class Monitor:
    """Watches one call until it has an outcome."""

    def __init__(self, service: socket.socket, child: int, pipes: Pipes, limits: Limits) -> None:
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
        """Wait for the outcome, and return it as JSON, unchecked where it is the call's own."""
        deadline = time.monotonic() + self._limits.seconds
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
                return self._content()
            ended, status = os.waitpid(self._child, os.WNOHANG)
            if ended:
                return self._ended(os.waitstatus_to_exitcode(status))
            if now >= check_at:
                excess = _excess(max_bytes)
                if excess is not None:
                    return self._failed(excess)
                check_at = now + max(_CHECK_SECONDS, _REST * (time.monotonic() - now))
        return msgspec.json.encode(TimedOut(tail(self._text())))

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

    def _content(self) -> bytes:
        """Return what the call wrote. The service checks that it is an outcome: the supervisor parses nothing."""
        return bytes(self._message[framing.HEADER_BYTES : framing.HEADER_BYTES + self._declared_bytes()])

    def _ended(self, status: int) -> bytes:
        self._read_result()
        if self._is_complete():
            return self._content()
        self.read_output()
        return self._failed(processes.how_it_ended(status))

    def _failed(self, what: Text) -> bytes:
        return msgspec.json.encode(failed(f"{self._text()}\n{what}".lstrip()))

    def _text(self) -> str:
        return self.take_printed().decode("utf-8", "replace")


def _excess(max_bytes: int) -> Text | None:
    """Tell which limit all processes of the call together exceed, None for neither."""
    family = list(processes.descendants(os.getpid()))
    most = processes.MAX_TASKS
    if len(family) > most:
        return Text(f"启动了超过 {most} 个进程", f"it started more than {most} processes")
    # The kernel's limit is for one process, and does not count memory that processes share.
    if sum(map(processes.memory_of, family)) > max_bytes:
        return Text("内存超过上限", "it took more memory than a call may")
    return None


def _read(pipe: int) -> bytes | None:
    """Return what has come, b"" at the end, None when nothing has come yet."""
    try:
        return os.read(pipe, framing.CHUNK_BYTES)
    except BlockingIOError:
        return None
