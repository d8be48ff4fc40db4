"""Messages for the person who started the trial, in Chinese and English."""

import contextlib
import os
import sys


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
