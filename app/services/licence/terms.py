"""The vendor's terms: read, shown and changed, each change with its journal entry."""

from collections.abc import Iterable
from dataclasses import asdict, fields

from peewee import SQL

from app.domain.codes import EventKind
from app.domain.licence.terms import BindingTerm, RenewTerm, Terms, read_terms
from app.domain.texts import RefusedError
from app.services.operators.ceilings import Acting
from app.storage import journal
from app.storage.models import TermsRow


class TermsChangedError(RefusedError):
    """Somebody else has changed the terms since they were read."""

    def __init__(self) -> None:
        super().__init__(
            "其间条款已被修改，请核对后重新提交", "the terms were changed meanwhile: check them, then try again"
        )


class VendorTerms(Acting):
    """The vendor's terms in one database."""

    @staticmethod
    def read() -> tuple[int, Terms]:
        """Return how often the terms were changed, and the terms; 0 and the defaults where nobody has changed any."""
        row = TermsRow.select().dicts().first()
        if row is None:
            return 0, Terms()
        choices = {"binding": BindingTerm(row["binding"]), "self_renew": RenewTerm(row["self_renew"])}
        return row["revision"], Terms(**{each.name: row[each.name] for each in fields(Terms)} | choices)

    def change(self, given: Iterable[tuple[str, str]], seen: int | None = None) -> Terms:
        """Change terms by name, as a person wrote them, an empty text being the default; return all terms.

        `seen` is how often they were changed when the person read them, None where that does not matter. Change nothing
        and raise TermsChangedError if they were changed since then, RefusedError if a text is wrong.
        """
        wanted = list(given)

        with self.database.transact():
            # Not the row: before the first change there is none.
            self.database.execute_sql("LOCK TABLE terms IN SHARE ROW EXCLUSIVE MODE")
            revision, before = self.read()
            if seen not in {None, revision}:
                raise TermsChangedError
            after = read_terms(before, wanted)
            if after != before:
                row = {"revision": revision + 1, **asdict(after)}
                insert = TermsRow.insert(id=True, **row)
                insert.on_conflict(conflict_target=[SQL("id")], update=row).execute()
                old, new = before.as_texts(), after.as_texts()
                changed = [name for name in new if new[name] != old[name]]
                details = {
                    "terms": revision + 1,
                    "before": {name: old[name] for name in changed},
                    "after": {name: new[name] for name in changed},
                }
                journal.append(
                    [journal.Entry(self.clock(), EventKind.TERMS_CHANGED, actor=self.actor, details=details)]
                )
            return after
