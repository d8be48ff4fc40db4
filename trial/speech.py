"""What the trial service tells the person who started it, in Chinese and English."""

import contextlib
import os
import sys


def say(*lines: str) -> None:
    """Prints lines at once. A reader who has gone away (`| head`) is no reason to stop serving."""
    try:
        print(*lines, sep="\n", flush=True)
    except OSError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def step(chinese: str, english: str) -> None:
    """Prints what happens now."""
    say(f"{chinese}  {english}")
