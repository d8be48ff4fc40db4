"""Operators' rows: what accounts, sessions and two-step verification do with them in a transaction of their own."""

from datetime import datetime

from app.domain.codes import EventKind
from app.domain.operators import Role
from app.domain.texts import RefusedError
from app.services.bearer import digest
from app.services.formatting import escaped
from app.storage import journal
from app.storage.models import Operator, OperatorSession, RecoveryCode

# Not FOR UPDATE: a long import or issue holds its operator's row by a foreign key, and log-ins must not wait for it.
# Removing the row waits nevertheless.
ROW_LOCK = "FOR NO KEY UPDATE"


class OperatorNotFoundError(RefusedError):
    """There is no operator of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"没有名为 {escaped(name)} 的管理员", f"there is no operator {escaped(name)}")


class LoggedOutError(RefusedError):
    """The session in which operators change their own account has ended meanwhile."""

    def __init__(self) -> None:
        super().__init__("您已被退出登录，未作改动：请重新登录", "you were logged out meanwhile: log in again")


def locked(name: str, session_token: str | None = None) -> Operator:
    """Lock an operator and return the row; with a `session_token`, that session must not have ended.

    Raises:
        OperatorNotFoundError: there is no such operator.
        LoggedOutError: the session has ended.
    """
    # PostgreSQL refuses a NUL; no name has unprintable characters.
    named = Operator.select().where(Operator.name == name).for_update(ROW_LOCK)
    operator: Operator | None = named.first() if name.isprintable() else None
    if operator is None:
        raise OperatorNotFoundError(name)
    if session_token and OperatorSession.get_or_none(OperatorSession.token_sha256 == digest(session_token)) is None:
        raise LoggedOutError
    return operator


def lock_owners() -> list[str]:
    """Lock the owners; return their names."""
    owners = Operator.select(Operator.name).where(Operator.role == Role.OWNER.value).order_by(Operator.id)
    return [row.name for row in owners.for_update(ROW_LOCK)]


def set_columns(operator: Operator, **values: object) -> None:
    """Set columns of an operator's row."""
    Operator.update(**values).where(Operator.id == operator.id).execute()


def remove_second_factor(operator: Operator) -> bool:
    """Require no codes of an operator any more; return whether they were required."""
    set_columns(operator, totp_secret=None, totp_last_step=None)
    RecoveryCode.delete().where(RecoveryCode.operator == operator.id).execute()
    return operator.totp_secret is not None


def end_sessions(operator_id: int, *, but: str = "") -> int:
    """End an operator's sessions, but the one with this token; return how many."""
    others = (OperatorSession.operator == operator_id) & (OperatorSession.token_sha256 != digest(but))
    ended: int = OperatorSession.delete().where(others).execute()
    return ended


def journal_log_outs(ended: int, actor: str, now: datetime) -> None:
    """Write into the journal, within the caller's transaction, that `actor` ended so many sessions, if any."""
    if ended:
        journal.append([journal.Entry(now, EventKind.LOGGED_OUT, actor=actor, details={"sessions": ended})])
