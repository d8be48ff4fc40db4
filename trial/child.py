"""A program of ours as a child process, and what a killed trial left of it. Standard library only."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from trial.environment import CHECKOUT, Trial, write_secret
from trial.errors import TrialError, tail
from trial.processes import start_time

_STOP_SECONDS = 20
_POLL_SECONDS = 0.1


class Child:
    """A program in a process group of its own: Ctrl-C reaches it through `stop` only.

    Args:
        trial: Whose child it is.
        name: The name of its log and of the file that keeps its number.
        command: What to run.
        environ: All that it is told.
        ending: The signal that ends it gently.
    """

    def __init__(
        self, trial: Trial, name: str, command: Sequence[str], environ: dict[str, str], ending: signal.Signals
    ) -> None:
        self._trial = trial
        self._name = name
        self._command = command
        self._environ = environ
        self._ending = ending
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What it writes."""
        return self._trial.logs / f"{self._name}.log"

    @property
    def has_ended(self) -> bool:
        """Whether it does not run, or no longer."""
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        """Starts it and does not wait."""
        # Should this process be killed, the child ends too.
        setpriv = shutil.which("setpriv")
        tied = (setpriv, "--pdeathsig", self._ending.name.removeprefix("SIG")) if setpriv else ()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*tied, *self._command],
                env=self._environ,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        pid = self._process.pid
        write_secret(_pid_file(self._trial, self._name), f"{pid} {start_time(pid)}")

    def stop(self) -> None:
        """Ends it, at first gently, with all of its process group; nothing happens when it was never started."""
        if self._process is None:
            return
        self._process.send_signal(self._ending)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):  # whom a program that died leaves behind
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        _pid_file(self._trial, self._name).unlink(missing_ok=True)

    def failure(self, chinese: str, english: str) -> TrialError:
        """Returns an error that shows the end of the log."""
        detail = tail(self.log.read_text(encoding="utf-8", errors="replace"))
        return TrialError(f"{chinese}，日志：{self.log}。", f"{english}; its log: {self.log}.", detail=detail)


def leftover(trial: Trial, name: str) -> int | None:
    """Returns the process of the child `name` that a killed trial left behind, or None."""
    try:
        pid, started = _pid_file(trial, name).read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if start_time(int(pid)) == started else None


def end_leftover(trial: Trial, name: str) -> None:
    """Ends the child `name` that a killed trial left behind."""
    for mortal in (signal.SIGTERM, signal.SIGKILL):
        if (pid := leftover(trial, name)) is None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, mortal)
        deadline = time.monotonic() + _STOP_SECONDS
        while leftover(trial, name) is not None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    _pid_file(trial, name).unlink(missing_ok=True)


def _pid_file(trial: Trial, name: str) -> Path:
    return trial.data_dir / f"{name}.pid"
