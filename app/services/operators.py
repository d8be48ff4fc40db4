"""The console's operators: who there are, their roles, passwords and second factors."""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from app.domain.codes import EventKind
from app.domain.operators import Role, check_name, check_password
from app.domain.texts import RefusedError
from app.services import totp
from app.services.bearer import digest
from app.services.formatting import shown
from app.services.passwords import PASSWORDS, Passwords
from app.storage import journal, models
from app.storage import operators as rows
from app.storage.database import Database

Changes = dict[str, object]


class Account(NamedTuple):
    """An operator, as lists show them.

    `last_seen_at` is of a log-in that has not ended: None after a log-out, and soon after 12 hours without a click.
    """

    id: int
    name: str
    role: Role
    has_totp: bool
    created_at: datetime
    password_changed_at: datetime
    last_seen_at: datetime | None


def note_log_outs(ended: int, actor: str, now: datetime) -> None:
    """Note in the journal, within the caller's transaction, that somebody ended so many sessions; none is no entry."""
    if ended:
        journal.append([journal.Entry(now, EventKind.LOGGED_OUT, actor=actor, details={"sessions": ended})])


class OperatorNotFoundError(RefusedError):
    """No such operator."""

    def __init__(self, name: str) -> None:
        super().__init__(f"没有名为 {shown(name)} 的管理员", f"there is no operator {shown(name)}")


class NameTakenError(RefusedError):
    """There is an operator of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"已有名为 {name} 的管理员", f"there is an operator {name} already")


class LastOwnerError(RefusedError):
    """The last owner stays one."""

    def __init__(self) -> None:
        super().__init__("这是最后一位 owner，不能移除或降级", "this is the last owner, who stays one")


class Operators:
    """The accounts of one database.

    Args:
        database: Where they are.
        actor: Who acts, as the journal names them.
        clock: Returns the time now, aware.
        passwords: What hashes passwords.
    """

    def __init__(
        self, database: Database, actor: str, clock: Callable[[], datetime], passwords: Passwords = PASSWORDS
    ) -> None:
        self._database = database
        self._actor = actor
        self._clock = clock
        self._passwords = passwords

    def list(self) -> tuple[Account, ...]:
        """Return all operators, by name."""
        return tuple(
            Account(
                id=row.id,
                name=row.name,
                role=Role(row.role),
                has_totp=row.totp_secret is not None,
                created_at=row.created_at,
                password_changed_at=row.password_changed_at,
                last_seen_at=seen_at,
            )
            for row, seen_at in self._database.with_connection(rows.with_last_seen)
        )

    def last_log_ins(self) -> dict[str, datetime]:
        """Return when each operator logged in last, by name; who never did is not there."""
        return self._database.with_connection(rows.last_log_ins)

    def check_known(self, name: str) -> None:
        """Make sure that there is such an operator, before anybody is asked for their password.

        Raises:
            OperatorNotFoundError: there is none.
        """
        if not self._is_known(name):
            raise OperatorNotFoundError(name)

    def check_free(self, name: str) -> None:
        """Make sure that a name may be given to an operator.

        Raises:
            RefusedError: it is taken, or will not do.
        """
        check_name(name)
        if self._is_known(name):
            raise NameTakenError(name)

    def _is_known(self, name: str) -> bool:
        # What is not printable (NUL among it) is nobody's name, and nothing to ask the database for.
        return name.isprintable() and self._database.with_connection(lambda: rows.find(name)) is not None

    def add(self, name: str, role: Role, password: str) -> None:
        """Add an operator.

        Raises:
            RefusedError: the name is taken, or it or the password will not do.
            app.services.passwords.LoginBusyError: too many log-ins at this moment.
        """
        check_name(name)
        check_password(password, name)
        password_hash = self._hash(password)

        def write(name: str, now: datetime) -> Changes:
            if not rows.add(name, role, password_hash, now):
                raise NameTakenError(name)
            return {"role": role.value}

        self._act(EventKind.OPERATOR_ADDED, (name,), write)

    def set_password(self, name: str, password: str, *, reset_totp: bool = False) -> None:
        """Give an operator another password; all their sessions and known browsers end.

        Args:
            name: The operator's.
            password: The new one.
            reset_totp: Whether to ask for no codes any more, either.

        Raises:
            OperatorNotFoundError: there is no such operator.
            RefusedError: the password will not do.
            app.services.passwords.LoginBusyError: too many log-ins at this moment.
        """
        check_password(password, name)
        password_hash = self._hash(password)

        def write(name: str, now: datetime) -> Changes:
            operator = _locked(name)
            rows.change(operator.id, password_hash=password_hash, password_changed_at=now)
            _log_out(operator)
            return {"changed": "password", **((_without_totp(operator) or {}) if reset_totp else {})}

        self._act(EventKind.OPERATOR_CHANGED, (name,), write)

    def set_role(self, name: str, role: Role) -> None:
        """Change what an operator may do, from their next request on.

        Raises:
            OperatorNotFoundError: there is no such operator.
            LastOwnerError: there would be no owner left.
        """

        def write(name: str, _now: datetime) -> Changes | None:
            owners = rows.lock_owners()
            operator = _locked(name)
            if operator.role == role.value:
                return None
            if owners == [name]:
                raise LastOwnerError
            rows.change(operator.id, role=role.value)
            return {"role": role.value}

        self._act(EventKind.OPERATOR_CHANGED, (name,), write)

    def remove(self, *names: str, force: bool = False) -> None:
        """Remove operators, all or none; their sessions end.

        Raises:
            OperatorNotFoundError: one of them is not there.
            LastOwnerError: there would be no owner left, and it is not forced.
        """

        def write(name: str, _now: datetime) -> Changes:
            owners = rows.lock_owners()
            operator = _locked(name)
            if owners == [name] and not force:
                raise LastOwnerError
            rows.remove(operator.id)
            return {"role": operator.role}

        self._act(EventKind.OPERATOR_REMOVED, names, write)

    def begin_totp(self) -> str:
        """Return a new secret for an authenticator app, in base32; nothing is stored before `enable_totp`."""
        return totp.new_secret()

    def enable_totp(self, name: str, secret: str, code: str, session_token: str) -> None:
        """Ask for a code at each log-in from now on, once a first code has shown that the app has the secret.

        All their sessions end but the one of `session_token`: the others began without a code.

        Raises:
            OperatorNotFoundError: there is no such operator.
            RefusedError: the code is wrong, the secret not one of ours, or there is a second factor already.
        """

        def write(name: str, now: datetime) -> Changes:
            operator = _locked(name)
            if operator.totp_secret is not None:
                raise RefusedError("已启用两步验证", "there is a second factor already")
            step = totp.step_of(secret, code, now) if totp.is_secret(secret) else None
            if step is None:
                raise RefusedError(
                    "验证码不正确：请检查手机时间，并输入最新的验证码",
                    "wrong code: check the phone's clock, and enter the latest code",
                )
            rows.change(operator.id, totp_secret=secret, totp_last_step=step)
            note_log_outs(rows.end_sessions(operator.id, but=digest(session_token)), self._actor, now)
            return {"totp": True}

        self._act(EventKind.OPERATOR_CHANGED, (name,), write)

    def disable_totp(self, name: str) -> None:
        """Ask for no codes any more.

        Raises:
            OperatorNotFoundError: there is no such operator.
        """
        self._act(EventKind.OPERATOR_CHANGED, (name,), lambda name, _now: _without_totp(_locked(name)))

    def reset_totp(self, name: str) -> None:
        """Ask for no codes any more, since the phone is lost: all sessions and known browsers end, too.

        Raises:
            OperatorNotFoundError: there is no such operator.
        """

        def write(name: str, _now: datetime) -> Changes | None:
            operator = _locked(name)
            _log_out(operator)
            return _without_totp(operator)

        self._act(EventKind.OPERATOR_CHANGED, (name,), write)

    def _hash(self, password: str) -> str:
        with self._passwords.turn(self._actor):
            return self._passwords.hash(password)

    def _act(self, kind: EventKind, names: tuple[str, ...], change: Callable[[str, datetime], Changes | None]) -> None:
        """Change each operator and journal what, in one transaction; None is nothing to tell of."""

        def write() -> None:
            with self._database.atomic():
                now = self._clock()
                for name in dict.fromkeys(names):
                    changes = change(name, now)
                    if changes is not None:
                        details = {"operator": name, **changes}
                        journal.append([journal.Entry(at=now, kind=kind, actor=self._actor, details=details)])

        self._database.with_connection(write, once=True)


def _locked(name: str) -> models.Operator:
    # What is not printable (NUL among it) is nobody's name, and nothing to ask the database for.
    operator = rows.lock(name) if name.isprintable() else None
    if operator is None:
        raise OperatorNotFoundError(name)
    return operator


def _log_out(operator: models.Operator) -> None:
    rows.end_sessions(operator.id)
    rows.forget_devices(operator.id)


def _without_totp(operator: models.Operator) -> Changes | None:
    if operator.totp_secret is None:
        return None
    rows.change(operator.id, totp_secret=None, totp_last_step=None)
    return {"totp": False}
