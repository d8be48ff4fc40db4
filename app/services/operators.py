"""The console's operators: their accounts, roles, passwords and second factors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.clock import Clock
from app.domain.ceilings import OPERATOR_DEFAULTS, Ceilings, check_ceilings, described, with_defaults
from app.domain.codes import EventKind
from app.domain.operators import Role, check_name, check_password
from app.domain.texts import RefusedError
from app.services import two_step
from app.services.bearer import digest
from app.services.ceilings import ceilings_of, set_ceilings
from app.services.credentials import journal_log_outs
from app.services.formatting import escaped
from app.services.passwords import PASSWORDS, Passwords
from app.storage import cards, journal, models
from app.storage import operators as rows
from app.storage.database import Database
from app.storage.idempotency import Owner
from app.tokens.sealing_key import SealingKey

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
    key: SealingKey
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

        def write(name: str, now: datetime) -> Changes:
            operator_id = rows.add(name, role, password_hash, now)
            if operator_id is None:
                raise NameTakenError(name)
            set_ceilings(Owner(operator_id), wanted)
            return {"role": role.value, **described(wanted)}

        self._act(EventKind.OPERATOR_ADDED, (name,), write)

    def set_password(
        self, name: str, password: str, *, reset_totp: bool = False, session_token: str | None = None
    ) -> datetime:
        """Change a password, end the operator's sessions; `reset_totp`: disable TOTP, too.

        Args:
            name: Whose.
            password: The new one.
            reset_totp: Whether to disable TOTP.
            session_token: The session in which operators change their own password; it must not have ended meanwhile.

        Returns:
            The time of the change.

        Raises:
            OperatorNotFoundError: there is no such operator.
            RefusedError: the password is invalid, or the session has ended.
            app.services.passwords.LoginBusyError: too many log-ins at this moment.
        """
        check_password(password, name)
        password_hash = self._hash(password)

        def write(name: str, now: datetime) -> Changes:
            operator = _locked(name, session_token)
            rows.change(operator.id, password_hash=password_hash, password_changed_at=now)
            rows.end_sessions(operator.id)
            is_totp_disabled = reset_totp and two_step.disable(operator)
            return {"changed": "password", **({"totp": False} if is_totp_disabled else {})}

        return self._act(EventKind.OPERATOR_CHANGED, (name,), write)

    def set_role(self, name: str, role: Role) -> None:
        """Change an operator's role, from their next request on.

        Raises:
            OperatorNotFoundError: there is no such operator.
            LastOwnerError: no owner would be left.
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

    def set_ceilings(self, name: str, ceilings: Ceilings) -> None:
        """Change an operator's ceilings, for the next cards that they issue; one that is not given stays.

        Raises:
            OperatorNotFoundError: there is no such operator.
            RefusedError: a ceiling is invalid.
        """
        check_ceilings(ceilings)

        def write(name: str, _now: datetime) -> Changes | None:
            operator = _locked(name)
            if not ceilings.given():
                return None
            owner = Owner(operator.id)
            set_ceilings(owner, with_defaults(ceilings, ceilings_of(owner)))
            return described(ceilings)

        self._act(EventKind.OPERATOR_CHANGED, (name,), write)

    def remove(self, *names: str, force: bool = False) -> None:
        """Remove operators and their sessions, all or none.

        Raises:
            OperatorNotFoundError: one of them does not exist.
            LastOwnerError: no owner would be left, and `force` is not set.
        """

        def write(name: str, _now: datetime) -> Changes:
            owners = rows.lock_owners()
            operator = _locked(name)
            if owners == [name] and not force:
                raise LastOwnerError
            rows.remove(operator.id)
            return {"role": operator.role}

        for name in names:
            self.check_known(name)
        owners = self.database.with_connection(rows.lock_owners)
        if owners and not force and set(owners) <= set(names):
            raise LastOwnerError
        for name in names:
            self._disown(name)
        self._act(EventKind.OPERATOR_REMOVED, names, write)

    def _disown(self, name: str) -> None:
        """Make the cards that an operator issued nobody's, page by page.

        The foreign key would do it in one statement, which could take minutes and hold up activations.
        """
        while self.database.with_connection(lambda: cards.disown(name)):
            pass

    def enable_totp(self, name: str, secret: str, code: str, session_token: str) -> tuple[str, ...]:
        """Require codes at log-in from now on, after a first code has shown that the app has the secret.

        All sessions end but the one of `session_token`: they began without a code.

        Returns:
            The recovery codes, for the only time.

        Raises:
            OperatorNotFoundError: there is no such operator.
            RefusedError: the code is wrong, the secret not from `two_step.new_secret`, TOTP is enabled already, or the
                session has ended.
        """
        codes: tuple[str, ...] = ()

        def write(name: str, now: datetime) -> Changes:
            nonlocal codes
            operator = _locked(name, session_token)
            codes = two_step.enable(operator, secret, code, now, self.key)
            journal_log_outs(rows.end_sessions(operator.id, but=digest(session_token)), self.actor, now)
            return {"totp": True}

        self._act(EventKind.OPERATOR_CHANGED, (name,), write)
        return codes

    def recovery_codes_left(self, operator_id: int) -> int:
        """Return how many recovery codes an operator has left."""
        return self.database.with_connection(lambda: rows.count_recovery_codes(operator_id))

    def renew_recovery_codes(self, name: str, session_token: str | None = None) -> tuple[str, ...]:
        """Replace an operator's recovery codes by new ones; return them, for the only time.

        Raises:
            OperatorNotFoundError: there is no such operator.
            RefusedError: the operator has no two-step verification, or the session has ended.
        """
        codes: tuple[str, ...] = ()

        def write(name: str, _now: datetime) -> Changes:
            nonlocal codes
            operator = _locked(name, session_token)
            if operator.totp_secret is None:
                raise RefusedError("尚未启用两步验证", "two-step verification is not enabled")
            codes = two_step.renew_recovery_codes(operator.id)
            return {"recovery_codes": len(codes)}

        self._act(EventKind.OPERATOR_CHANGED, (name,), write)
        return codes

    def disable_totp(self, name: str, *, log_out: bool = False, session_token: str | None = None) -> None:
        """Require no codes any more; `log_out`: end the operator's sessions, too.

        Raises:
            OperatorNotFoundError: there is no such operator.
            RefusedError: the session has ended.
        """

        def write(name: str, _now: datetime) -> Changes | None:
            operator = _locked(name, session_token)
            if log_out:
                rows.end_sessions(operator.id)
            return {"totp": False} if two_step.disable(operator) else None

        self._act(EventKind.OPERATOR_CHANGED, (name,), write)

    def _hash(self, password: str) -> str:
        with self.passwords.turn():
            return self.passwords.hash(password)

    def _act(
        self, kind: EventKind, names: tuple[str, ...], change: Callable[[str, datetime], Changes | None]
    ) -> datetime:
        """Change each operator and journal the changes, in one transaction; None is no change. Return its time."""

        def write() -> datetime:
            with self.database.atomic():
                now = self.clock()
                for name in dict.fromkeys(names):
                    changes = change(name, now)
                    if changes is not None:
                        details = {"operator": name, **changes}
                        journal.append([journal.Entry(at=now, kind=kind, actor=self.actor, details=details)])
                return now

        return self.database.with_connection(write, once=True)


def _locked(name: str, session_token: str | None = None) -> models.Operator:
    """Lock an operator; with a token, the change is the session's, which a change of the password may have ended."""
    # PostgreSQL refuses a NUL; no name has unprintable characters.
    operator = rows.lock(name) if name.isprintable() else None
    if operator is None:
        raise OperatorNotFoundError(name)
    if session_token and not rows.has_session(digest(session_token)):
        raise LoggedOutError
    return operator
