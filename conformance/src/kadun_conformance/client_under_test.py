"""The client under test: a command, or the Python SDK in this process."""

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

if TYPE_CHECKING:
    from collections.abc import Sequence

OPENED, REJECTED = 0, 3  # exit statuses
CRASHED = -1
_LONGEST_NOTE = 160


@dataclass(frozen=True)
class Settings:
    """What a client is told; each is also an environment variable: `KADUN_` and its name in upper case."""

    url: str
    keys: str
    card: str
    function: str
    hardware: str
    core: str
    state: str
    timeout_seconds: float

    def environment(self) -> dict[str, str]:
        """Return the environment variables."""
        return {f"KADUN_{name.upper()}": str(value) for name, value in vars(self).items()}

    def fill(self, argument: str) -> str:
        """Replace `{url}`, `{keys}` and so on in an argument; other braces stay."""
        for name, value in vars(self).items():
            argument = argument.replace(f"{{{name}}}", str(value))
        return argument


@dataclass(frozen=True)
class Finished:
    """How a client ended; `status` is None if it had to be killed, and negative if it crashed."""

    status: int | None
    output: bytes
    note: str = ""


ClientUnderTest = Callable[[Settings, float], Finished]


class CommandError(Exception):
    """The command cannot be started."""


class Command:
    """A program, started anew for each case."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments

    def __call__(self, settings: Settings, limit_seconds: float) -> Finished:
        """Run it; after the limit, kill it and its children.

        Raises:
            CommandError: the program does not exist or is not executable.
        """
        environment = {**os.environ, **settings.environment(), "NO_PROXY": "*", "no_proxy": "*"}
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    [settings.fill(argument) for argument in self._arguments],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    start_new_session=os.name == "posix",
                )
            except OSError as failure:
                raise CommandError(f"{self._arguments[0]}: {failure.strerror}") from None
            status: int | None = None
            with process:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = process.wait(limit_seconds)
                if status is None:
                    _kill(process)
            output.seek(0)
            errors.seek(0)
            return Finished(status, output.read(), _last_line(errors.read()))


def _kill(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _last_line(raw: bytes) -> str:
    lines = raw.decode("utf-8", "replace").strip().splitlines()
    shown = lines[-1][:_LONGEST_NOTE] if lines else ""
    return "".join(character if character.isprintable() else "?" for character in shown)


def python_sdk() -> ClientUnderTest:
    """Return the Python SDK, run in this process: starting Python for each case would take minutes.

    Raises:
        CommandError: the SDK is not installed.
    """
    try:
        from kadun_conformance import adapter  # noqa: PLC0415 - the kit itself works without the SDK
    except ModuleNotFoundError as missing:
        raise CommandError(f"no COMMAND given, and the Python SDK is not installed ({missing})") from None

    def run(settings: Settings, limit_seconds: float) -> Finished:
        def work() -> Finished:
            output, errors = io.BytesIO(), io.StringIO()
            try:
                status = adapter.run(settings.environment(), output, errors)
            except Exception as failure:  # noqa: BLE001 - any exception is a crash of the client, and is reported
                return Finished(CRASHED, output.getvalue(), repr(failure))
            return Finished(status, output.getvalue(), _last_line(errors.getvalue().encode()))

        return with_limit(work, limit_seconds)

    return run


def with_limit(work: Callable[[], Finished], limit_seconds: float) -> Finished:
    """Return the result of `work`, or a hung client after the limit; its daemon thread then continues unobserved."""
    outcome: queue.Queue[Finished] = queue.Queue(maxsize=1)
    threading.Thread(target=lambda: outcome.put(work()), daemon=True).start()
    try:
        return outcome.get(timeout=limit_seconds)
    except queue.Empty:
        return Finished(None, b"")
