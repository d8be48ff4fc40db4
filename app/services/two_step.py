"""Two-step verification: codes of an authenticator app (RFC 6238: SHA-1, six digits, 30 s), and recovery codes.

A recovery code stands once for the app's, when the phone is lost. It is 100 random bits, so that its SHA-256 can be
stored in its place: a copy of the database yields no codes.
"""

import logging
import re
import secrets
import unicodedata
from datetime import datetime

import pyotp

from app.domain.cards import CROCKFORD
from app.domain.recovery_codes import RECOVERY_CODES, RECOVERY_LENGTH, read_recovery_code, written_recovery_code
from app.domain.texts import RefusedError
from app.services.bearer import digest
from app.storage import models, operators
from app.tokens.sealing_key import SealingKey, SealingKeyError

_MAX_LENGTH = 16  # six digits as people type them; normalising a long text takes long
_WINDOW = 1  # steps to either side, for phones' clocks
_SECRET = re.compile("[A-Z2-7]{32}")
_CODE = re.compile("[0-9]{6}")
logger = logging.getLogger(__name__)


def new_secret() -> str:
    """Return 160 random bits in base32."""
    return pyotp.random_base32()


def is_secret(text: str) -> bool:
    """Return whether this has the form of a secret from `new_secret`."""
    return _SECRET.fullmatch(text) is not None


def step_of(secret: str, code: str, now: datetime) -> int | None:
    """Return the time step of a code, None if the code is wrong, too old or too new."""
    if len(code) > _MAX_LENGTH:
        return None
    # A Chinese keyboard may type full-width digits, and apps show a code in two halves.
    typed = "".join(unicodedata.normalize("NFKC", code).split())
    if not _CODE.fullmatch(typed):
        return None
    try:
        return pyotp.TOTP(secret).verify_and_get_timecode(typed, for_time=now, valid_window=_WINDOW)
    except pyotp.OTPVerificationError:
        return None


def step_for(operator: models.Operator, code: str, now: datetime, key: SealingKey) -> int | None:
    """Return the time step of an operator's code, None if it is wrong or the operator's secret does not open."""
    try:
        return step_of(key.open("operator", operator.id, operator.totp_secret), code, now)
    except SealingKeyError as error:
        logger.error("a second factor does not open: see cardctl doctor", extra={"reason": str(error)})  # noqa: TRY400
        return None


def enable(operator: models.Operator, secret: str, code: str, now: datetime, key: SealingKey) -> tuple[str, ...]:
    """Require codes of an operator from now on, within a transaction that holds the operator's row.

    `key` seals the secret.

    Returns:
        The recovery codes, for the only time.

    Raises:
        RefusedError: the code is wrong, the secret not one of `new_secret`, or codes are required already.
    """
    if operator.totp_secret is not None:
        raise RefusedError("已启用两步验证", "two-step verification is enabled already")
    step = step_of(secret, code, now) if is_secret(secret) else None
    if step is None:
        raise RefusedError(
            "验证码不正确：请检查手机时间，并输入最新的验证码",
            "wrong code: check the phone's clock, and enter the latest code",
        )
    operators.change(operator.id, totp_secret=key.seal("operator", operator.id, secret), totp_last_step=step)
    return renew_recovery_codes(operator.id)


def disable(operator: models.Operator) -> bool:
    """Require no codes any more, within such a transaction; return whether they were required."""
    was_required = operator.totp_secret is not None
    operators.change(operator.id, totp_secret=None, totp_last_step=None)
    operators.replace_recovery_codes(operator.id, ())
    return was_required


def renew_recovery_codes(operator_id: int) -> tuple[str, ...]:
    """Replace an operator's codes by new ones, within the caller's transaction; return them, for the only time."""
    codes = ["".join(secrets.choice(CROCKFORD) for _ in range(RECOVERY_LENGTH)) for _ in range(RECOVERY_CODES)]
    operators.replace_recovery_codes(operator_id, map(digest, codes))
    return tuple(map(written_recovery_code, codes))


def take_recovery_code(operator_id: int, typed: str) -> int | None:
    """Use a code up, within the caller's transaction; return how many are left, None if it is no unused code."""
    code = read_recovery_code(typed)
    if code is None or not operators.take_recovery_code(operator_id, digest(code)):
        return None
    return operators.count_recovery_codes(operator_id)
