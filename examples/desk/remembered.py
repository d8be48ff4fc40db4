"""Stores the card in the customer's own folder, so that it is typed once. Only the owner can read it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs  # comes with kadun


class RememberedCard:
    """One line in a file that only its owner can read."""

    def __init__(self, program: str) -> None:
        """Determine the path, in `~/.config`, `%LOCALAPPDATA%` or `~/Library/Application Support`; read nothing yet."""
        self.path = platformdirs.user_config_path(program, appauthor=False) / "card.txt"

    def read(self) -> str:
        """Return the card, or an empty string if there is none."""
        try:
            return self.path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return ""

    def forget(self) -> None:
        """Remove the card, for example because it moves to another machine."""
        self.path.unlink(missing_ok=True)

    def write(self, card: str) -> None:
        """Store the card.

        Raises:
            OSError: it cannot be written; the customer has to type it again next time.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=self.path.parent)  # mode 0600 from the start; Windows' folder is private
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"{card}\n")
        Path(beside).replace(self.path)
