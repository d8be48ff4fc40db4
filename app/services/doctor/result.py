"""One line of the doctor's report."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """WARN is worth a look and may be meant so, or could not be checked; only FAIL makes the exit status 1."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found, in both languages."""

    check: str
    status: Status
    message_zh: str
    message_en: str


def ok(check: str, zh: str, en: str) -> CheckResult:
    """Return a result that all is well."""
    return CheckResult(check, Status.OK, zh, en)


def warn(check: str, zh: str, en: str) -> CheckResult:
    """Return a result that somebody should look at."""
    return CheckResult(check, Status.WARN, zh, en)


def fail(check: str, zh: str, en: str) -> CheckResult:
    """Return a result that something is wrong."""
    return CheckResult(check, Status.FAIL, zh, en)


def unchecked(check: str, zh: str, en: str) -> CheckResult:
    """Return a result that a check could not be made, and why: the fault is another line's, or only unseen."""
    return CheckResult(check, Status.WARN, f"无法检查：{zh}", f"Not checked: {en}")
