"""The second factor: codes of an authenticator app (RFC 6238: SHA-1, six digits, 30 seconds)."""

import re
import unicodedata
from datetime import datetime

import pyotp

_LONGEST = 16  # six digits as people type them; normalising much more would take long
_WINDOW = 1  # steps to either side: phones' clocks are off
_SECRET = re.compile("[A-Z2-7]{32}")
_CODE = re.compile("[0-9]{6}")


def new_secret() -> str:
    """Return 160 random bits in base32."""
    return pyotp.random_base32()


def is_secret(text: str) -> bool:
    """Tell whether this can have come from `new_secret`."""
    return _SECRET.fullmatch(text) is not None


def step_of(secret: str, code: str, now: datetime) -> int | None:
    """Return the number of the 30 seconds that a code belongs to, or None when it is wrong (or too old, or too new)."""
    if len(code) > _LONGEST:
        return None
    # A Chinese keyboard may type full-width digits, and apps show the code in two halves.
    typed = "".join(unicodedata.normalize("NFKC", code).split())
    if not _CODE.fullmatch(typed):
        return None
    try:
        return pyotp.TOTP(secret).verify_and_get_timecode(typed, for_time=now, valid_window=_WINDOW)
    except pyotp.OTPVerificationError:
        return None
