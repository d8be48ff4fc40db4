"""What the trial tells the person who started it, in Chinese and English. Standard library only."""

import contextlib
import os
import sys


class TrialError(Exception):
    """A refusal or failure for a person to read: one line in Chinese and English, perhaps a log's tail."""

    def __init__(self, chinese: str, english: str, *, detail: str = "") -> None:
        super().__init__(f"{chinese} {english}")
        self.detail = detail


def tail(text: str, lines: int = 20) -> str:
    """Return the last `lines` lines of `text` that are not blank."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def fail(program: str, error: TrialError) -> int:
    """Print an error as `program`; return the exit status."""
    if error.detail:
        print(error.detail, file=sys.stderr)
    print(f"{program}: {error}", file=sys.stderr)
    return 1


def say(*lines: str) -> None:
    """Print lines at once; go on serving when the reader has gone away (`| head`)."""
    try:
        print(*lines, sep="\n", flush=True)
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def step(chinese: str, english: str) -> None:
    """Print what the trial does now."""
    say(f"{chinese}  {english}")
