"""The card, kept in the customer's own folder so that it is typed once. No secret, but nobody else's business."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs  # comes with kadun


class RememberedCard:
    """One line in a file that only its owner may read."""

    def __init__(self, program: str) -> None:
        """Choose the file: `~/.config`, `%LOCALAPPDATA%` or `~/Library/Application Support`; nothing is read yet."""
        self.path = platformdirs.user_config_path(program, appauthor=False) / "card.txt"

    def read(self) -> str:
        """The card; empty where there is none that can be read."""
        try:
            return self.path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return ""

    def write(self, card: str) -> None:
        """Keep the card.

        Raises:
            OSError: it cannot be written; then it is asked for next time again.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=self.path.parent)  # mode 0600 from the start; Windows' folder is private
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(f"{card}\n")
        Path(beside).replace(self.path)
