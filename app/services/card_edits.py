"""Changes of batches and notes: of one card or many, all or none, in one transaction with the journal entries."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.clock import Clock
from app.domain.card_edits import Texts, check_edit, journalled
from app.domain.cards import card_id_of
from app.domain.codes import EventKind
from app.services.card_actions import ActionResult, lock_named
from app.services.ceilings import Limits
from app.storage import journal
from app.storage.database import Database
from app.storage.models import Card


@dataclass(frozen=True, slots=True)
class CardEdits:
    """Edits cards of one database; `actor` is the operator's name in the journal, `limits` are theirs, if any."""

    database: Database
    actor: str
    clock: Clock
    limits: Limits | None = None

    def apply(self, card_ids: Iterable[str], changes: Mapping[str, str | None]) -> ActionResult:
        """Set the texts that `changes` names, `batch` or `note`; None clears a text.

        `card_ids` are as a person may have typed them.

        Raises:
            CardNotFoundError: one of the cards does not exist.
            RefusedError: nothing is to be changed, or a text is invalid.
            app.domain.ceilings.CeilingExceededError: too many cards for one day.
        """
        check_edit(changes)
        typed = {card_id_of(text): text for text in card_ids}

        with self.database.transact():
            rows = lock_named(typed)
            now = self.clock()
            entries = []
            for card_id in typed:
                row = rows[card_id]
                if details := journalled(Texts(row.batch, row.note), changes):
                    entries.append(
                        journal.Entry(now, EventKind.EDITED, None, card_id, actor=self.actor, details=details)
                    )
            changed = tuple(str(entry.card_id) for entry in entries)
            if self.limits is not None and changed:
                self.limits.take_changes(len(changed), now)
            if changed:
                Card.update(**changes).where(Card.id.in_(changed)).execute()
            journal.append(entries)
            return ActionResult(now, changed, ())
