"""Checks of name, password and second factor, with throttling of failures."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from app import metrics
from app.clock import Clock
from app.domain.codes import EventKind
from app.domain.operators import console_actor
from app.domain.texts import RefusedError
from app.services import recovery_codes, totp
from app.services.bearer import digest
from app.services.passwords import Passwords
from app.services.throttling import Throttle, code_bucket, device_bucket, name_bucket, network_buckets, own_bucket
from app.storage import journal, models
from app.storage import operators as rows
from app.storage import recovery_codes as code_rows
from app.storage.database import Database
from app.tokens.second_factors import SecondFactors


class LoginRefusedError(RefusedError):
    """Wrong name, password or code; the answer does not say which."""

    def __init__(self) -> None:
        super().__init__("用户名、密码或验证码不正确", "wrong name, password or code")


class WantsCodeError(LoginRefusedError):
    """Name and password are right; a code of the second factor is required."""

    def __init__(self) -> None:
        RefusedError.__init__(self, "请输入两步验证的验证码", "enter the code of your authenticator app")


class LoginThrottledError(RefusedError):
    """Too many failures; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(
            f"失败次数过多，请在 {retry_after} 秒后再试",
            f"too many failures: try again in {retry_after} seconds",
        )


def journal_log_outs(ended: int, actor: str, now: datetime) -> None:
    """Write into the journal, within the caller's transaction, that `actor` ended so many sessions, if any."""
    if ended:
        journal.append([journal.Entry(now, EventKind.LOGGED_OUT, actor=actor, details={"sessions": ended})])


class Attempt(NamedTuple):
    """An attempt to log in. `device` is the browser's token, if this operator has logged in with it before.

    `known` names the operator if that token or a session identifies them; None is a stranger, an impostor if there is
    another token. The failures of a known browser have a bucket of their own, so that nobody behind the same address
    can lock it out (OWASP, "device cookies"). A stranger's failures count against name and network together, against
    the network, and against the site of an IPv6 address. `used_at` is the last log-in with a known browser.
    """

    operator: models.Operator | None
    address: str
    device: str | None
    known: str | None
    buckets: tuple[str, ...]
    is_impostor: bool = False
    used_at: datetime | None = None
    user_agent: str = ""


class Proof(NamedTuple):
    """A right code that is not used up yet: the time step of an authenticator's, or the digest of a recovery code."""

    step: int | None = None
    recovery_sha256: str | None = None


class Credentials:
    """Checks credentials, and counts and journals failures."""

    def __init__(self, database: Database, clock: Clock, factors: SecondFactors, passwords: Passwords) -> None:
        self._factors = factors
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._throttle = Throttle(database, clock)

    def attempt(self, name: str, address: str, device: str | None) -> Attempt:
        """Return an attempt to log in, unchecked, from a name and a device token as sent."""
        name = name.strip()  # phones' keyboards add white space

        def read() -> tuple[models.Operator | None, datetime | None]:
            # PostgreSQL refuses a NUL; no name has unprintable characters.
            operator = rows.find(name) if name.isprintable() else None
            if operator is None or device is None:
                return operator, None
            return operator, rows.last_log_in_with(digest(device), operator.id)

        operator, used_at = self._database.with_connection(read)
        if device is not None and used_at is not None:
            buckets = (device_bucket(digest(device)),)
            return Attempt(operator, address, device, console_actor(name), buckets, used_at=used_at)
        shared = (*network_buckets(address), name_bucket(address, name))
        return Attempt(operator, address, None, None, shared, is_impostor=device is not None)

    def own_attempt(self, operator_id: int, name: str, address: str) -> Attempt:
        """Return an attempt of an operator who is logged in and confirms their password."""
        # A bucket of its own: strangers at the same address must not keep anybody from changing a password.
        own = self.attempt(name, address, None)
        return own._replace(known=console_actor(name), buckets=(own_bucket(operator_id),))

    @contextmanager
    def turn(self, attempt: Attempt) -> Iterator[None]:
        """Hold this process's turn to check a password.

        Raises:
            LoginThrottledError: too many failures before; such an attempt does not wait for a turn.
            app.services.passwords.LoginBusyError: too many log-ins at this moment.
        """
        self._require_patience(attempt.buckets)
        with self._passwords.turn(attempt.known, is_impostor=attempt.is_impostor):
            yield

    def require_password(self, attempt: Attempt, password: str) -> models.Operator:
        """Check the password, within a `turn`; return the operator.

        Raises:
            LoginRefusedError: it is wrong, or there is no such operator.
            LoginThrottledError: too many failures before.
        """
        self._require_patience(attempt.buckets)
        operator = attempt.operator
        # An unknown name takes as long, or the time would tell which names exist.
        is_right = self._passwords.matches(None if operator is None else operator.password_hash, password)
        if operator is None or not is_right:
            raise self.refused(attempt, "password")
        return operator

    def require_code(self, attempt: Attempt, operator: models.Operator, code: str | None) -> Proof | None:
        """Check the code of the second factor or a recovery code; return it, not yet used up, None if none is required.

        Raises:
            WantsCodeError: there is no code, and one is required.
            LoginRefusedError: it is wrong.
            LoginThrottledError: too many wrong ones before.
        """
        if operator.totp_secret is None:
            return None
        if not code:
            if attempt.device is None:  # a known browser has identified itself
                self.refused(attempt, "no code")
            raise WantsCodeError
        bucket = code_bucket(operator.id)
        if attempt.known is None:  # a stranger with the password may try codes from many networks
            self._require_patience((bucket,))
        step = totp.step_for(operator, code, self._clock(), self._factors)
        if step is not None:
            return Proof(step=step)
        recovery = self._database.with_connection(lambda: recovery_codes.find(operator.id, code))
        if recovery is None:
            raise self.refused(attempt, "code", bucket)
        return Proof(recovery_sha256=recovery)

    def use_up(self, attempt: Attempt, operator: models.Operator, proof: Proof | None) -> bool:
        """Use a code up, within the caller's transaction; return False if another attempt was quicker."""
        if proof is None:
            return True
        if proof.recovery_sha256 is None:
            return proof.step is not None and rows.take_step(operator.id, proof.step)
        is_taken = code_rows.take(operator.id, proof.recovery_sha256)
        if is_taken:
            details: dict[str, object] = {"left": code_rows.count(operator.id)}
            journal.append([self.entry(EventKind.RECOVERY_CODE_USED, attempt, details)])
        return is_taken

    def refused(self, attempt: Attempt, wrong: str, *more_buckets: str) -> LoginRefusedError:
        """Count and journal a failure; return the error to raise."""
        self._throttle.count((*attempt.buckets, *more_buckets))
        entry = self.entry(EventKind.LOGIN_REFUSED, attempt, {"wrong": wrong})
        if not self._database.with_connection(lambda: journal.append_refused_log_in(entry), once=True):
            metrics.refusals_not_journalled.inc()
        return LoginRefusedError()

    def entry(self, kind: EventKind, attempt: Attempt, details: dict[str, object] | None = None) -> journal.Entry:
        """Return a journal entry about an attempt."""
        # An unknown name is not journalled: people type their passwords there.
        actor = None if attempt.operator is None else console_actor(attempt.operator.name)
        return journal.Entry(at=self._clock(), kind=kind, ip=attempt.address, actor=actor, details=details)

    def forget(self, attempt: Attempt) -> None:
        """Forget the failures before a successful attempt."""
        self._throttle.forget(attempt.buckets)

    def _require_patience(self, buckets: tuple[str, ...]) -> None:
        wait = self._throttle.wait_seconds(buckets)
        if wait:
            raise LoginThrottledError(wait)
