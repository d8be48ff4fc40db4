"""Log-ins to the console and their sessions."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from app.clock import Clock
from app.domain.codes import EventKind
from app.domain.operators import MAX_SESSIONS, console_actor
from app.services.bearer import digest, new_token
from app.services.credentials import Credentials
from app.services.operators import (
    ROW_LOCK,
    LoggedOutError,
    OperatorNotFoundError,
    end_sessions,
    journal_log_outs,
)
from app.services.passwords import PASSWORDS, Passwords
from app.storage import journal
from app.storage.database import Database
from app.storage.models import Operator, OperatorSession
from app.tokens.sealing_key import SealingKey

IDLE = timedelta(hours=12)
LASTS = timedelta(days=7)
_TOUCHED_EVERY = timedelta(minutes=1)


class Sessions:
    """Log-ins and sessions; one object for all threads."""

    def __init__(self, database: Database, clock: Clock, key: SealingKey, passwords: Passwords = PASSWORDS) -> None:
        self._database = database
        self._clock = clock
        self._credentials = Credentials(database, clock, key, passwords)

    def operators_exist(self) -> bool:
        """Return whether there is any operator."""
        return bool(Operator.select().exists())

    def log_in(self, name: str, password: str, code: str | None, address: str) -> str:
        """Begin a session for who has typed these, from the client's `address`; return its token.

        Raises:
            WantsCodeError, LoginRefusedError, LoginThrottledError: as `Credentials.check` says.
            app.services.passwords.LoginBusyError: too many log-ins at this moment.
        """
        token = new_token()

        def begin(operator: Operator) -> None:
            now = self._clock()
            add_session(token, operator.id, now)
            actor = console_actor(operator.name)
            journal.append([journal.Entry(now, EventKind.LOGGED_IN, ip=address, actor=actor)])

        self._credentials.check(name, password, code, address, begin)
        return token

    def confirm(self, identity: Operator, password: str, code: str | None = None, *, address: str) -> None:
        """Check who an operator with a session is, before changes that a stolen session must not make.

        `code` is the second factor's, which is required if the operator has one; None if none was typed.

        Raises:
            WantsCodeError, LoginRefusedError, LoginThrottledError: as `Credentials.check` says.
            app.services.passwords.LoginBusyError: too many log-ins at this moment.
        """
        self._credentials.check(identity.name, password, code, address, lambda _operator: None)

    def identify(self, session_token: str) -> Operator | None:
        """Return the operator of a session, with `has_totp`, without secrets; None if it has ended or never was."""
        now = self._clock()
        is_it = OperatorSession.token_sha256 == digest(session_token)
        has_totp = Operator.totp_secret.is_null(is_null=False).alias("has_totp")
        columns = (Operator.id, Operator.name, Operator.role, Operator.created_at, OperatorSession.last_seen_at)
        with_operator = OperatorSession.select(*columns, has_totp).join(Operator).where(is_it & _holds(now))
        operator: Operator | None = with_operator.objects(Operator).first()
        if operator is not None and now - operator.last_seen_at >= _TOUCHED_EVERY:
            OperatorSession.update(last_seen_at=now).where(is_it).execute()
        return operator

    def end(self, identity: Operator, session_token: str) -> None:
        """End an operator's session, if it has not ended yet."""
        is_it = OperatorSession.token_sha256 == digest(session_token)
        self._end(identity, OperatorSession.delete().where(is_it).execute)

    def end_others(self, identity: Operator, session_token: str) -> None:
        """End all sessions of an operator except this one."""
        self._end(identity, lambda: end_sessions(identity.id, but=session_token))

    def renew(self, identity: Operator, changed_at: datetime) -> str:
        """Begin a session for an operator whose change of password, at that time, has just ended all; return its token.

        Raises:
            OperatorNotFoundError: the operator was removed meanwhile.
            LoggedOutError: the password was changed again meanwhile.
        """
        now, token = self._clock(), new_token()

        with self._database.transact():
            operator = Operator.select().where(Operator.id == identity.id).for_update(ROW_LOCK).first()
            if operator is None:
                raise OperatorNotFoundError(identity.name)
            if operator.password_changed_at != changed_at:
                raise LoggedOutError
            add_session(token, identity.id, now)
        return token

    def others(self, operator_id: int, session_token: str) -> list[OperatorSession]:
        """Return an operator's other valid sessions, the last used first."""
        is_other = (OperatorSession.operator == operator_id) & (OperatorSession.token_sha256 != digest(session_token))
        valid = OperatorSession.select().where(is_other & _holds(self._clock()))
        return list(valid.order_by(OperatorSession.last_seen_at.desc()))

    def _end(self, identity: Operator, end: Callable[[], int]) -> None:
        with self._database.transact():
            journal_log_outs(end(), console_actor(identity.name), self._clock())


def add_session(token: str, operator_id: int, now: datetime) -> None:
    """Begin a session, in the caller's transaction; of more than `MAX_SESSIONS` those end that were unused longest."""
    kept = (
        OperatorSession.select(OperatorSession.token_sha256)
        .where(OperatorSession.operator == operator_id)
        .order_by(OperatorSession.last_seen_at.desc(), OperatorSession.token_sha256)
        .limit(MAX_SESSIONS - 1)
    )
    others = (OperatorSession.operator == operator_id) & OperatorSession.token_sha256.not_in(kept)
    OperatorSession.delete().where(others).execute()
    times = {"created_at": now, "last_seen_at": now, "expires_at": now + LASTS}
    OperatorSession.insert(token_sha256=digest(token), operator=operator_id, **times).execute()


def prune_sessions(now: datetime) -> int:
    """Delete the sessions that are no longer valid; return how many."""
    deleted: int = OperatorSession.delete().where(~_holds(now)).execute()
    return deleted


def _holds(now: datetime) -> Any:  # noqa: ANN401  # a peewee expression
    return (OperatorSession.expires_at > now) & (OperatorSession.last_seen_at > now - IDLE)
