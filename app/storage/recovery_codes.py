"""The recovery codes of operators' two-step verification, by their digests; a used one is gone."""

from collections.abc import Iterable

from peewee import fn

from app.storage.models import RecoveryCode


def replace(operator_id: int, digests: Iterable[str]) -> None:
    """Replace an operator's codes, in the caller's transaction; an empty `digests` removes all of them."""
    RecoveryCode.delete().where(RecoveryCode.operator == operator_id).execute()
    rows = [{"operator": operator_id, "code_sha256": digest} for digest in digests]
    if rows:
        RecoveryCode.insert_many(rows).execute()


def take(operator_id: int, code_sha256: str) -> bool:
    """Use a code up; return False if it is gone. Of several at once one gets True."""
    is_it = (RecoveryCode.operator == operator_id) & (RecoveryCode.code_sha256 == code_sha256)
    return bool(RecoveryCode.delete().where(is_it).execute())


def counts() -> dict[int, int]:
    """Return how many codes are left, by operator; one without any is not there."""
    query = RecoveryCode.select(RecoveryCode.operator, fn.COUNT(RecoveryCode.code_sha256))
    return dict(query.group_by(RecoveryCode.operator).tuples())


def count(operator_id: int) -> int:
    """Return how many codes an operator has left."""
    left: int = RecoveryCode.select().where(RecoveryCode.operator == operator_id).count()
    return left
