"""The programs that the trial starts, and the signals that end it. Standard library only."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from trial.messages import TrialError, tail

_STOP_SECONDS = 20


class Child:
    """A program in a session of its own, so that Ctrl-C reaches it through `stop` only.

    It gets SIGINT when the process that started it is killed (where there is `setpriv`).

    Args:
        command: The program and its arguments.
        environ: Its whole environment.
        log: The file that its output is added to.
        ending: The signal that `stop` sends first.
        options: More arguments of Popen.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        ending: signal.Signals,
        **options: Any,  # noqa: ANN401  # Popen's
    ) -> None:
        self._command = command
        self._environ = environ
        self._log = log
        self._ending = ending
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """Its number while it runs, otherwise None."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def start(self) -> None:
        """Start it without waiting for anything.

        Raises:
            OSError: It cannot be started.
        """
        setpriv = shutil.which("setpriv")
        tied = (setpriv, "--pdeathsig", "INT") if setpriv else ()
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [*tied, *self._command],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._options,
            )

    def stop(self) -> None:
        """Ask it to end; kill it and its process group when it does not. Nothing happens when it was never started."""
        if self._process is None:
            return
        self._process.send_signal(self._ending)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):  # a program that died leaves its group behind
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def failure(self, chinese: str, english: str) -> TrialError:
        """Return an error that shows the end of what it has logged since its last start."""
        logged = self._log.read_bytes()[self._log_start :]
        detail = tail(logged.decode("utf-8", errors="replace"))
        return TrialError(f"{chinese}，日志：{self._log}。", f"{english}; its log: {self._log}.", detail=detail)


def interrupt_on_signals() -> None:
    """Make the first SIGINT, SIGTERM or SIGHUP a KeyboardInterrupt; later ones do not disturb the ending."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup means it
        numbers.append(signal.SIGHUP)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)
