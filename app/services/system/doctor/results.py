"""The result of a check."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from app.domain.texts import Text


class Status(StrEnum):
    """The severity of a result. Only FAIL makes the exit status 1; WARN may be intended, or could not be checked."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The status that a check found, and what it says, in both languages."""

    status: Status
    message_zh: str
    message_en: str


class NotCheckedError(Exception):
    """A check cannot be made. `text` says why; the fault, if there is one, is another check's."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.text = Text(zh, en)


ok = partial(CheckResult, Status.OK)
warn = partial(CheckResult, Status.WARN)
fail = partial(CheckResult, Status.FAIL)

_MAX_LISTED = 5


def listing(names: Sequence[str]) -> str:
    """Return the first five names, and how many there are in all."""
    more = f", … ({len(names)})" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more
