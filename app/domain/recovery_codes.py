"""Recovery codes of two-step verification."""

import re
import unicodedata

from app.domain.cards import CROCKFORD, as_crockford

RECOVERY_CODES = 10
RECOVERY_LENGTH = 20
"""100 random bits: too many to find a code from its SHA-256."""
_GROUP = 5
_MAX_TYPED = 64  # normalising a long text takes long
_CODE = re.compile(f"[{CROCKFORD}]{{{RECOVERY_LENGTH}}}")


def read_recovery_code(typed: str) -> str | None:
    """Read a recovery code as a person types it; return None for anything else.

    White space and dashes are removed, letters become upper case, I and L read as 1, O as 0.
    """
    if len(typed) > _MAX_TYPED:
        return None
    code = as_crockford(unicodedata.normalize("NFKC", typed))
    return code if _CODE.fullmatch(code) else None


def written_recovery_code(code: str) -> str:
    """Return a recovery code in groups, as people read it."""
    return "-".join(code[at : at + _GROUP] for at in range(0, RECOVERY_LENGTH, _GROUP))
