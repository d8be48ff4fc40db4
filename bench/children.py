"""Programs that run for a while and end, in bounded time, whatever happens meanwhile."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence

from bench.errors import BenchError
from trial.errors import tail


def tied() -> list[str]:
    """Return what goes before a program's name for it to end should we be killed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def run(command: Sequence[str], *, environ: Mapping[str, str], seconds: float, text: str = "") -> str:
    """Return what a program printed; `text` is its standard input.

    Raises:
        BenchError: it failed, or had not ended after `seconds`.
    """
    with subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches it through us alone
    ) as process:
        try:
            printed, errors = process.communicate(text, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{command[0]} had not ended after {seconds:.0f} s") from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        said = tail(errors or printed, lines=1) or "no word"
        raise BenchError(f"{command[0]} failed with status {process.returncode}: {said}")
    return printed
