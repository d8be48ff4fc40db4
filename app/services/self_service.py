"""Self-service (客户自助): customers look up, unbind and renew their own cards (docs/protocol.md)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app.domain.cards.card_actions import Outcome
from app.domain.cards.cards import CardFacts, card_id_of, format_validity, parse_card_id
from app.domain.codes import Code, EventKind
from app.domain.programs import MAIN
from app.domain.self_service import CUSTOMER, WINDOW, CustomersCard, RenewNotAllowedError, RenewReason
from app.domain.texts import RefusedError
from app.runtime import metrics
from app.runtime.clock import Clock
from app.services.cards.card_actions import CardNotFoundError, how_long
from app.services.licence.guesses import hides, refuse_guesses
from app.services.licence.vendor_rules import CurrentRules, VendorRules
from app.storage import bindings, journal, models
from app.storage import cards as card_rows
from app.storage.database import Database
from app.storage.models import Event

Rows = dict[str, models.Card]
"""The rows of cards by their IDs."""


class ChangedMeanwhileError(RefusedError):
    """The card is not as it was when the customer was asked to confirm; nothing was done."""

    def __init__(self) -> None:
        super().__init__("卡密的状态已变化，请核对后再确认", "the card has changed: check it and confirm again")


class Customer(NamedTuple):
    """Who asks, and what their request is judged by: one version of the terms."""

    address: str
    rules: CurrentRules


@dataclass(frozen=True, slots=True)
class SelfService:
    """Self-service on the cards of one database; refusals are journalled by the days of `timezone`, the vendor's.

    Methods that take a key as it was `typed` raise CardNotFoundError where there is no such card, and TooFastError
    where the customer's address guesses too often; all of them DatabaseUnavailableError.
    """

    database: Database
    rules: VendorRules
    timezone: ZoneInfo
    clock: Clock

    def is_on(self) -> bool:
        """Return whether the vendor offers self-service, for one program at least."""
        return any(rules.terms.self_service for rules in self.rules.get().programs.values())

    def enter(self, address: str) -> Customer:
        """Return the customer at an address; raise ClientBlockedError if the address is blocked."""
        rules = self.rules.get()
        rules.refuse_blocked(address)
        return Customer(address, rules)

    def status(self, customer: Customer, typed: str) -> CustomersCard:
        """Return how a card stands."""
        with self._asking(customer, typed):
            return self._own(customer, _found(typed), typed)

    def unbind(self, customer: Customer, typed: str, mark: str | None = None) -> CustomersCard:
        """Unbind a card and take the cost off its expiry, in one transaction with its journal entry.

        `mark` is of the card as the customer saw it before confirming; None where nobody asked to confirm. Raise
        UnbindNotAllowedError if the terms or the card's state do not allow it, ChangedMeanwhileError if the card stands
        otherwise than at that mark.
        """
        with self._asking(customer, typed), self.database.transact():
            before = self._own(customer, _locked(typed), typed)
            if mark not in {None, before.mark}:
                raise ChangedMeanwhileError
            outcome = before.unbinding()
            if not outcome.is_changed:
                return before
            card_rows.write_outcomes([outcome])
            journal.append([_entry(customer, outcome.at, EventKind.SELF_UNBOUND, before.card, _cost(outcome))])
            unbound_at = (outcome.at, *before.unbound_at)
            return replace(before, card=outcome.after or outcome.before, is_bound=False, unbound_at=unbound_at)

    def renewal(self, customer: Customer, typed: str, second: str) -> Outcome:
        """Return what `renew` would do to a card now; it raises what `renew` raises."""
        with self._asking(customer, typed, second):
            found = _found(typed, second)
            return self._own(customer, found, typed).renewal(self._card(customer, found, second))

    def renew(self, customer: Customer, typed: str, second: str) -> CustomersCard:
        """Use up an unused second card to renew a card, in one transaction, or raise RenewNotAllowedError."""
        with self._asking(customer, typed, second), self.database.transact():
            found = _locked(typed, second)
            before = self._own(customer, found, typed)
            outcome = before.renewal(self._card(customer, found, second))
            card, spent = outcome.after or outcome.before, found[card_id_of(second)]
            card_rows.write_outcomes([outcome])
            models.Card.update(renewed_card_id=card.id).where(models.Card.id == spent.id).execute()
            by = {"by": format_validity(spent.validity)}
            said = {"with": spent.id, **by, **how_long(card)}, {"renewed": card.id, **by}
            entries = [_entry(customer, outcome.at, EventKind.RENEWED, card, said[0])]
            journal.append(
                [*entries, _entry(customer, outcome.at, EventKind.RENEWED, card_rows.as_domain(spent), said[1])]
            )
            return replace(before, card=card)

    def _own(self, customer: Customer, found: Rows, typed: str) -> CustomersCard:
        """Return how a card stands now. Before a change its lock is held, and the time is read under the lock."""
        card = self._card(customer, found, typed)
        if card is None:
            raise CardNotFoundError(typed)
        is_bound = bool(card_rows.bound_cards([card.id]))
        at, terms = self.clock(), customer.rules.of(card.program).terms
        unbindings = Event.select(Event.at).where(
            Event.card_id == card.id, journal.code_or_kind == EventKind.SELF_UNBOUND.value, Event.at > at - WINDOW
        )
        latest = unbindings.order_by(Event.at.desc()).limit(terms.self_unbind_per_30_days)
        return CustomersCard(card, at, is_bound, tuple(event.at for event in latest), terms)

    def _card(self, customer: Customer, found: Rows, typed: str) -> CardFacts | None:
        row = found.get(card_id_of(typed))
        card = None if row is None else card_rows.as_domain(row)
        if card is None or hides(card, typed, customer.address, self.clock()):
            return None
        return card if customer.rules.of(card.program).terms.self_service else None

    @contextmanager
    def _asking(self, customer: Customer, typed: str, *second: str) -> Iterator[None]:
        """Run the block unless the customer may be guessing; journal keys of cards that do not exist."""
        now = self.clock()
        refuse_guesses(customer.address, now, typed, *second)
        try:
            yield
        except CardNotFoundError:
            self._journal_unknown(customer, typed)
            raise
        except RenewNotAllowedError as error:
            if error.reason is RenewReason.SECOND_CARD_NOT_FOUND:
                self._journal_unknown(customer, *second)
            raise

    def _journal_unknown(self, customer: Customer, typed: str) -> None:
        now, rules = self.clock(), customer.rules.of(MAIN)
        details = {"terms": rules.revision} if rules.revision else None
        card_id = parse_card_id(typed) or typed
        entry = journal.Entry(now, EventKind.REJECTED, Code.CARD_NOT_FOUND, card_id, details=details)
        entry = replace(entry, ip=customer.address, actor=CUSTOMER)
        if not journal.append_rejection(entry, now.astimezone(self.timezone).date()):
            metrics.refusals_not_journalled.inc()


def _found(*typed: str) -> Rows:
    return {row.id: row for row in card_rows.find_all([card_id_of(text) for text in typed])}


def _locked(*typed: str) -> Rows:
    return {row.id: row for row in bindings.lock_cards([card_id_of(text) for text in typed])}


def _cost(outcome: Outcome) -> dict[str, Any]:
    """Return what the journal has of an unbinding: what it took off the expiry, if anything."""
    until, after = outcome.before.expires_at, outcome.after and outcome.after.expires_at
    if until is None or after is None or until == after:
        return {}
    return {"cost": format_validity(until - after), "expires_at": after.isoformat()}


def _entry(
    customer: Customer, at: datetime, kind: EventKind, card: CardFacts, details: dict[str, Any]
) -> journal.Entry:
    if revision := customer.rules.of(card.program).revision:
        details = details | {"terms": revision}
    return journal.Entry(at, kind, card_id=card.id, ip=customer.address, actor=CUSTOMER, details=details or None)
