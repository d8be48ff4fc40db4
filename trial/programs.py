"""The programs that the trial runs, and what it tells the person who started it. Standard library only."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_STOP_SECONDS = 20


class TrialError(Exception):
    """A refusal or failure for a person to read: one line in Chinese and English, perhaps a log's tail before it."""

    def __init__(self, chinese: str, english: str, *, detail: str = "") -> None:
        super().__init__(f"{chinese} {english}")
        self.detail = detail


def say(*lines: str) -> None:
    """Print lines at once."""
    print(*lines, sep="\n", flush=True)


def tail(text: str, lines: int = 20) -> str:
    """Return the last `lines` lines of `text` that are not blank."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def run(command: Sequence[str], failure: tuple[str, str], **options: Any) -> str:  # noqa: ANN401  # Popen's
    """Run a program to its end; return what it printed."""
    try:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True,
            encoding="utf-8", errors="replace", **options,
        )  # fmt: skip
    except OSError as error:
        raise TrialError(*failure, detail=str(error)) from error
    if done.returncode:
        raise TrialError(*failure, detail=tail(done.stderr or done.stdout))
    return str(done.stdout)


class Child:
    """A program in a session of its own, so that Ctrl-C reaches it through `stop` only.

    It gets SIGINT when the process that started it is killed. `environ` is its whole environment, `log` the file of its
    output, which each start begins anew, `ending` the signal that `stop` sends first.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        ending: signal.Signals,
        **options: Any,  # noqa: ANN401  # Popen's
    ) -> None:
        self._command = ["setpriv", "--pdeathsig", "INT", *command]
        self._log = log
        self._ending = ending
        self._options = {"env": environ, "start_new_session": True, **options}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its number while it runs, otherwise None."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def start(self) -> None:
        """Start it without waiting for anything."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **self._options
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
        """Return an error that names the program, by its log, and shows the end of that."""
        name, detail = self._log.stem, tail(self._log.read_text("utf-8", errors="replace"))
        return TrialError(f"{name} {chinese}：{self._log}。", f"{name} {english}: see {self._log}.", detail=detail)


def interrupt_on_signals() -> None:
    """Make SIGTERM and SIGHUP a KeyboardInterrupt, as Ctrl-C is."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell's `&` has it ignored
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup means it
        signal.signal(signal.SIGHUP, signal.default_int_handler)
