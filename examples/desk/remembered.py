"""Stores the card in the customer's own folder, so that it is typed once. Only the owner can read it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs  # comes with kadun
import shop

# In `~/.config`, `%LOCALAPPDATA%` or `~/Library/Application Support`.
_PATH = platformdirs.user_config_path(shop.PROGRAM, appauthor=False) / "card.txt"


def read() -> str:
    """Return the card, or an empty string if there is none."""
    try:
        return _PATH.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def forget() -> None:
    """Remove the card, for example because it moves to another machine."""
    _PATH.unlink(missing_ok=True)


def write(card: str) -> None:
    """Store the card; OSError if it cannot be written."""
    _PATH.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=_PATH.parent)  # mode 0600 from the start; Windows' folder is private
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(f"{card}\n")
    Path(beside).replace(_PATH)
