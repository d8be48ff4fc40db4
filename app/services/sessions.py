"""Log-ins to the console and their sessions."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from app.clock import Clock
from app.domain.codes import EventKind
from app.domain.log_ins import browser_in_words, what_is_new
from app.domain.operators import Role, console_actor
from app.services.accounts import LoggedOutError, OperatorNotFoundError
from app.services.bearer import digest, new_token
from app.services.credentials import Attempt, Credentials, Proof, journal_log_outs
from app.services.frequency import check_log_ins
from app.services.passwords import PASSWORDS, Passwords
from app.services.throttling import code_bucket, of_one
from app.storage import journal, log_ins, login_failures, models
from app.storage import operators as rows
from app.storage.database import Database
from app.tokens.second_factors import SecondFactors

IDLE = timedelta(hours=12)
LASTS = timedelta(days=7)
DEVICE_LASTS = timedelta(days=400)  # the longest life of a cookie in browsers
_TOUCHED_EVERY = timedelta(minutes=1)


class Identity(NamedTuple):
    """An operator who is logged in. Journal entries before `created_at` are of a former operator of that name."""

    id: int
    name: str
    role: Role
    has_totp: bool
    created_at: datetime


class LoggedIn(NamedTuple):
    """The browser's tokens: the session's, and one that identifies the browser for `DEVICE_LASTS`.

    `news` is from when to before when there were log-ins from a new browser or network that the operator should see.
    """

    session_token: str
    device_token: str
    news: tuple[datetime, datetime] | None = None


class NewLogIn(NamedTuple):
    """A log-in from a new browser or network; `new` is what of it is new, `browser` a name."""

    at: datetime
    address: str
    browser: str
    new: list[str]


class OtherSession(NamedTuple):
    """Another session of the same operator."""

    created_at: datetime
    last_seen_at: datetime


class Sessions:
    """Log-ins and sessions; one object for all threads."""

    def __init__(
        self, database: Database, clock: Clock, factors: SecondFactors, passwords: Passwords = PASSWORDS
    ) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._credentials = Credentials(database, clock, factors, passwords)

    def operators_exist(self) -> bool:
        """Return whether there is any operator."""
        return self._database.with_connection(rows.any_exist)

    def log_in(  # noqa: PLR0913  # what a browser sends
        self, name: str, password: str, code: str | None, *, address: str, device: str | None, user_agent: str = ""
    ) -> LoggedIn:
        """Begin a session.

        Args:
            name: As typed.
            password: As typed.
            code: The second factor's, None if none was typed.
            address: The client's.
            device: The device token of the browser, if it has one.
            user_agent: What the browser calls itself.

        Raises:
            WantsCodeError: only the code is missing.
            LoginRefusedError: name, password or code is wrong.
            LoginThrottledError: too many failures before, or too many log-ins within a day.
            app.services.passwords.LoginBusyError: too many log-ins at this moment.
        """
        attempt = self._credentials.attempt(name, address, device)._replace(user_agent=user_agent)
        # One at a time: parallel attempts would all pass the throttle before the first failure counts.
        with self._credentials.turn(attempt):
            operator = self._credentials.require_password(attempt, password)
            proof = self._credentials.require_code(attempt, operator, code)
            outdated = self._passwords.is_outdated(operator.password_hash)
            new_hash = self._passwords.hash(password) if outdated else None
            logged_in = LoggedIn(new_token(), attempt.device or new_token())
            begun = self._begin(attempt, operator, logged_in, proof=proof, new_hash=new_hash)
            if begun is None:
                raise self._credentials.refused(attempt, "code", code_bucket(operator.id))
        return begun

    def confirm(self, identity: Identity, password: str, code: str | None = None, *, address: str) -> None:
        """Check who an operator with a session is, before changes that a stolen session must not make.

        Args:
            identity: The session's operator.
            password: As typed.
            code: The second factor's, which is required if the operator has one; None if none was typed.
            address: The client's.

        Raises:
            WantsCodeError: only the code is missing.
            LoginRefusedError: one of them is wrong, or the code was used before.
            LoginThrottledError: too many failures before.
            app.services.passwords.LoginBusyError: too many log-ins at this moment.
        """
        attempt = self._credentials.own_attempt(identity.id, identity.name, address)
        with self._credentials.turn(attempt):
            operator = self._credentials.require_password(attempt, password)
            proof = self._credentials.require_code(attempt, operator, code)

            def use_up() -> bool:
                with self._database.atomic():
                    return self._credentials.use_up(attempt, operator, proof)

            if not self._database.with_connection(use_up, once=True):
                raise self._credentials.refused(attempt, "code", code_bucket(operator.id))
        self._credentials.forget(attempt)

    def identify(self, session_token: str) -> Identity | None:
        """Return the operator of a session, None if it has ended or never was."""
        return self._database.with_connection(lambda: self._identified(digest(session_token)))

    def end(self, identity: Identity, session_token: str) -> None:
        """End an operator's session, if it has not ended yet."""
        self._end(identity, lambda: rows.end_session(digest(session_token)))

    def end_others(self, identity: Identity, session_token: str) -> None:
        """End all sessions of an operator except this one."""
        self._end(identity, lambda: rows.end_sessions(identity.id, but=digest(session_token)))

    def renew(self, identity: Identity, changed_at: datetime) -> LoggedIn:
        """Begin a session for an operator whose change of password, at that time, has just ended all sessions.

        Raises:
            OperatorNotFoundError: the operator was removed meanwhile.
            LoggedOutError: the password was changed again meanwhile.
        """
        now, logged_in = self._clock(), LoggedIn(new_token(), new_token())

        def write() -> None:
            with self._database.atomic():
                operator = rows.lock_by_id(identity.id)
                if operator is None:
                    raise OperatorNotFoundError(identity.name)
                if operator.password_changed_at != changed_at:
                    raise LoggedOutError
                rows.record_device(digest(logged_in.device_token), identity.id, now)
                rows.add_session(digest(logged_in.session_token), identity.id, now, now + LASTS)

        self._database.with_connection(write, once=True)
        return logged_in

    def others(self, operator_id: int, session_token: str) -> list[OtherSession]:
        """Return an operator's other valid sessions, the last used first."""
        now = self._clock()
        found = self._database.with_connection(lambda: rows.sessions_of(operator_id, now, now - IDLE))
        return [OtherSession(*times) for token_sha256, *times in found if token_sha256 != digest(session_token)]

    def _end(self, identity: Identity, end: Callable[[], int]) -> None:
        def write() -> None:
            with self._database.atomic():
                journal_log_outs(end(), console_actor(identity.name), self._clock())

        self._database.with_connection(write)

    def new_log_ins(self, identity: Identity, since: datetime, until: datetime) -> list[NewLogIn]:
        """Return an operator's log-ins from a new browser or network in that time, the newest first."""
        actor, since = console_actor(identity.name), max(since, identity.created_at)
        found = self._database.with_connection(lambda: log_ins.new_ones(actor, since, until))
        return [NewLogIn(row.at, row.ip, row.details["browser"], row.details["new"]) for row in found]

    def _begin(
        self,
        attempt: Attempt,
        operator: models.Operator,
        logged_in: LoggedIn,
        *,
        proof: Proof | None,
        new_hash: str | None,
    ) -> LoggedIn | None:
        """Begin the session; return None if the code was used or the password changed meanwhile."""
        now = self._clock()

        def write() -> LoggedIn | None:
            with self._database.atomic():
                if not rows.lock_unchanged(operator) or not self._credentials.use_up(attempt, operator, proof):
                    return None
                check_log_ins(operator, now)
                if new_hash is not None:
                    rows.change(operator.id, password_hash=new_hash)
                rows.record_device(digest(logged_in.device_token), operator.id, now)
                rows.add_session(digest(logged_in.session_token), operator.id, now, now + LASTS)
                login_failures.forget(of_one((*attempt.buckets, code_bucket(operator.id))))
                details, news = _news(attempt, operator, now)
                entry = self._credentials.entry(EventKind.LOGGED_IN, attempt, details)
                journal.append([replace(entry, at=now)])  # the browser's own time: `_news` tells them apart by it
                return logged_in._replace(news=news)

        return self._database.with_connection(write, once=True)

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


def _news(
    attempt: Attempt, operator: models.Operator, now: datetime
) -> tuple[dict[str, Any] | None, tuple[datetime, datetime] | None]:
    """Return what is new about a log-in, for the journal, and from when to when there were others that are new.

    A known browser is told what happened since its own last log-in, so that whoever else logs in, however often,
    does not keep that from it; another browser, what happened at the operator's last log-in.
    """
    actor = console_actor(operator.name)
    last_at, addresses = log_ins.last(actor, max(operator.created_at, now - DEVICE_LASTS))
    new = what_is_new(attempt.address, known_browser=attempt.used_at is not None, earlier=addresses)
    details = {"new": new, "browser": browser_in_words(attempt.user_agent)} if new else None
    since = last_at if attempt.used_at is None else attempt.used_at + timedelta(microseconds=1)
    if since is None or not log_ins.new_ones(actor, max(since, operator.created_at), now):
        return details, None
    return details, (since, now)
