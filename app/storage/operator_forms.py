"""Where the forms that operators sent have led, each written in the transaction that did what it says."""

from datetime import datetime

from app.storage.models import OperatorForm

PRUNE_BATCH = 1_000
_NOWHERE = ""


def claim(form_sha256: str, operator_id: int, now: datetime) -> bool:
    """Take a form, within the caller's transaction; False when it was taken before.

    While another transaction holds the same form, this waits for its end: whatever it came to is then to be seen.

    Raises:
        peewee.IntegrityError: there is no such operator any more.
    """
    taken = (
        OperatorForm.insert(form_sha256=form_sha256, operator=operator_id, location=_NOWHERE, created_at=now)
        .on_conflict_ignore()
        .returning(OperatorForm.form_sha256)
        .execute()
    )
    return len(list(taken)) == 1


def keep(form_sha256: str, location: str) -> None:
    """Write down where a form led that the caller's transaction has claimed."""
    OperatorForm.update(location=location).where(OperatorForm.form_sha256 == form_sha256).execute()


def location(form_sha256: str) -> str | None:
    """Return where a form led; None when it is unknown, as after it was pruned."""
    found = OperatorForm.get_or_none(OperatorForm.form_sha256 == form_sha256)
    return None if found is None else found.location


def prune(before: datetime) -> int:
    """Delete up to `PRUNE_BATCH` forms from before `before`; return how many."""
    old = OperatorForm.select(OperatorForm.form_sha256).where(OperatorForm.created_at < before).limit(PRUNE_BATCH)
    deleted: int = OperatorForm.delete().where(OperatorForm.form_sha256.in_(old)).execute()
    return deleted
