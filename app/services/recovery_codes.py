"""Recovery codes: each stands once for the code of an authenticator app, when the phone is lost.

A code is 100 random bits, so that its SHA-256 is all that has to be stored: a copy of the database yields no codes.
"""

import secrets

from app.domain.cards import CROCKFORD
from app.domain.log_ins import RECOVERY_CODES, RECOVERY_LENGTH, read_recovery_code, written_recovery_code
from app.services.bearer import digest
from app.storage import recovery_codes


def renew(operator_id: int) -> tuple[str, ...]:
    """Replace an operator's codes by new ones, within the caller's transaction; return them, for the only time."""
    codes = ["".join(secrets.choice(CROCKFORD) for _ in range(RECOVERY_LENGTH)) for _ in range(RECOVERY_CODES)]
    recovery_codes.replace(operator_id, map(digest, codes))
    return tuple(map(written_recovery_code, codes))


def take(operator_id: int, typed: str) -> int | None:
    """Use a code up, within the caller's transaction; return how many are left, None if it is no unused code."""
    code = read_recovery_code(typed)
    if code is None or not recovery_codes.take(operator_id, digest(code)):
        return None
    return recovery_codes.count(operator_id)
