"""Two-step verification: codes of an authenticator app (RFC 6238: SHA-1, six digits, 30 s)."""

import logging
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime

import pyotp

from app.domain.texts import RefusedError
from app.services.operators import operators as accounts
from app.storage.models import Operator
from app.tokens.sealing_key import SealingKey, SealingKeyError

_MAX_LENGTH = 16  # six digits as people type them; normalising a long text takes long
_WINDOW = 1  # steps to either side, for phones' clocks
_SECRET = re.compile("[A-Z2-7]{32}")
_CODE = re.compile("[0-9]{6}")
logger = logging.getLogger(__name__)


def is_secret(text: str) -> bool:
    """Return whether this has the form of a secret: 160 random bits in base32."""
    return _SECRET.fullmatch(text) is not None


def step_of(secret: str, code: str, now: datetime) -> int | None:
    """Return the time step of a code, None if the code is wrong, too old or too new."""
    # A Chinese keyboard may type full-width digits, and apps show a code in two halves.
    typed = "".join(unicodedata.normalize("NFKC", code).split()) if len(code) <= _MAX_LENGTH else ""
    if not _CODE.fullmatch(typed):
        return None
    try:
        return pyotp.TOTP(secret).verify_and_get_timecode(typed, for_time=now, valid_window=_WINDOW)
    except pyotp.OTPVerificationError:
        return None


def step_for(operator: accounts.Account, code: str, now: datetime, key: SealingKey) -> int | None:
    """Return the time step of an operator's code, None if it is wrong or the operator's secret does not open."""
    try:
        return step_of(key.open("operator", operator.id, operator.totp_secret), code, now)
    except SealingKeyError as error:
        logger.error("a second factor does not open: see cardctl doctor", extra={"reason": str(error)})  # noqa: TRY400
        return None


@dataclass(frozen=True, slots=True)
class TwoStep:
    """Two-step verification of `operators`, whose errors it raises; `key` seals the secrets."""

    operators: accounts.Operators
    key: SealingKey

    def enable(self, name: str, secret: str, code: str, session_token: str) -> None:
        """Require codes at log-in from now on, after a first code has shown that the app has the secret.

        All sessions end but the one of `session_token`: they began without a code. Raise RefusedError if the code is
        wrong, the secret malformed, or codes are required already.
        """
        with self.operators.changing(name, session_token) as (operator, now, details):
            if operator.totp_secret is not None:
                raise RefusedError("已启用两步验证", "two-step verification is enabled already")
            step = step_of(secret, code, now) if is_secret(secret) else None
            if step is None:
                raise RefusedError(
                    "验证码不正确：请检查手机时间，并输入最新的验证码",
                    "wrong code: check the phone's clock, and enter the latest code",
                )
            sealed = self.key.seal("operator", operator.id, secret)
            Operator.set_by_id(operator.id, {"totp_secret": sealed, "totp_last_step": step})
            accounts.journal_log_outs(accounts.end_sessions(operator.id, but=session_token), self.operators.actor, now)
            details["totp"] = True

    def disable(self, name: str, *, log_out: bool = False, session_token: str | None = None) -> None:
        """Require no codes any more; `log_out`: end the operator's sessions, too."""
        with self.operators.changing(name, session_token) as (operator, _now, details):
            if log_out:
                accounts.end_sessions(operator.id)
            if accounts.remove_second_factor(operator):
                details["totp"] = False
