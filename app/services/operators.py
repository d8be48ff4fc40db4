"""The console's operators: their accounts, roles, passwords and ceilings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from app.clock import Clock
from app.domain.ceilings import OPERATOR_DEFAULTS, Ceilings, check_ceilings, described, with_defaults
from app.domain.codes import EventKind
from app.domain.operators import Role, check_name, check_password
from app.domain.texts import RefusedError
from app.services.bearer import digest
from app.services.ceilings import ceilings_of, set_ceilings
from app.services.formatting import escaped
from app.services.passwords import PASSWORDS, Passwords
from app.storage import cards, journal, models
from app.storage import operators as rows
from app.storage.database import Database
from app.storage.idempotency import Owner

Changes = dict[str, object]
Account = models.Operator
"""An operator's row."""


class OperatorNotFoundError(RefusedError):
    """There is no operator of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"没有名为 {escaped(name)} 的管理员", f"there is no operator {escaped(name)}")


class LoggedOutError(RefusedError):
    """The session in which operators change their own account has ended meanwhile."""

    def __init__(self) -> None:
        super().__init__("您已被退出登录，未作改动：请重新登录", "you were logged out meanwhile: log in again")


class NameTakenError(RefusedError):
    """The name is taken."""

    def __init__(self, name: str) -> None:
        super().__init__(f"已有名为 {name} 的管理员", f"the name {name} is taken")


class LastOwnerError(RefusedError):
    """The last owner can be neither removed nor made a seller."""

    def __init__(self) -> None:
        super().__init__("这是最后一位 owner，不能移除或降级", "this is the last owner: add another one first")


@dataclass(frozen=True, slots=True)
class Operators:
    """The accounts of one database. `actor` is the name in the journal of the person who makes the changes."""

    database: Database
    actor: str
    clock: Clock
    passwords: Passwords = PASSWORDS

    def list(self) -> Sequence[Account]:
        """Return all operators, by name, with what `app.storage.operators.accounts` adds to their rows."""
        return self.database.with_connection(rows.accounts)

    def last_log_ins(self) -> dict[str, datetime]:
        """Return when each operator logged in last, by name, without those who never did."""
        return self.database.with_connection(rows.last_log_ins)

    def check_known(self, name: str) -> None:
        """Check that an operator exists.

        Raises:
            OperatorNotFoundError: no.
        """
        if not self._is_known(name):
            raise OperatorNotFoundError(name)

    def check_free(self, name: str) -> None:
        """Check that an operator may be added under a name.

        Raises:
            RefusedError: the name is taken or invalid.
        """
        check_name(name)
        if self._is_known(name):
            raise NameTakenError(name)

    def _is_known(self, name: str) -> bool:
        # PostgreSQL refuses a NUL; no name has unprintable characters.
        return name.isprintable() and self.database.with_connection(lambda: rows.find(name)) is not None

    def add(self, name: str, role: Role, password: str, ceilings: Ceilings | None = None) -> None:
        """Add an operator; a ceiling that is not given is the role's default.

        Raises:
            RefusedError: the name is taken, or the name, the password or a ceiling is invalid.
            app.services.passwords.LoginBusyError: too many log-ins at this moment.
        """
        check_name(name)
        check_password(password, name)
        wanted = with_defaults(ceilings or Ceilings(), OPERATOR_DEFAULTS[role])
        check_ceilings(wanted)
        password_hash = self._hash(password)

        def write(now: datetime) -> None:
            operator_id = rows.add(name, role, password_hash, now)
            if operator_id is None:
                raise NameTakenError(name)
            set_ceilings(Owner(operator_id), wanted)
            self._journal(EventKind.OPERATOR_ADDED, name, {"role": role.value, **described(wanted)}, now)

        self._write(write)

    def set_password(
        self, name: str, password: str, *, reset_totp: bool = False, session_token: str | None = None
    ) -> datetime:
        """Change a password and end the operator's sessions; return the time of the change.

        `reset_totp` ends two-step verification, too. With a `session_token` operators change their own password.

        Raises:
            OperatorNotFoundError: there is no such operator.
            RefusedError: the password is invalid, or the session has ended.
            app.services.passwords.LoginBusyError: too many log-ins at this moment.
        """
        check_password(password, name)
        password_hash = self._hash(password)

        def write(operator: Account, now: datetime) -> Changes:
            rows.change(operator.id, password_hash=password_hash, password_changed_at=now)
            rows.end_sessions(operator.id)
            is_totp_disabled = reset_totp and rows.remove_second_factor(operator)
            return {"changed": "password", **({"totp": False} if is_totp_disabled else {})}

        return self.change(name, write, session_token)

    def set_role(self, name: str, role: Role) -> None:
        """Change an operator's role, from their next request on.

        Raises:
            OperatorNotFoundError: there is no such operator.
            LastOwnerError: no owner would be left.
        """

        def write(now: datetime) -> None:
            owners = rows.lock_owners()
            operator = _locked(name)
            if operator.role == role.value:
                return
            if owners == [name]:
                raise LastOwnerError
            rows.change(operator.id, role=role.value)
            self._journal(EventKind.OPERATOR_CHANGED, name, {"role": role.value}, now)

        self._write(write)

    def set_ceilings(self, name: str, ceilings: Ceilings) -> None:
        """Change an operator's ceilings, for the next cards that they issue; one that is not given stays.

        Raises:
            OperatorNotFoundError: there is no such operator.
            RefusedError: a ceiling is invalid.
        """
        check_ceilings(ceilings)

        def write(operator: Account, _now: datetime) -> Changes | None:
            if not ceilings.given():
                return None
            owner = Owner(operator.id)
            set_ceilings(owner, with_defaults(ceilings, ceilings_of(owner)))
            return described(ceilings)

        self.change(name, write)

    def remove(self, *names: str, force: bool = False) -> None:
        """Remove operators and their sessions, all or none.

        Raises:
            OperatorNotFoundError: one of them does not exist.
            LastOwnerError: no owner would be left, and `force` is not set.
        """

        def lock() -> list[Account]:
            owners = rows.lock_owners()
            if owners and not force and set(owners) <= set(names):
                raise LastOwnerError
            return [_locked(name) for name in dict.fromkeys(names)]

        def write(now: datetime) -> None:
            for operator in lock():
                rows.remove(operator.id)
                self._journal(EventKind.OPERATOR_REMOVED, operator.name, {"role": operator.role}, now)

        self._write(lambda _now: lock())
        # Page by page: the foreign key would do it in one statement, which could take minutes and hold up activations.
        for name in names:
            while self.database.with_connection(partial(cards.disown, name)):
                pass
        self._write(write)

    def _hash(self, password: str) -> str:
        with self.passwords.turn():
            return self.passwords.hash(password)

    def change(
        self,
        name: str,
        change: Callable[[Account, datetime], Changes | None],
        session_token: str | None = None,
    ) -> datetime:
        """Change an operator and journal what `change` returns, in one transaction; None is no change. Return its time.

        With a `session_token`, the change is that session's, which a change of the password may have ended.

        Raises:
            OperatorNotFoundError: there is no such operator.
            LoggedOutError: the session has ended.
        """

        def write(now: datetime) -> None:
            changes = change(_locked(name, session_token), now)
            if changes is not None:
                self._journal(EventKind.OPERATOR_CHANGED, name, changes, now)

        return self._write(write)

    def _write(self, work: Callable[[datetime], object]) -> datetime:
        """Do something in one transaction; return its time."""
        with self.database.transact():
            now = self.clock()
            work(now)
            return now

    def _journal(self, kind: EventKind, name: str, changes: Changes, now: datetime) -> None:
        details = {"operator": name, **changes}
        journal.append([journal.Entry(at=now, kind=kind, actor=self.actor, details=details)])


def _locked(name: str, session_token: str | None = None) -> Account:
    # PostgreSQL refuses a NUL; no name has unprintable characters.
    operator = rows.lock(name) if name.isprintable() else None
    if operator is None:
        raise OperatorNotFoundError(name)
    if session_token and not rows.has_session(digest(session_token)):
        raise LoggedOutError
    return operator


def journal_log_outs(ended: int, actor: str, now: datetime) -> None:
    """Write into the journal, within the caller's transaction, that `actor` ended so many sessions, if any."""
    if ended:
        journal.append([journal.Entry(now, EventKind.LOGGED_OUT, actor=actor, details={"sessions": ended})])
