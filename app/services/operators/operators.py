"""The console's operators: their accounts, roles, passwords and ceilings."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from peewee import JOIN, fn

from app.domain.codes import EventKind
from app.domain.operators.ceilings import OPERATOR_DEFAULTS, Ceilings, check_ceilings, described, with_defaults
from app.domain.operators.operators import CONSOLE_ACTOR, Role, check_name, check_password
from app.domain.texts import RefusedError
from app.runtime.clock import Clock
from app.services.formatting import escaped
from app.services.operators.ceilings import ceilings_of, set_ceilings
from app.services.operators.passwords import PASSWORDS, Passwords
from app.services.random_tokens import digest
from app.storage import journal
from app.storage.cards import Owner
from app.storage.database import Database
from app.storage.journal import code_or_kind
from app.storage.models import Ceiling, Event, Operator, OperatorSession

Changes = dict[str, object]
Account = Operator
"""An operator's row."""
# Not FOR UPDATE: a long import or issue holds its operator's row by a foreign key, and log-ins must not wait for it.
# Removing the row waits nevertheless.
ROW_LOCK = "FOR NO KEY UPDATE"


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
    """The accounts of one database. `actor` is the name in the journal of the person who makes the changes.

    Methods that change an operator raise OperatorNotFoundError where there is none of that name, and those that get a
    `session_token` LoggedOutError where that session has ended; LoginBusyError, where others are logging in.
    """

    database: Database
    actor: str
    clock: Clock
    passwords: Passwords = PASSWORDS

    def list(self) -> Sequence[Account]:
        """Return all operators by name, without their secrets.

        Beside the columns they have those of their ceilings, `has_totp`, and `last_seen_at`: the last use of a
        session that has not ended, None after a log-out or 12 hours without a request.
        """
        used = fn.MAX(OperatorSession.last_seen_at)
        seen = OperatorSession.select(used).where(OperatorSession.operator == Operator.id)
        query = Operator.select(
            *(Operator.id, Operator.name, Operator.role, Operator.created_at, Operator.password_changed_at),
            *(Ceiling.cards_per_day, Ceiling.longest_validity, Ceiling.changes_per_day),
            Operator.totp_secret.is_null(is_null=False).alias("has_totp"),
            seen.alias("last_seen_at"),
        )
        listed = query.join(Ceiling, JOIN.LEFT_OUTER).order_by(Operator.name).objects()
        return list(listed)

    def last_log_ins(self) -> dict[str, datetime]:
        """Return when each operator logged in last, by the journal's entries since they were added."""
        is_theirs = (Event.actor == fn.CONCAT(CONSOLE_ACTOR, Operator.name)) & (Event.at >= Operator.created_at)
        query = Event.select(Operator.name, fn.MAX(Event.at)).join(Operator, on=is_theirs)
        latest = query.where(code_or_kind == EventKind.LOGGED_IN).group_by(Operator.name)
        return dict(latest.tuples())

    def add(self, name: str, role: Role, password: str, ceilings: Ceilings | None = None) -> None:
        """Add an operator, with the role's default for a ceiling not given; RefusedError if something is invalid."""
        check_name(name)
        check_password(password, name)
        wanted = with_defaults(ceilings or Ceilings(), OPERATOR_DEFAULTS[role])
        check_ceilings(wanted)
        password_hash = self._hash(password)
        with self.database.transact():
            now = self.clock()
            row = {"name": name, "role": role.value, "password_hash": password_hash}
            insert = Operator.insert(**row, created_at=now, password_changed_at=now).on_conflict_ignore()
            added = list(insert.returning(Operator.id).execute())
            if not added:
                raise NameTakenError(name)
            set_ceilings(Owner(added[0].id), wanted)
            self._journal(EventKind.OPERATOR_ADDED, name, {"role": role.value, **described(wanted)}, now)

    def set_password(
        self, name: str, password: str, *, reset_totp: bool = False, session_token: str | None = None
    ) -> datetime:
        """Change a password and end the operator's sessions, and with `reset_totp` the second factor; return when."""
        check_password(password, name)
        password_hash = self._hash(password)
        with self.changing(name, session_token) as (operator, now, details):
            Operator.set_by_id(operator.id, {"password_hash": password_hash, "password_changed_at": now})
            end_sessions(operator.id)
            details["changed"] = "password"
            if reset_totp and remove_second_factor(operator):
                details["totp"] = False
        return now

    def set_role(self, name: str, role: Role) -> None:
        """Change an operator's role, from their next request on; raise LastOwnerError if no owner would be left."""
        with self.database.transact():
            owners = lock_owners()
            operator = _locked(name)
            if operator.role == role.value:
                return
            if owners == [name]:
                raise LastOwnerError
            Operator.set_by_id(operator.id, {"role": role.value})
            self._journal(EventKind.OPERATOR_CHANGED, name, {"role": role.value}, self.clock())

    def set_ceilings(self, name: str, ceilings: Ceilings) -> None:
        """Change an operator's ceilings, for the next cards that they issue; one that is not given stays."""
        check_ceilings(ceilings)
        with self.changing(name) as (operator, _now, details):
            if ceilings.given():
                owner = Owner(operator.id)
                set_ceilings(owner, with_defaults(ceilings, ceilings_of(owner)))
                details.update(described(ceilings))

    def remove(self, *names: str, force: bool = False) -> None:
        """Remove operators, all or none; LastOwnerError if no owner would be left, and `force` is not set."""
        with self.database.transact():
            owners = lock_owners()
            if owners and not force and set(owners) <= set(names):
                raise LastOwnerError
            for operator in [_locked(name) for name in dict.fromkeys(names)]:
                operator.delete_instance()  # their sessions go with them, and their cards become nobody's
                self._journal(EventKind.OPERATOR_REMOVED, operator.name, {"role": operator.role}, self.clock())

    def _hash(self, password: str) -> str:
        with self.passwords.turn():
            return self.passwords.hash(password)

    @contextmanager
    def changing(self, name: str, session_token: str | None = None) -> Iterator[tuple[Account, datetime, Changes]]:
        """Yield a locked operator, the time of the change, and its details, which are journalled if there are any.

        With a `session_token`, the change is that session's, which a change of the password may have ended.
        """
        with self.database.transact():
            operator, now = _locked(name, session_token), self.clock()
            details: Changes = {}
            yield operator, now, details
            if details:
                self._journal(EventKind.OPERATOR_CHANGED, name, details, now)

    def _journal(self, kind: EventKind, name: str, changes: Changes, now: datetime) -> None:
        details = {"operator": name, **changes}
        journal.append([journal.Entry(at=now, kind=kind, actor=self.actor, details=details)])


def find(name: str, lock: str = "") -> Operator | None:
    """Return an operator's row, locked by the clause `lock` where that is given; None if there is none."""
    # PostgreSQL refuses a NUL; no name has unprintable characters.
    operator: Operator | None = None
    if name.isprintable():
        operator = Operator.select().where(Operator.name == name).for_update(lock).first()
    return operator


def _locked(name: str, session_token: str | None = None) -> Operator:
    operator = find(name, ROW_LOCK)
    if operator is None:
        raise OperatorNotFoundError(name)
    if session_token and OperatorSession.get_or_none(OperatorSession.token_sha256 == digest(session_token)) is None:
        raise LoggedOutError
    return operator


def lock_owners() -> list[str]:
    """Lock the owners; return their names."""
    owners = Operator.select(Operator.name).where(Operator.role == Role.OWNER.value).order_by(Operator.id)
    return [row.name for row in owners.for_update(ROW_LOCK)]


def remove_second_factor(operator: Operator) -> bool:
    """Require no codes of an operator any more; return whether they were required."""
    Operator.set_by_id(operator.id, {"totp_secret": None, "totp_last_step": None})
    return operator.totp_secret is not None


def end_sessions(operator_id: int, *, but: str = "") -> int:
    """End an operator's sessions, but the one with this token; return how many."""
    others = (OperatorSession.operator == operator_id) & (OperatorSession.token_sha256 != digest(but))
    return int(OperatorSession.delete().where(others).execute())


def journal_log_outs(ended: int, actor: str, now: datetime) -> None:
    """Write into the journal, within the caller's transaction, that `actor` ended so many sessions, if any."""
    if ended:
        journal.append([journal.Entry(now, EventKind.LOGGED_OUT, actor=actor, details={"sessions": ended})])
