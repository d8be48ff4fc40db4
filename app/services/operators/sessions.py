"""Log-ins to the console, with throttling of failures, and their sessions."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from peewee import Expression

from app.domain.codes import EventKind
from app.domain.operators.operators import MAX_SESSIONS, console_actor
from app.domain.texts import LaterError, RefusedError
from app.runtime import metrics
from app.runtime.clock import Clock
from app.services.operators import operators, throttling, two_step
from app.services.operators.passwords import PASSWORDS, Passwords
from app.services.random_tokens import digest, new_token
from app.storage import journal
from app.storage.database import Database
from app.storage.models import Operator, OperatorSession
from app.tokens.sealing_key import SealingKey

IDLE = timedelta(hours=12)
LASTS = timedelta(days=7)
_TOUCHED_EVERY = timedelta(minutes=1)


class LoginRefusedError(RefusedError):
    """Wrong name, password or code; the answer does not say which."""

    def __init__(self) -> None:
        super().__init__("用户名、密码或验证码不正确", "wrong name, password or code")


class WantsCodeError(LoginRefusedError):
    """Name and password are right; a code of the second factor is required."""

    def __init__(self) -> None:
        RefusedError.__init__(self, "请输入两步验证的验证码", "enter the code of your authenticator app")


class LoginThrottledError(LaterError):
    """Too many failures."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            retry_after,
            f"失败次数过多，请在 {retry_after} 秒后再试",
            f"too many failures: try again in {retry_after} seconds",
        )


@dataclass(frozen=True, slots=True)
class Sessions:
    """Log-ins and sessions; one object for all threads. Failed log-ins are counted and journalled."""

    database: Database
    clock: Clock
    key: SealingKey
    passwords: Passwords = PASSWORDS

    def operators_exist(self) -> bool:
        """Return whether there is any operator."""
        return bool(Operator.select().exists())

    def log_in(self, name: str, password: str, code: str | None, address: str) -> str:
        """Begin a session for who has typed these, from an `address`; return its token, or raise as `confirm`."""
        token = new_token()
        with self._checked(name, password, code, address) as operator:
            now = self.clock()
            add_session(token, operator.id, now)
            actor = console_actor(operator.name)
            journal.append([journal.Entry(now, EventKind.LOGGED_IN, ip=address, actor=actor)])
        return token

    def confirm(self, identity: Operator, password: str, code: str | None = None, *, address: str) -> None:
        """Check who an operator with a session is, before changes that a stolen session must not make.

        `code` is the second factor's, which is required if the operator has one; None if none was typed. Raise
        WantsCodeError if only the code is missing, LoginRefusedError if name, password or code is wrong or the code
        was used before, LoginThrottledError after too many failures, LoginBusyError where others are logging in.
        """
        with self._checked(identity.name, password, code, address):
            pass

    @contextmanager
    def _checked(self, name: str, password: str, code: str | None, address: str) -> Iterator[Operator]:
        """Check what a person typed; the block runs with the operator in the transaction that uses the code up.

        Failures count against name and network together, against the network, and against the site of an IPv6 address;
        wrong codes also against the operator, from wherever they come.
        """
        name = name.strip()  # phones' keyboards add white space
        own = throttling.name_bucket(address, name)
        buckets = (*throttling.shared_buckets("network", address), own)
        self._require_patience(buckets)  # who is throttled does not take a turn
        # One at a time: parallel attempts would all pass the throttle before the first failure counts.
        with self.passwords.turn():
            self._require_patience(buckets)
            operator = operators.find(name)
            # An unknown name takes as long, or the time would tell which names exist.
            is_right = self.passwords.matches(None if operator is None else operator.password_hash, password)
            if operator is None or not is_right:
                self._fail(operator, address, "password", buckets)
                raise LoginRefusedError
            of_codes = throttling.code_bucket(operator.id)
            if operator.totp_secret is not None:
                if not code:
                    # Not against the network: an office's operators may all leave the code out at first.
                    self._fail(operator, address, "no code", (own,))
                    raise WantsCodeError
                self._require_patience((of_codes,))
            is_outdated = self.passwords.is_outdated(operator.password_hash)
            new_hash = self.passwords.hash(password) if is_outdated else None
            with self.database.transact():
                is_let_in = _lock_unchanged(operator) and self._use_up(operator, code or "")
                if is_let_in:
                    if new_hash is not None:
                        Operator.set_by_id(operator.id, {"password_hash": new_hash})
                    throttling.forget((own, of_codes))  # a success says nothing about others in the network
                    yield operator
            if not is_let_in:
                self._fail(operator, address, "code", (*buckets, of_codes))
                raise LoginRefusedError

    def _use_up(self, operator: Operator, code: str) -> bool:
        """Use the code of an app up in the caller's transaction; return False if it is wrong."""
        if operator.totp_secret is None:
            return True
        step = two_step.step_for(operator, code, self.clock(), self.key)
        if step is None:
            return False
        unused = Operator.totp_last_step.is_null() | (Operator.totp_last_step < step)
        return bool(Operator.update(totp_last_step=step).where((Operator.id == operator.id) & unused).execute())

    def _fail(self, operator: Operator | None, address: str, wrong: str, buckets: Sequence[str]) -> None:
        throttling.count(self.database, buckets, self.clock())
        entry = self._entry(EventKind.LOGIN_REFUSED, operator, address, wrong=wrong)
        with self.database.transact():
            is_journalled = journal.append_refused_log_in(entry)
        if not is_journalled:
            metrics.refusals_not_journalled.inc()

    def _entry(self, kind: EventKind, operator: Operator | None, address: str, **details: object) -> journal.Entry:
        # An unknown name is not journalled: people type their passwords there.
        actor = None if operator is None else console_actor(operator.name)
        return journal.Entry(self.clock(), kind, ip=address, actor=actor, details=details)

    def _require_patience(self, buckets: Sequence[str]) -> None:
        if wait := throttling.wait_seconds(buckets, self.clock()):
            raise LoginThrottledError(wait)

    def identify(self, session_token: str) -> Operator | None:
        """Return the operator of a session, with `has_totp`, without secrets; None if it has ended or never was."""
        now = self.clock()
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
        with self.database.transact():
            ended = OperatorSession.delete().where(is_it).execute()
            operators.journal_log_outs(ended, console_actor(identity.name), self.clock())

    def end_others(self, identity: Operator, session_token: str) -> None:
        """End all sessions of an operator except this one."""
        with self.database.transact():
            ended = operators.end_sessions(identity.id, but=session_token)
            operators.journal_log_outs(ended, console_actor(identity.name), self.clock())

    def renew(self, identity: Operator, changed_at: datetime) -> str:
        """Begin a session after a change of the password, or raise OperatorNotFoundError or LoggedOutError."""
        now, token = self.clock(), new_token()
        with self.database.transact():
            operator = Operator.select().where(Operator.id == identity.id).for_update(operators.ROW_LOCK).first()
            if operator is None:
                raise operators.OperatorNotFoundError(identity.name)
            if operator.password_changed_at != changed_at:
                raise operators.LoggedOutError
            add_session(token, identity.id, now)
        return token

    def others(self, operator_id: int, session_token: str) -> list[OperatorSession]:
        """Return an operator's other valid sessions, the last used first."""
        is_other = (OperatorSession.operator == operator_id) & (OperatorSession.token_sha256 != digest(session_token))
        valid = OperatorSession.select().where(is_other & _holds(self.clock()))
        return list(valid.order_by(OperatorSession.last_seen_at.desc()))


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
    return int(OperatorSession.delete().where(~_holds(now)).execute())


def _lock_unchanged(operator: Operator) -> bool:
    """Lock an operator in the caller's transaction; return False if password or second factor have changed."""
    same = (
        (Operator.id == operator.id)
        & (Operator.password_hash == operator.password_hash)
        & Expression(Operator.totp_secret, "IS NOT DISTINCT FROM", operator.totp_secret)
    )
    return Operator.select(Operator.id).where(same).for_update(operators.ROW_LOCK).first() is not None


def _holds(now: datetime) -> Any:  # noqa: ANN401  # a peewee expression
    return (OperatorSession.expires_at > now) & (OperatorSession.last_seen_at > now - IDLE)
