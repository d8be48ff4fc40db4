"""Operators and their sessions."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from peewee import JOIN, Expression, fn

from app.domain.codes import EventKind
from app.domain.operators import CONSOLE_ACTOR, MAX_SESSIONS, Role
from app.storage.journal import code_or_kind
from app.storage.models import Ceiling, Event, Operator, OperatorSession, RecoveryCode

# Not FOR UPDATE: a long import or issue holds its operator's row by a foreign key, and log-ins must not wait for it.
# Removing the row waits nevertheless.
_LOCK = "FOR NO KEY UPDATE"


def any_exist() -> bool:
    """Return whether there is an operator."""
    return bool(Operator.select().exists())


def find(name: str) -> Operator | None:
    """Return an operator by name, or None."""
    found: Operator | None = Operator.get_or_none(Operator.name == name)
    return found


def lock(name: str) -> Operator | None:
    """Lock an operator in the caller's transaction; return None if the name is unknown."""
    found: Operator | None = Operator.select().where(Operator.name == name).for_update(_LOCK).first()
    return found


def lock_by_id(operator_id: int) -> Operator | None:
    """Lock an operator in the caller's transaction; return None if the operator is gone."""
    found: Operator | None = Operator.select().where(Operator.id == operator_id).for_update(_LOCK).first()
    return found


def lock_owners() -> list[str]:
    """Lock the owners in the caller's transaction; return their names."""
    owners = Operator.select(Operator.name).where(Operator.role == Role.OWNER.value).order_by(Operator.id)
    return [row.name for row in owners.for_update(_LOCK)]


def lock_unchanged(operator: Operator) -> bool:
    """Lock an operator in the caller's transaction; return False if password or second factor have changed."""
    same = (
        (Operator.id == operator.id)
        & (Operator.password_hash == operator.password_hash)
        & Expression(Operator.totp_secret, "IS NOT DISTINCT FROM", operator.totp_secret)
    )
    return Operator.select(Operator.id).where(same).for_update(_LOCK).first() is not None


def accounts() -> list[Operator]:
    """Return all operators by name, without their secrets.

    Beside the columns they have those of their ceilings, `has_totp`, `recovery_codes` (how many are left), and
    `last_seen_at`: the last use of a session that has not ended, None after a log-out or 12 hours without a request.
    """
    codes = RecoveryCode.select(fn.COUNT(RecoveryCode.code_sha256)).where(RecoveryCode.operator == Operator.id)
    seen = OperatorSession.select(fn.MAX(OperatorSession.last_seen_at)).where(OperatorSession.operator == Operator.id)
    query = Operator.select(
        *(Operator.id, Operator.name, Operator.role, Operator.created_at, Operator.password_changed_at),
        *(Ceiling.cards_per_day, Ceiling.longest_validity, Ceiling.changes_per_day),
        Operator.totp_secret.is_null(is_null=False).alias("has_totp"),
        codes.alias("recovery_codes"),
        seen.alias("last_seen_at"),
    )
    return list(query.join(Ceiling, JOIN.LEFT_OUTER).order_by(Operator.name).objects())


def last_log_ins() -> dict[str, datetime]:
    """Return when each operator logged in last, by the journal's entries since they were added."""
    actor = fn.CONCAT(CONSOLE_ACTOR, Operator.name)
    query = (
        Event.select(Operator.name, fn.MAX(Event.at))
        .join(Operator, on=(Event.actor == actor) & (Event.at >= Operator.created_at))
        .where(code_or_kind == EventKind.LOGGED_IN)
        .group_by(Operator.name)
    )
    return dict(query.tuples())


def add(name: str, role: Role, password_hash: str, now: datetime) -> int | None:
    """Add an operator; return the ID, None if the name is taken."""
    values = {"name": name, "role": role.value, "password_hash": password_hash}
    insert = Operator.insert(**values, created_at=now, password_changed_at=now).on_conflict_ignore()
    added = list(insert.returning(Operator.id).execute())
    return added[0].id if added else None


def change(operator_id: int, **values: object) -> None:
    """Set columns of an operator."""
    Operator.update(**values).where(Operator.id == operator_id).execute()


def take_step(operator_id: int, step: int) -> bool:
    """Mark the code of a step as used; return False if it or a later one was used before."""
    unused = Operator.totp_last_step.is_null() | (Operator.totp_last_step < step)
    taken = Operator.update(totp_last_step=step).where((Operator.id == operator_id) & unused).execute()
    return bool(taken)


def remove_second_factor(operator: Operator) -> bool:
    """Require no codes of an operator any more, in the caller's transaction; return whether they were required."""
    change(operator.id, totp_secret=None, totp_last_step=None)
    replace_recovery_codes(operator.id, ())
    return operator.totp_secret is not None


def replace_recovery_codes(operator_id: int, digests: Iterable[str]) -> None:
    """Replace an operator's recovery codes, in the caller's transaction."""
    RecoveryCode.delete().where(RecoveryCode.operator == operator_id).execute()
    for digest in digests:
        RecoveryCode.insert(operator=operator_id, code_sha256=digest).execute()


def take_recovery_code(operator_id: int, code_sha256: str) -> bool:
    """Use a recovery code up; return False if it is gone. Of several at once one gets True."""
    is_it = (RecoveryCode.operator == operator_id) & (RecoveryCode.code_sha256 == code_sha256)
    return bool(RecoveryCode.delete().where(is_it).execute())


def count_recovery_codes(operator_id: int) -> int:
    """Return how many recovery codes an operator has left."""
    left: int = RecoveryCode.select().where(RecoveryCode.operator == operator_id).count()
    return left


def remove(operator_id: int) -> None:
    """Remove an operator; sessions go with them."""
    Operator.delete().where(Operator.id == operator_id).execute()


def add_session(token_sha256: str, operator_id: int, now: datetime, expires_at: datetime) -> None:
    """Begin a session; of more than `MAX_SESSIONS` those end that were not used for longest."""
    kept = (
        OperatorSession.select(OperatorSession.token_sha256)
        .where(OperatorSession.operator == operator_id)
        .order_by(OperatorSession.last_seen_at.desc(), OperatorSession.token_sha256)
        .limit(MAX_SESSIONS - 1)
    )
    others = (OperatorSession.operator == operator_id) & OperatorSession.token_sha256.not_in(kept)
    OperatorSession.delete().where(others).execute()
    OperatorSession.insert(
        token_sha256=token_sha256, operator=operator_id, created_at=now, last_seen_at=now, expires_at=expires_at
    ).execute()


def session(token_sha256: str, now: datetime, seen_after: datetime) -> OperatorSession | None:
    """Return a valid session with its `operator`, or None."""
    found: OperatorSession | None = (
        OperatorSession.select(OperatorSession, Operator)
        .join(Operator)
        .where((OperatorSession.token_sha256 == token_sha256) & _holds(now, seen_after))
        .first()
    )
    return found


def sessions_of(operator_id: int, now: datetime, seen_after: datetime) -> list[OperatorSession]:
    """Return an operator's valid sessions, the last used first."""
    own = (OperatorSession.operator == operator_id) & _holds(now, seen_after)
    return list(OperatorSession.select().where(own).order_by(OperatorSession.last_seen_at.desc()))


def has_session(token_sha256: str) -> bool:
    """Return whether a session has not been ended."""
    return bool(OperatorSession.select().where(OperatorSession.token_sha256 == token_sha256).exists())


def touch_session(token_sha256: str, now: datetime) -> None:
    """Note that a session was used."""
    OperatorSession.update(last_seen_at=now).where(OperatorSession.token_sha256 == token_sha256).execute()


def end_session(token_sha256: str) -> int:
    """End a session; return how many there were."""
    ended: int = OperatorSession.delete().where(OperatorSession.token_sha256 == token_sha256).execute()
    return ended


def end_sessions(operator_id: int, *, but: str = "") -> int:
    """End an operator's sessions, except the one with the digest `but`; return how many there were."""
    others = (OperatorSession.operator == operator_id) & (OperatorSession.token_sha256 != but)
    ended: int = OperatorSession.delete().where(others).execute()
    return ended


def prune_sessions(now: datetime, seen_after: datetime) -> int:
    """Delete the sessions that are no longer valid; return how many."""
    deleted: int = OperatorSession.delete().where(~_holds(now, seen_after)).execute()
    return deleted


def _holds(now: datetime, seen_after: datetime) -> Any:  # noqa: ANN401  # a peewee expression
    return (OperatorSession.expires_at > now) & (OperatorSession.last_seen_at > seen_after)
