"""The one row of the vendor's terms."""

from dataclasses import asdict, fields

from peewee import SQL

from app.domain.terms import BindingTerm, RenewTerm, Terms
from app.storage.models import VendorTerms, database

_NAMES = tuple(field.name for field in fields(Terms))


def read() -> tuple[int, Terms]:
    """Return how often the terms were changed, and the terms; 0 and the defaults where nobody has changed any."""
    row = VendorTerms.select().first()
    if row is None:
        return 0, Terms()
    values = {name: getattr(row, name) for name in _NAMES}
    choices = {"binding": BindingTerm(row.binding), "self_renew": RenewTerm(row.self_renew)}
    return row.revision, Terms(**values | choices)


def lock() -> None:
    """Keep others from changing the terms until the caller's transaction ends; before the first change no row is."""
    database.execute_sql("LOCK TABLE terms IN SHARE ROW EXCLUSIVE MODE")


def write(revision: int, terms: Terms) -> None:
    """Replace the terms; the caller holds the lock."""
    values = {"revision": revision, **asdict(terms)}
    VendorTerms.insert(id=True, **values).on_conflict(conflict_target=[SQL("id")], update=values).execute()
