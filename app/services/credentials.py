"""Checks of name, password and second factor, with throttling of failures."""

from collections.abc import Callable, Sequence

from peewee import Expression

from app import metrics
from app.clock import Clock
from app.domain.codes import EventKind
from app.domain.operators import console_actor
from app.domain.texts import LaterError, RefusedError
from app.services import two_step
from app.services.operators import ROW_LOCK, set_columns
from app.services.passwords import Passwords
from app.services.throttling import Throttle, code_bucket, name_bucket, shared_buckets
from app.storage import journal
from app.storage.database import Database
from app.storage.models import Operator
from app.tokens.sealing_key import SealingKey


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


class Credentials:
    """Checks credentials, and counts and journals failures."""

    def __init__(self, database: Database, clock: Clock, key: SealingKey, passwords: Passwords) -> None:
        self._key = key
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._throttle = Throttle(database, clock)

    def check(
        self, name: str, password: str, code: str | None, address: str, proceed: Callable[[Operator], None]
    ) -> None:
        """Check what a person typed; call `proceed` with the operator in the transaction that uses the code up.

        Failures count against name and network together, against the network, and against the site of an IPv6 address;
        wrong codes also against the operator, from wherever they come.

        Raises:
            WantsCodeError: only the code is missing.
            LoginRefusedError: name, password or code is wrong, or the code was used before.
            LoginThrottledError: too many failures before.
            app.services.passwords.LoginBusyError: too many log-ins at this moment.
        """
        name = name.strip()  # phones' keyboards add white space
        own = name_bucket(address, name)
        buckets = (*shared_buckets("network", address), own)
        self._require_patience(buckets)  # who is throttled does not take a turn
        # One at a time: parallel attempts would all pass the throttle before the first failure counts.
        with self._passwords.turn():
            self._require_patience(buckets)
            # PostgreSQL refuses a NUL; no name has unprintable characters.
            named = Operator.select().where(Operator.name == name)
            operator = named.first() if name.isprintable() else None
            # An unknown name takes as long, or the time would tell which names exist.
            is_right = self._passwords.matches(None if operator is None else operator.password_hash, password)
            if operator is None or not is_right:
                self._fail(operator, address, "password", buckets)
                raise LoginRefusedError
            of_codes = code_bucket(operator.id)
            if operator.totp_secret is not None:
                if not code:
                    # Not against the network: an office's operators may all leave the code out at first.
                    self._fail(operator, address, "no code", (own,))
                    raise WantsCodeError
                self._require_patience((of_codes,))
            is_outdated = self._passwords.is_outdated(operator.password_hash)
            new_hash = self._passwords.hash(password) if is_outdated else None
            with self._database.transact():
                is_let_in = _lock_unchanged(operator) and self._use_up(operator, code or "", address)
                if is_let_in:
                    if new_hash is not None:
                        set_columns(operator, password_hash=new_hash)
                    self._throttle.forget((own, of_codes))  # a success says nothing about others in the network
                    proceed(operator)
            if not is_let_in:
                self._fail(operator, address, "code", (*buckets, of_codes))
                raise LoginRefusedError

    def _use_up(self, operator: Operator, code: str, address: str) -> bool:
        """Use the code of an app or a recovery code up in the caller's transaction; return False if it is wrong."""
        if operator.totp_secret is None:
            return True
        step = two_step.step_for(operator, code, self._clock(), self._key)
        if step is not None:
            unused = Operator.totp_last_step.is_null() | (Operator.totp_last_step < step)
            return bool(Operator.update(totp_last_step=step).where((Operator.id == operator.id) & unused).execute())
        left = two_step.take_recovery_code(operator.id, code)
        if left is None:
            return False
        journal.append([self._entry(EventKind.RECOVERY_CODE_USED, operator, address, {"left": left})])
        return True

    def _fail(self, operator: Operator | None, address: str, wrong: str, buckets: Sequence[str]) -> None:
        self._throttle.count(buckets)
        entry = self._entry(EventKind.LOGIN_REFUSED, operator, address, {"wrong": wrong})
        with self._database.transact():
            is_journalled = journal.append_refused_log_in(entry)
        if not is_journalled:
            metrics.refusals_not_journalled.inc()

    def _entry(
        self, kind: EventKind, operator: Operator | None, address: str, details: dict[str, object]
    ) -> journal.Entry:
        # An unknown name is not journalled: people type their passwords there.
        actor = None if operator is None else console_actor(operator.name)
        return journal.Entry(at=self._clock(), kind=kind, ip=address, actor=actor, details=details)

    def _require_patience(self, buckets: Sequence[str]) -> None:
        wait = self._throttle.wait_seconds(buckets)
        if wait:
            raise LoginThrottledError(wait)


def _lock_unchanged(operator: Operator) -> bool:
    """Lock an operator in the caller's transaction; return False if password or second factor have changed."""
    same = (
        (Operator.id == operator.id)
        & (Operator.password_hash == operator.password_hash)
        & Expression(Operator.totp_secret, "IS NOT DISTINCT FROM", operator.totp_secret)
    )
    return Operator.select(Operator.id).where(same).for_update(ROW_LOCK).first() is not None
