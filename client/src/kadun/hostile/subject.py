"""The client under test: a command, or this package itself."""

from __future__ import annotations

import contextlib
import io
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from kadun.hostile import adapter

if TYPE_CHECKING:
    from collections.abc import Sequence

OPENED, REJECTED = adapter.OPENED, adapter.REJECTED
CRASHED = -1
_LONGEST_NOTE = 160


@dataclass(frozen=True)
class Settings:
    """What a client is told; each is also an environment variable, `KADUN_` before its name in upper case."""

    url: str
    keys: str
    card: str
    function: str
    hardware: str
    core: str
    state: str
    timeout_seconds: float

    def environment(self) -> dict[str, str]:
        """As variables."""
        return {f"KADUN_{name.upper()}": str(value) for name, value in vars(self).items()}

    def fill(self, argument: str) -> str:
        """Put the values into an argument's `{url}`, `{keys}` and so on; other braces stay."""
        for name, value in vars(self).items():
            argument = argument.replace(f"{{{name}}}", str(value))
        return argument


@dataclass(frozen=True)
class Finished:
    """How a client ended; `status` is None when it had to be ended, and negative when it crashed."""

    status: int | None
    output: bytes
    note: str = ""


Subject = Callable[[Settings, float], Finished]


class CommandError(Exception):
    """The command cannot be started."""


class Command:
    """A program, started anew for each scenario."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments

    def __call__(self, settings: Settings, limit_seconds: float) -> Finished:
        """Run it, and end it and its children after the limit.

        Raises:
            CommandError: there is no such program.
        """
        environment = {**os.environ, **settings.environment(), "NO_PROXY": "*", "no_proxy": "*"}
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaints:
            try:
                process = subprocess.Popen(
                    [settings.fill(argument) for argument in self._arguments],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=complaints,
                    start_new_session=os.name == "posix",
                )
            except OSError as failure:
                raise CommandError(f"{self._arguments[0]}: {failure.strerror}") from None
            status: int | None = None
            with process:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = process.wait(limit_seconds)
                if status is None:
                    _end(process)
            output.seek(0)
            complaints.seek(0)
            return Finished(status, output.read(), _last_line(complaints.read()))


def _end(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _last_line(raw: bytes) -> str:
    lines = raw.decode("utf-8", "replace").strip().splitlines()
    shown = lines[-1][:_LONGEST_NOTE] if lines else ""
    return "".join(character if character.isprintable() else "?" for character in shown)


def this_package(settings: Settings, limit_seconds: float) -> Finished:
    """Our own client, in this process: a start of Python for each scenario would take minutes."""

    def work() -> Finished:
        output, complaints = io.BytesIO(), io.StringIO()
        try:
            status = adapter.run(settings.environment(), output, complaints)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is what there is to report
            return Finished(CRASHED, output.getvalue(), repr(failure))
        return Finished(status, output.getvalue(), _last_line(complaints.getvalue().encode()))

    return bounded(work, limit_seconds)


def bounded(work: Callable[[], Finished], limit_seconds: float) -> Finished:
    """What `work` makes of it, or the report that it hangs; it then goes on, on a thread that nobody waits for."""
    outcome: queue.Queue[Finished] = queue.Queue(maxsize=1)
    threading.Thread(target=lambda: outcome.put(work()), daemon=True).start()
    try:
        return outcome.get(timeout=limit_seconds)
    except queue.Empty:
        return Finished(None, b"")
