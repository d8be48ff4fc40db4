"""How often an operator logs in and changes accounts within a day: each time leaves a journal entry that is kept."""

import math
from datetime import datetime, timedelta

from app.domain.codes import EventKind
from app.domain.operators import CONSOLE_ACTOR, MAX_ACCOUNT_CHANGES_PER_DAY, MAX_LOG_INS_PER_DAY, console_actor
from app.domain.texts import RefusedError
from app.services.credentials import LoginThrottledError
from app.storage import journal, log_ins, models

_DAY = timedelta(days=1)
_CHANGES = (EventKind.OPERATOR_ADDED, EventKind.OPERATOR_CHANGED, EventKind.OPERATOR_REMOVED)


class TooManyLogInsError(LoginThrottledError):
    """The operator has logged in `MAX_LOG_INS_PER_DAY` times within a day; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        RefusedError.__init__(
            self,
            f"24 小时内最多登录 {MAX_LOG_INS_PER_DAY} 次：请稍后再试，或在服务器上重设密码（cardctl admin password）",
            f"at most {MAX_LOG_INS_PER_DAY} log-ins within 24 hours: try again later, "
            "or set a new password on the server (cardctl admin password)",
        )


def check_log_ins(operator: models.Operator, now: datetime) -> None:
    """Refuse a log-in beyond `MAX_LOG_INS_PER_DAY`, in the caller's transaction. A new password allows as many again.

    Raises:
        TooManyLogInsError: there were so many already.
    """
    since = max(now - _DAY, operator.created_at, operator.password_changed_at)
    first = log_ins.newest_but(MAX_LOG_INS_PER_DAY - 1, console_actor(operator.name), since)
    if first is not None:
        raise TooManyLogInsError(max(1, math.ceil((first + _DAY - now).total_seconds())))


def check_account_changes(actor: str, now: datetime) -> None:
    """Refuse a change beyond `MAX_ACCOUNT_CHANGES_PER_DAY` that an operator makes in the console.

    Raises:
        RefusedError: this operator has made so many already.
    """
    if not actor.startswith(CONSOLE_ACTOR):
        return
    if journal.count_by(actor, _CHANGES, now - _DAY) >= MAX_ACCOUNT_CHANGES_PER_DAY:
        raise RefusedError(
            f"24 小时内最多修改账号 {MAX_ACCOUNT_CHANGES_PER_DAY} 次；服务器上的 cardctl admin 不受此限",
            f"at most {MAX_ACCOUNT_CHANGES_PER_DAY} changes of accounts within 24 hours; "
            "cardctl admin on the server has no such bound",
        )
