"""Errors that stop the trial, in one line that says what to do."""


class TrialError(Exception):
    """A refusal or failure for a person to read: one line in Chinese and English, perhaps a log's tail."""

    def __init__(self, chinese: str, english: str, *, detail: str = "") -> None:
        super().__init__(f"{chinese} {english}")
        self.detail = detail


def tail(text: str, lines: int = 20) -> str:
    """Return the last `lines` lines of `text` that are not blank."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])
