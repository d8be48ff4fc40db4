"""What programs print and files hold; None where there is none, or it cannot be seen. For hostfacts.py."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from regular import opened


def output(*command: str, folder: Path | None = None) -> str | None:
    """Return what a program prints, in English and without its last line break; None where it prints nothing."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").rstrip("\n") or None


def items(*command: str) -> list[dict[str, Any]]:
    """Return the JSON list that a program prints; an empty one where it prints something else."""
    try:
        printed = json.loads(output(*command) or "[]")
    except ValueError:
        return []
    return printed if isinstance(printed, list) else []


def text_of(file: Path) -> str | None:
    """Return the text of a file with its line ends as they are; None where it cannot be read or is empty."""
    try:
        return file.read_bytes().decode("utf-8", "replace") or None
    except OSError:
        return None


def note_of(file: Path) -> str | None:
    """Return what a note says, of 1 KiB at most; None where it cannot be read or is empty.

    Others may write in its folder: no link is followed, which could lead to a secret, and no named pipe is waited for.
    """
    try:
        with opened(file) as content:
            return content.read(1024).decode("utf-8", "replace") or None
    except OSError:
        return None


def stat(path: Path) -> os.stat_result | None:
    """Return what is known of a file; None where it does not exist or cannot be seen."""
    try:
        return path.stat()
    except OSError:
        return None


def inode_of(path: Path) -> int | None:
    """Return the number of a file's inode."""
    found = stat(path)
    return None if found is None else found.st_ino


def files_in(place: Path) -> list[Path]:
    """Return the files of a folder; none where it cannot be read."""
    try:
        return sorted(entry for entry in place.iterdir() if entry.is_file())
    except OSError:
        return []
