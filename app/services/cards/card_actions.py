"""Operators' actions on cards: previewed without a lock, applied under lock; and edits of batches and notes."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.domain.cards.card_actions import TEXTS, Action, Outcome, apply, check_edit, journalled
from app.domain.cards.cards import CardFacts, card_id_of, format_validity, parse_card_id
from app.domain.codes import EventKind
from app.domain.operators.ceilings import Ceilings, check_extended
from app.domain.texts import RefusedError, Text
from app.services.formatting import escaped
from app.services.operators.ceilings import Acting, ceilings_of
from app.storage import bindings, journal, models
from app.storage import cards as card_rows

_KINDS = {
    Action.FREEZE: EventKind.FROZEN,
    Action.UNFREEZE: EventKind.UNFROZEN,
    Action.UNBIND: EventKind.UNBOUND,
    Action.EXTEND: EventKind.EXTENDED,
    Action.SHORTEN: EventKind.SHORTENED,
    Action.DELETE: EventKind.DELETED,
}


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What an action did at `at`: the cards that it changed, and those of them that it revived without a client."""

    at: datetime
    changed: tuple[str, ...]
    revived_unbound: tuple[str, ...]


@dataclass(slots=True)
class Preview:
    """What an action would do to cards; `changes` are those that it would change, with the outcomes."""

    changes: list[tuple[models.Card, Outcome]] = field(default_factory=list)
    unchanged: list[models.Card] = field(default_factory=list)
    refused: list[tuple[models.Card, Text]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def skipped(self) -> list[str]:
        """The IDs of the existing cards that the action would not change."""
        return [*(card.id for card in self.unchanged), *(card.id for card, _reason in self.refused)]


class CardNotFoundError(RefusedError):
    """No such card."""

    def __init__(self, typed: str) -> None:
        named = parse_card_id(typed) or escaped(typed.strip())
        super().__init__(f"卡密 {named} 不存在", f"there is no card {named}")


class CardActions(Acting):
    """The operators' actions on the cards of one database."""

    def apply(self, action: Action, card_ids: Iterable[str], by: timedelta | None = None) -> ActionResult:
        """Apply an action to cards, all or none, in one transaction with its journal entries.

        `card_ids` are as a person may have typed them; `by` is how much time `EXTEND` adds or `SHORTEN` takes.

        Raise CardNotFoundError if one of the cards does not exist, RefusedError if the action is not allowed on one,
        CeilingExceededError if a card would last longer than `limits` allow, or they changed too many cards today.
        """
        with self.database.transact():
            rows = self._locked(card_ids)
            now = self.clock()  # read under the lock: its last holder may have acted a moment ago
            outcome_of = self._judge(action, by, now, rows, card_rows.bound_cards([row.id for row in rows]))
            changed = {row.id: outcome for row in rows if (outcome := outcome_of(row)).is_changed}
            self.take_changes(len(changed), now)
            card_rows.write_outcomes(changed.values())
            self._journal(now, _KINDS[action], {each: _details(action, o, by) for each, o in changed.items()})
            return ActionResult(now, tuple(changed), tuple(each for each, o in changed.items() if o.revives_unbound))

    def edit(self, card_ids: Iterable[str], changes: Mapping[str, str | None]) -> ActionResult:
        """Set the texts `batch` or `note`, None clears one; takes cards and raises as `apply`."""
        check_edit(changes)

        with self.database.transact():
            rows = self._locked(card_ids)
            now = self.clock()
            details = {row.id: journalled({name: getattr(row, name) for name in TEXTS}, changes) for row in rows}
            changed = {card_id: said for card_id, said in details.items() if said}
            self.take_changes(len(changed), now)
            if changed:
                models.Card.update(**changes).where(models.Card.id.in_([*changed])).execute()
            self._journal(now, EventKind.EDITED, changed)
            return ActionResult(now, tuple(changed), ())

    def preview(self, action: Action, card_ids: list[str], by: timedelta | None = None) -> Preview:
        """Return what `apply` would do to these cards, by their canonical IDs."""
        rows = [row for row in card_rows.find_all(card_ids) if self.sees(row)]
        bound = {row.id for row in rows if row.client is not None}
        outcome_of = self._judge(action, by, self.clock(), rows, bound)
        found = {row.id for row in rows}
        preview = Preview(missing=[card_id for card_id in card_ids if card_id not in found])
        for row in rows:
            try:
                outcome = outcome_of(row)
            except RefusedError as error:
                preview.refused.append((row, error.text))
                continue
            if outcome.is_changed:
                preview.changes.append((row, outcome))
            else:
                preview.unchanged.append(row)
        return preview

    def _locked(self, typed: Iterable[str]) -> list[models.Card]:
        """Lock the cards that texts name until the transaction ends; return them in the order of the texts."""
        named = {card_id_of(text): text for text in typed}
        rows = {row.id: row for row in bindings.lock_cards(list(named)) if self.sees(row)}
        for card_id, text in named.items():
            if card_id not in rows:
                raise CardNotFoundError(text)
        return [rows[card_id] for card_id in named]

    def _journal(self, now: datetime, kind: EventKind, details: Mapping[str, dict[str, object] | None]) -> None:
        journal.append(
            [journal.Entry(now, kind, None, each, actor=self.actor, details=details[each]) for each in details]
        )

    def _judge(
        self, action: Action, by: timedelta | None, now: datetime, rows: list[models.Card], bound: Collection[str]
    ) -> Callable[[models.Card], Outcome]:
        """Read what these rows do not say, and return the function from a row to what the action does to the card."""
        ceilings = Ceilings() if self.limits is None else ceilings_of(self.limits.owner)
        renewed = _renewed([row.id for row in rows]) if action is Action.DELETE else set()

        def outcome_of(row: models.Card) -> Outcome:
            outcome = apply(
                action, card_rows.as_domain(row), now, is_bound=row.id in bound, by=by, is_renewed=row.id in renewed
            )
            if action is Action.EXTEND and outcome.after is not None:
                check_extended(ceilings, outcome.after, now)
            return outcome

        return outcome_of


def _renewed(card_ids: list[str]) -> set[str]:
    """Return which of the cards were renewed with another."""
    others = models.Card.select(models.Card.renewed_card_id).where(models.Card.renewed_card_id.in_(card_ids))
    return {card_id for (card_id,) in others.tuples()}


def _details(action: Action, outcome: Outcome, by: timedelta | None) -> dict[str, object] | None:
    """Return what the journal has of an action beside the card; of a shorter card also what is left of it."""
    if by is None:
        return None
    said: dict[str, object] = {"by": format_validity(by)}
    if action is Action.SHORTEN and outcome.after is not None:
        said |= how_long(outcome.after)
    return said


def how_long(card: CardFacts) -> dict[str, object]:
    """Return how long a card lasts, as the journal says it."""
    if card.expires_at is None:
        return {"validity": format_validity(card.validity)}
    return {"expires_at": card.expires_at.isoformat()}
