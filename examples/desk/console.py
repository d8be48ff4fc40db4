"""The customer's console: texts in the chosen language, questions, and complaints."""

from __future__ import annotations

import sys

from texts import TEXTS

YES = ("是", "yes", "y")
_ALSO = "\n\u00a0\u3000\u200d"  # line feeds, spaces as vendors type them, and what joins emoji


class Console:
    """Prints texts by their names."""

    def __init__(self, language: str) -> None:
        """Set the language, `zh` or `en`."""
        self._texts = TEXTS[language]

    def text(self, name: str, **values: object) -> str:
        """Return a text with its values."""
        return self._texts[name].format(**values)

    def say(self, name: str, **values: object) -> None:
        """Print a text."""
        print(self.text(name, **values), flush=True)

    def complain(self, name: str, message: object) -> None:
        """Print a text about a failure."""
        print(self.text(name, message=message), file=sys.stderr, flush=True)

    def ask(self, name: str, **values: object) -> str:
        """Read a line; it is empty if the customer typed nothing, or left."""
        print(self.text(name, **values), end="", flush=True)
        return sys.stdin.readline().strip()

    def confirmed(self, name: str, **values: object) -> bool:
        """Ask before something that cannot be undone."""
        return self.ask(name, **values).lower() in YES


def shown(text: str) -> str:
    """Return the vendor's text for a terminal: without control and bidirectional characters other than line feeds."""
    return "".join(character if character.isprintable() or character in _ALSO else "?" for character in text)
