"""One generation of the vendor's modules, as they were when they were loaded, and calls into them.

A zygote of our own rather than multiprocessing's forkserver: that one is one for a process's whole life, imports the
program's main module into every child, and knows nothing of grandchildren. And a new generation beside the old one
rather than a new worker of gunicorn's, which would take the old one's place before it has imported anything.
"""

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.domain.texts import Text
from app.functions import framing, processes, zygote
from app.functions.call import failed
from app.functions.messages import BrokenModule, FunctionInfo, TimedOut
from app.functions.modules import HANGS, IMPORT_SECONDS, MAX_ERROR
from app.functions.supervisor import MAX_OUTPUT_BYTES, Limits

PROJECT = Path(__file__).resolve().parents[2]
# One thread for numpy's libraries: each of their threads takes memory, and a call is to leave processors to others.
ENVIRONMENT = {
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONFAULTHANDLER": "1",
    "PYTHONUNBUFFERED": "1",
}
"""All that modules and functions find in their environment, beside PATH."""
_MARGIN_SECONDS = 8
_END_SECONDS = 10
logger = logging.getLogger(__name__)


class GenerationGoneError(Exception):
    """The process that calls are forked from has ended."""


class RawResult(NamedTuple):
    """What came of a call: the outcome as JSON, and the end of what the function printed."""

    outcome: bytes
    printed: bytes


class Generation:
    """Modules that are loaded. Calls may come from several threads.

    Attributes:
        functions: What can be called, by name.
        broken: What cannot, and why.
    """

    def __init__(
        self, running: "_Zygote", functions: list[FunctionInfo], broken: list[BrokenModule], seconds: int
    ) -> None:
        self.functions = {function.name: function for function in functions}
        self.broken = broken
        self._running = running
        self._seconds = seconds

    @property
    def end(self) -> Text | None:
        """How its process ended; None while calls can be made."""
        return None if self._running.process.poll() is None else processes.how_it_ended(self._running.exit_code())

    def call(self, request: bytes, max_outcome_bytes: int) -> RawResult:
        """Make a call; `request` is a `CallRequest` as JSON, for a function of this generation.

        Raises:
            GenerationGoneError: it has not begun, and will not.
        """
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                try:
                    socket.send_fds(self._running.control, [b"c"], [theirs.fileno()])
                except OSError as error:
                    raise GenerationGoneError from error
            ours.settimeout(self._seconds + _MARGIN_SECONDS)
            try:
                ours.sendall(framing.encode(request))
                printed = framing.receive(ours, MAX_OUTPUT_BYTES)
                return RawResult(framing.receive(ours, max_outcome_bytes), printed)
            except TimeoutError:
                return RawResult(msgspec.json.encode(TimedOut()), b"")
            except (EOFError, OSError):
                return RawResult(
                    msgspec.json.encode(
                        failed(Text("进程没有给出任何结果就结束了", "its process ended without a word"))
                    ),
                    b"",
                )

    def close(self) -> None:
        """End it, and all that was started in it."""
        self._running.close()


def load(folder: Path, limits: Limits) -> Generation:
    """Load the modules in a folder, and name those that cannot be.

    Raises:
        OSError: no process can be started.
    """
    broken: dict[str, BrokenModule] = {}
    while True:
        running = _Zygote()
        try:
            ready, found = running.load(zygote.LoadRequest(str(folder), list(broken), limits))
        except BaseException:
            running.close()
            raise
        if ready is not None and not found:
            return Generation(running, ready.functions, [*broken.values(), *ready.refused], limits.seconds)
        # Whatever a broken module has left behind in its process is no harm to others: they get one without it.
        running.close()
        broken.update((module.module, module) for module in found)


class _Zygote:
    """The process that calls are forked from, and its reaper."""

    def __init__(self) -> None:
        self.control, control = socket.socketpair()
        self._lifeline, lifeline = socket.socketpair()
        self._crash = os.memfd_create("crash")
        ends = (control.fileno(), lifeline.fileno(), self._crash)
        with control, lifeline:
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "app.functions.zygote", *map(str, ends)],
                    cwd=PROJECT,
                    env={"PATH": os.environ.get("PATH", os.defpath), **ENVIRONMENT},
                    stdin=subprocess.DEVNULL,
                    stdout=sys.stderr.fileno(),
                    pass_fds=ends,
                    start_new_session=True,  # a terminal's Ctrl-C is not for it
                )
            except OSError:
                self._let_go()
                raise

    def load(self, orders: zygote.LoadRequest) -> tuple[zygote.Ready | None, list[BrokenModule]]:
        """Have the modules imported; return what is ready, None when the process ended or hangs, and what is broken."""
        broken = []
        importing = ""
        self.control.settimeout(IMPORT_SECONDS + _MARGIN_SECONDS)
        try:
            self.control.sendall(framing.encode(msgspec.json.encode(orders)))
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
        """End the process, and all that was started in it."""
        self._let_go()
        self.exit_code()

    def _let_go(self) -> None:
        self.control.close()
        self._lifeline.close()
        os.close(self._crash)

    def exit_code(self) -> int:
        """Wait for the reaper's end; a signal that ended the zygote is a negative number, as in `subprocess`."""
        try:
            code = self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            logger.error("a generation of functions does not end", extra={"pid": self.process.pid})  # noqa: TRY400
            self.process.kill()
            code = self.process.wait()
        return zygote.SIGNALLED - code if code > zygote.SIGNALLED else code
