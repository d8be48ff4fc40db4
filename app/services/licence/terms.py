"""The vendor's terms for each program: read, shown and changed, each change with its journal entry."""

from collections.abc import Iterable
from dataclasses import asdict, fields

from app.domain.codes import EventKind
from app.domain.licence.terms import BindingTerm, RenewTerm, Terms, read_terms
from app.domain.programs import MAIN, named
from app.domain.texts import RefusedError
from app.services.operators.ceilings import Acting
from app.services.programs import find
from app.storage import journal
from app.storage.models import Program


class TermsChangedError(RefusedError):
    """Somebody else has changed the terms since they were read."""

    def __init__(self) -> None:
        super().__init__(
            "其间条款已被修改，请核对后重新提交", "the terms were changed meanwhile: check them, then try again"
        )


def terms_of(row: Program) -> Terms:
    """Return the terms that a program's row has."""
    choices = {"binding": BindingTerm(row.binding), "self_renew": RenewTerm(row.self_renew)}
    return Terms(**{each.name: getattr(row, each.name) for each in fields(Terms)} | choices)


class VendorTerms(Acting):
    """The vendor's terms in one database; ProgramNotFoundError where there is no such program."""

    @staticmethod
    def read(program: str = MAIN) -> tuple[int, Terms]:
        """Return how often a program's terms were changed, and the terms."""
        row = find(program)
        return row.revision, terms_of(row)

    def change(self, given: Iterable[tuple[str, str]], seen: int | None = None, program: str = MAIN) -> Terms:
        """Change terms by name, as a person wrote them, an empty text being the default; return all terms.

        `seen` is how often they were changed when the person read them, None where that does not matter. Change nothing
        and raise TermsChangedError if they were changed since then, RefusedError if a text is wrong.
        """
        with self.database.transact():
            row = find(program, lock="FOR NO KEY UPDATE")
            if seen not in {None, row.revision}:
                raise TermsChangedError
            before = terms_of(row)
            after = read_terms(before, given)
            if after != before:
                Program.set_by_id(program, {"revision": row.revision + 1, **asdict(after)})
                old, new = before.as_texts(), after.as_texts()
                changed = [name for name in new if new[name] != old[name]]
                details = {
                    **named(program),
                    "terms": row.revision + 1,
                    "before": {name: old[name] for name in changed},
                    "after": {name: new[name] for name in changed},
                }
                journal.append(
                    [journal.Entry(self.clock(), EventKind.TERMS_CHANGED, actor=self.actor, details=details)]
                )
            return after
