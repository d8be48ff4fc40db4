"""Log-ins to the console and their sessions."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from app.clock import Clock
from app.domain.codes import EventKind
from app.domain.operators import Role, console_actor
from app.services.bearer import digest, new_token
from app.services.credentials import Credentials
from app.services.operators import LoggedOutError, OperatorNotFoundError, journal_log_outs
from app.services.passwords import PASSWORDS, Passwords
from app.storage import journal, models
from app.storage import operators as rows
from app.storage.database import Database
from app.tokens.sealing_key import SealingKey

IDLE = timedelta(hours=12)
LASTS = timedelta(days=7)
_TOUCHED_EVERY = timedelta(minutes=1)


class Identity(NamedTuple):
    """An operator who is logged in. Journal entries before `created_at` are of a former operator of that name."""

    id: int
    name: str
    role: Role
    has_totp: bool
    created_at: datetime


class Sessions:
    """Log-ins and sessions; one object for all threads."""

    def __init__(self, database: Database, clock: Clock, key: SealingKey, passwords: Passwords = PASSWORDS) -> None:
        self._database = database
        self._clock = clock
        self._credentials = Credentials(database, clock, key, passwords)

    def operators_exist(self) -> bool:
        """Return whether there is any operator."""
        return self._database.with_connection(rows.any_exist)

    def log_in(self, name: str, password: str, code: str | None, address: str) -> str:
        """Begin a session; return its token.

        Args:
            name: As typed.
            password: As typed.
            code: The second factor's, None if none was typed.
            address: The client's.

        Raises:
            WantsCodeError, LoginRefusedError, LoginThrottledError: as `Credentials.check` says.
            app.services.passwords.LoginBusyError: too many log-ins at this moment.
        """
        token = new_token()

        def begin(operator: models.Operator) -> None:
            now = self._clock()
            rows.add_session(digest(token), operator.id, now, now + LASTS)
            actor = console_actor(operator.name)
            journal.append([journal.Entry(now, EventKind.LOGGED_IN, ip=address, actor=actor)])

        self._credentials.check(name, password, code, address, begin)
        return token

    def confirm(self, identity: Identity, password: str, code: str | None = None, *, address: str) -> None:
        """Check who an operator with a session is, before changes that a stolen session must not make.

        Args:
            identity: The session's operator.
            password: As typed.
            code: The second factor's, which is required if the operator has one; None if none was typed.
            address: The client's.

        Raises:
            WantsCodeError, LoginRefusedError, LoginThrottledError: as `Credentials.check` says.
            app.services.passwords.LoginBusyError: too many log-ins at this moment.
        """
        self._credentials.check(identity.name, password, code, address, lambda _operator: None)

    def identify(self, session_token: str) -> Identity | None:
        """Return the operator of a session, None if it has ended or never was."""
        return self._database.with_connection(lambda: self._identified(digest(session_token)))

    def end(self, identity: Identity, session_token: str) -> None:
        """End an operator's session, if it has not ended yet."""
        self._end(identity, lambda: rows.end_session(digest(session_token)))

    def end_others(self, identity: Identity, session_token: str) -> None:
        """End all sessions of an operator except this one."""
        self._end(identity, lambda: rows.end_sessions(identity.id, but=digest(session_token)))

    def renew(self, identity: Identity, changed_at: datetime) -> str:
        """Begin a session for an operator whose change of password, at that time, has just ended all; return its token.

        Raises:
            OperatorNotFoundError: the operator was removed meanwhile.
            LoggedOutError: the password was changed again meanwhile.
        """
        now, token = self._clock(), new_token()

        with self._database.transact():
            operator = rows.lock_by_id(identity.id)
            if operator is None:
                raise OperatorNotFoundError(identity.name)
            if operator.password_changed_at != changed_at:
                raise LoggedOutError
            rows.add_session(digest(token), identity.id, now, now + LASTS)
        return token

    def others(self, operator_id: int, session_token: str) -> list[models.OperatorSession]:
        """Return an operator's other valid sessions, the last used first."""
        now = self._clock()
        found = self._database.with_connection(lambda: rows.sessions_of(operator_id, now, now - IDLE))
        return [each for each in found if each.token_sha256 != digest(session_token)]

    def _end(self, identity: Identity, end: Callable[[], int]) -> None:
        with self._database.transact():
            journal_log_outs(end(), console_actor(identity.name), self._clock())

    def _identified(self, token_sha256: str) -> Identity | None:
        now = self._clock()
        session = rows.session(token_sha256, now, now - IDLE)
        if session is None:
            return None
        if now - session.last_seen_at >= _TOUCHED_EVERY:
            rows.touch_session(token_sha256, now)
        operator = session.operator
        has_totp = operator.totp_secret is not None
        return Identity(operator.id, operator.name, Role(operator.role), has_totp, operator.created_at)
