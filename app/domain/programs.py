"""The vendor's programs (protocol, section 2): each has its own cards, terms, data key, files and functions."""

import re

from app.domain.texts import RefusedError, check_text

MAIN = "main"
"""The program of all that names none; it always exists."""
PROGRAM_PATTERN = r"^[a-z0-9][a-z0-9-]{0,31}\Z"


def issuer_of(issuer: str, program: str) -> str:
    """Return the claim `iss` of verdicts on a program's cards, where `issuer` is the server's configured name.

    Every client pins it, so that none believes a verdict on another program.
    """
    return issuer if program == MAIN else f"{issuer}/{program}"


def named(program: str) -> dict[str, str]:
    """Return what the journal names a program by: without a second one, entries are as they were before."""
    return {} if program == MAIN else {"program": program}


def check_program(program: str, name: str) -> None:
    """Refuse an ID or a name that no program can have."""
    if re.match(PROGRAM_PATTERN, program) is None:
        raise RefusedError(
            "程序 ID 须为 1 到 32 个小写字母、数字或连字符，且不以连字符开头",
            "a program's ID is 1 to 32 small letters, digits and hyphens, and does not begin with a hyphen",
        )
    check_text("name", name)
