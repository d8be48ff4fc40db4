"""A generation: the vendor's modules as they were when they were loaded, in a zygote that calls are forked from.

multiprocessing's fork server does not fit: a process has only one, it imports the program's main module into every
child, and it does not end grandchildren. Nor does a new gunicorn worker for each generation: it would replace the old
one before it has imported anything.
"""

import contextlib
import logging
import os
import socket
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.domain.texts import Text
from app.functions import framing, processes, zygote
from app.functions.call import failed, tail
from app.functions.concurrency import Slot
from app.functions.messages import BrokenModule, Failed, FunctionInfo, Outcome, TimedOut
from app.functions.modules import HANGS, IMPORT_SECONDS, MAX_ERROR
from app.functions.monitor import MAX_OUTPUT_BYTES, Limits
from app.functions.supervisor import CLEAR

_MARGIN_SECONDS = 8
_END_SECONDS = 10
_STATUS_BYTES = 16
logger = logging.getLogger(__name__)


class GenerationGoneError(Exception):
    """The zygote has ended."""


class RawResult(NamedTuple):
    """The result of a call: the outcome as JSON, and the end of what the function printed."""

    outcome: bytes
    printed: bytes


class Generation:
    """Loaded modules. Threads may share it.

    Attributes:
        functions: The functions that can be called, by name.
        broken: The modules that could not be loaded.
    """

    def __init__(
        self, zygote: "_Zygote", functions: list[FunctionInfo], broken: list[BrokenModule], seconds: int
    ) -> None:
        self.functions = {function.name: function for function in functions}
        self.broken = broken
        self._zygote = zygote
        self._seconds = seconds

    @property
    def end(self) -> Text | None:
        """How the zygote ended, None while it runs."""
        return processes.how_it_ended(self._zygote.exit_code()) if self._zygote.has_ended() else None

    def call(self, request: bytes, max_outcome_bytes: int, slot: Slot) -> RawResult:
        """Call a function of this generation; `request` is a `CallRequest` as JSON, and no other call has the slot.

        Raises:
            GenerationGoneError: the call did not begin.
        """
        with self._begin(request, slot) as connection:
            connection.settimeout(self._seconds + _MARGIN_SECONDS)
            try:
                printed = framing.receive(connection, MAX_OUTPUT_BYTES)
                outcome = framing.receive(connection, max_outcome_bytes)
                slot.is_clear = connection.recv(len(CLEAR)) == CLEAR
            except TimeoutError:
                _hang_up(connection)
                return RawResult(msgspec.json.encode(TimedOut()), b"")
            except (EOFError, OSError):
                return _without_outcome(Text("进程没有给出任何结果就结束了", "its process ended without an outcome"))
        return _checked(RawResult(outcome, printed))

    def _begin(self, request: bytes, slot: Slot) -> socket.socket:
        """Have the zygote fork a supervisor; return the connection to it."""
        connection, supervisor_end = socket.socketpair()
        with supervisor_end, os.fdopen(os.memfd_create("request"), "w+b") as file:
            file.write(request)
            file.seek(0)
            message = bytes((slot.number, slot.is_clear))
            try:
                socket.send_fds(self._zygote.control, [message], [supervisor_end.fileno(), file.fileno()])
            except OSError as error:
                connection.close()
                raise GenerationGoneError from error
        slot.is_clear = False
        return connection

    def close(self) -> None:
        """End the zygote and all its descendants."""
        self._zygote.close()


def _checked(result: RawResult) -> RawResult:
    """Return a result, or a failure if it is none: the function might have written to the pipe itself.

    What is journalled of it has its bounds, whoever wrote it, and nothing that a database refuses.
    """
    try:
        outcome = msgspec.json.decode(result.outcome, type=Outcome)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _without_outcome(
            Text("进程写出的不是结果", "its process wrote something that is not an outcome"), result.printed
        )
    if isinstance(outcome, Failed | TimedOut):
        bounded = msgspec.structs.replace(outcome, detail=tail(outcome.detail))
        return RawResult(msgspec.json.encode(bounded), result.printed)
    return result


def _without_outcome(why: Text, printed: bytes = b"") -> RawResult:
    said = f"{printed.decode('utf-8', 'replace')}\n{why}".lstrip()
    return RawResult(msgspec.json.encode(failed(said)), b"")


def _hang_up(connection: socket.socket) -> None:
    """Have the supervisor end its call, and wait for it to clear the place."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(_END_SECONDS)
        while connection.recv(framing.CHUNK_BYTES):
            pass


def load(folder: Path, limits: Limits, launcher: socket.socket) -> Generation:
    """Load the modules in a folder.

    Raises:
        OSError: the zygote cannot be started.
    """
    broken: dict[str, BrokenModule] = {}
    while True:
        process = _Zygote(launcher)
        try:
            ready, found = process.load(zygote.LoadRequest(str(folder), list(broken), limits))
        except BaseException:
            process.close()
            raise
        if ready is not None and not found:
            return Generation(process, ready.functions, [*broken.values(), *ready.refused], limits.seconds)
        # A broken module may have left anything behind in its process: start another one without it.
        process.close()
        broken.update((module.module, module) for module in found)


class _Zygote:
    """A zygote as the service sees it: started, ended and waited for by the launcher."""

    def __init__(self, launcher: socket.socket) -> None:
        self.control, control = socket.socketpair()
        self._lifeline, lifeline = socket.socketpair()
        self._crash = os.memfd_create("crash")
        with control, lifeline:
            try:
                socket.send_fds(launcher, [b"z"], [lifeline.fileno(), control.fileno(), self._crash])
            except OSError:
                self._close_ends()
                raise

    def load(self, request: zygote.LoadRequest) -> tuple[zygote.Ready | None, list[BrokenModule]]:
        """Import the modules; return what is ready, None if the process ended or hangs, and the broken modules."""
        broken = []
        importing = ""
        self.control.settimeout(IMPORT_SECONDS + _MARGIN_SECONDS)
        try:
            self.control.sendall(framing.encode(msgspec.json.encode(request)))
            while True:
                match msgspec.json.decode(framing.receive(self.control, zygote.MAX_REPORT_BYTES), type=zygote.Report):
                    case zygote.Importing(importing):
                        pass
                    case zygote.Broken(module, traceback):
                        broken.append(BrokenModule(module, traceback))
                    case zygote.Ready() as ready:
                        self.control.settimeout(_MARGIN_SECONDS)
                        return ready, broken
        except TimeoutError:
            error = HANGS
        except (EOFError, OSError):
            error = processes.how_it_ended(self.exit_code())
        if not importing:
            raise OSError(f"the functions' process does not start: {error}")
        trace = os.pread(self._crash, MAX_ERROR, 0).decode("utf-8", "replace")
        return None, [*broken, BrokenModule(importing, f"{trace}\n{error}".lstrip())]

    def close(self) -> None:
        """End the process and all its descendants."""
        with contextlib.suppress(OSError):
            self._lifeline.shutdown(socket.SHUT_WR)
        self.exit_code()
        self._close_ends()

    def _close_ends(self) -> None:
        self.control.close()
        self._lifeline.close()
        os.close(self._crash)

    def has_ended(self) -> bool:
        """Tell whether the process has ended."""
        try:
            self._lifeline.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    def exit_code(self) -> int:
        """Wait for the process to end; a signal that ended it is a negative number, as in `subprocess`."""
        self._lifeline.settimeout(_END_SECONDS)
        try:
            return int(self._lifeline.recv(_STATUS_BYTES, socket.MSG_PEEK) or b"0")
        except TimeoutError:
            logger.error("a generation of functions does not end")  # noqa: TRY400  # nothing to trace
            return 0
