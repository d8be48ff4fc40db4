"""What somebody must show to be let in: name, password, second factor; and how often they may fail."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from app.domain.codes import EventKind
from app.domain.operators import console_actor
from app.domain.texts import RefusedError
from app.services import totp
from app.services.bearer import digest
from app.services.passwords import Passwords
from app.services.throttling import Throttle, code_bucket, device_bucket, name_bucket, network_bucket, own_bucket
from app.storage import journal, models
from app.storage import operators as rows
from app.storage.database import Database


class LoginRefusedError(RefusedError):
    """Wrong name, password or code; which of them, nobody is told."""

    def __init__(self) -> None:
        super().__init__("用户名、密码或验证码不正确", "wrong name, password or code")


class WantsCodeError(LoginRefusedError):
    """Name and password are right; a code of the second factor is wanted."""

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
    """Who wants in. `device` is the browser's token where this very operator has logged in with it.

    `known` names the operator where it is surely them, by that token or by a session; None is a stranger. Failures of a
    known browser count by themselves, so that nobody behind the same address can lock it out (OWASP, "device cookies");
    a stranger's count against name and network together, and the network.
    """

    operator: models.Operator | None
    address: str
    device: str | None
    known: str | None
    buckets: tuple[str, ...]


class Credentials:
    """Checks what is shown.

    Args:
        database: Where operators are, and failures counted.
        clock: Returns the time now, aware.
        passwords: What checks passwords.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime], passwords: Passwords) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._throttle = Throttle(database, clock)

    def attempt(self, name: str, address: str, device: str | None) -> Attempt:
        """Return an attempt to log in: name and device token as they came, nothing checked yet."""
        name = name.strip()  # no name has white space there, but phones' keyboards add it

        def read() -> tuple[models.Operator | None, bool]:
            # What is not printable (NUL among it) is nobody's name, and nothing to ask the database for.
            operator = rows.find(name) if name.isprintable() else None
            is_own = operator is not None and device is not None and rows.is_device(digest(device), operator.id)
            return operator, is_own

        operator, is_own = self._database.with_connection(read)
        if device is not None and is_own:
            return Attempt(operator, address, device, console_actor(name), (device_bucket(digest(device)),))
        return Attempt(operator, address, None, None, (network_bucket(address), name_bucket(address, name)))

    def own_attempt(self, operator_id: int, name: str, address: str) -> Attempt:
        """Return an attempt of somebody logged in to prove it once more."""
        # Strangers at the same address count by themselves: they must not keep anybody from changing a password.
        own = self.attempt(name, address, None)
        return own._replace(known=console_actor(name), buckets=(own_bucket(operator_id),))

    @contextmanager
    def turn(self, attempt: Attempt) -> Iterator[None]:
        """Hold the one place where a password may be checked.

        Raises:
            LoginThrottledError: too many failures before; such an attempt waits for no place.
            app.services.passwords.LoginBusyError: too many log-ins at this moment.
        """
        self._require_patience(attempt.buckets)
        with self._passwords.turn(attempt.known):
            yield

    def require_password(self, attempt: Attempt, password: str) -> models.Operator:
        """Check the password, within a `turn`; return whose it is.

        Raises:
            LoginRefusedError: it is wrong, or there is no such operator.
            LoginThrottledError: too many failures before.
        """
        self._require_patience(attempt.buckets)
        operator = attempt.operator
        # An unknown name costs the same, or the time would tell which names there are.
        is_right = self._passwords.matches(None if operator is None else operator.password_hash, password)
        if operator is None or not is_right:
            raise self.refused(attempt, "password")
        return operator

    def require_code(self, attempt: Attempt, operator: models.Operator, code: str | None) -> int | None:
        """Check the code of the second factor; return its step, still to be taken, or None where none is wanted.

        Raises:
            WantsCodeError: there is no code.
            LoginRefusedError: it is wrong.
            LoginThrottledError: too many wrong ones before.
        """
        if operator.totp_secret is None:
            return None
        if not code:
            if attempt.device is None:  # a browser that is known shows who it was
                self.refused(attempt, "no code")
            raise WantsCodeError
        bucket = code_bucket(operator.id)
        if attempt.known is None:  # a stranger who has the password may come from many networks to try codes
            self._require_patience((bucket,))
        step = totp.step_of(operator.totp_secret, code, self._clock())
        if step is None:
            raise self.refused(attempt, "code", bucket)
        return step

    def refused(self, attempt: Attempt, wrong: str, *more_buckets: str) -> LoginRefusedError:
        """Count and journal a failure; return what to raise."""
        self._throttle.count((*attempt.buckets, *more_buckets))
        entry = self.entry(EventKind.LOGIN_REFUSED, attempt, {"wrong": wrong})
        self._database.with_connection(lambda: journal.append([entry]), once=True)
        return LoginRefusedError()

    def entry(self, kind: EventKind, attempt: Attempt, details: dict[str, object] | None = None) -> journal.Entry:
        """Return a journal entry about the attempt."""
        # Nothing of a name that is nobody's: people type their passwords there.
        actor = None if attempt.operator is None else console_actor(attempt.operator.name)
        return journal.Entry(at=self._clock(), kind=kind, ip=attempt.address, actor=actor, details=details)

    def forget(self, attempt: Attempt) -> None:
        """Forget the failures before an attempt that went well."""
        self._throttle.forget(attempt.buckets)

    def _require_patience(self, buckets: tuple[str, ...]) -> None:
        wait = self._throttle.wait_seconds(buckets)
        if wait:
            raise LoginThrottledError(wait)
