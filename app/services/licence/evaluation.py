"""The evaluation of a request, and what the journal has of it."""

from datetime import datetime
from typing import Any, NamedTuple

from app.domain.addresses import known
from app.domain.cards.cards import REFERENCE_LENGTH, parse_card_id
from app.domain.codes import COUNTED, Change, Code, EventKind
from app.domain.licence.policy import Binding, ClientFacts, Decision, Facts, VerificationRequest
from app.services.licence.vendor_rules import CurrentRules, ProgramRules
from app.storage.journal import MAX_REFUSED_HARDWARE, REFUSALS, Entry


class Evaluation(NamedTuple):
    """The decision on a request, already written to the database.

    `at` is the time of the decision. `jti` is the ID of the verdict to come. `client_id` is the client that an
    accepted card is bound to now, None for a rejection. `current` is what the request was judged by.
    """

    request: VerificationRequest
    at: datetime
    jti: str
    decision: Decision
    client_id: str | None
    current: CurrentRules = CurrentRules()

    @property
    def rules(self) -> ProgramRules:
        """What the program of the request has in force."""
        return self.current.of(self.request.program)

    @property
    def reference(self) -> str:
        """The end of `jti`, by which the vendor finds the journal entry."""
        return self.jti[-REFERENCE_LENGTH:]


def entries_of(facts: Facts, evaluation: Evaluation) -> list[Entry]:
    """Return the journal entries of an accepted request; most have none."""
    decision, card_id, entries = evaluation.decision, evaluation.request.card_id, []
    if decision.released is not None:
        details = {"moved_to": card_id, "client_id": decision.released.id}
        entries.append(_entry(evaluation, EventKind.RELEASED, card_id=decision.released.card_id, details=details))
    if decision.activates:
        entries.append(_entry(evaluation, EventKind.ACTIVATED))
    elif decision.binding is not Binding.KEEP:
        entries.append(_entry(evaluation, EventKind.BOUND))
    if facts.client is not None and (decision.hardware_changed or decision.address_changed):
        before = _environment(facts.client)
        counted = Change.HARDWARE_CHANGED if decision.hardware_changed else Change.ADDRESS_CHANGED
        entries.append(_entry(evaluation, EventKind.ENVIRONMENT_CHANGED, details={"before": before}, counted=counted))
    return entries


def details_of(facts: Facts, code: Code) -> dict[str, Any] | None:
    """Return what else a rejection is journalled with.

    It is the block, what another machine's card is bound to, or the program of a card with which another one asked.
    """
    if facts.block is not None:
        return {"block": facts.block}
    if code is Code.CARD_NOT_FOUND and facts.card is not None:
        return {"program": facts.card.program}
    if code is not Code.CLIENT_MISMATCH or facts.client is None:
        return None
    return {"before": _environment(facts.client)}


def _environment(client: ClientFacts) -> dict[str, str | None]:
    return {"hardware": client.hardware, "ip": known(client.address)}


def rejection(evaluation: Evaluation, code: Code, details: dict[str, Any] | None = None) -> Entry:
    """Return the journal entry of a request that is rejected with this code.

    Of a mismatch it has all that was sent except a function's arguments, which may be large. A nonce seen before shows
    a replayed request. Refusals, which anybody can cause, are kept short.
    """
    request, hardware = evaluation.request, evaluation.request.hardware
    more: dict[str, str | None] = {}
    if code is Code.CLIENT_MISMATCH:
        more = {"nonce": request.nonce, "client_public_key": request.public_key}
    elif code in REFUSALS:
        hardware, more = hardware[:MAX_REFUSED_HARDWARE], {"hardware_sha256": request.hardware_sha256}
    details = {**(details or {}), "version": request.version, **more}
    fields = {
        "code": code,
        "details": {name: value for name, value in details.items() if value is not None} or None,
        "counted": code if code in COUNTED else None,
        "hardware": hardware,
    }
    return _entry(evaluation, EventKind.REJECTED, **fields)


def _named(evaluation: Evaluation) -> str:
    """Return the card as entries name it: where there is none, a text that is no card ID stands there as sent."""
    request = evaluation.request
    is_text = evaluation.decision.card is None and parse_card_id(request.sent_card_id) is None
    return request.sent_card_id if is_text else request.card_id


def _entry(evaluation: Evaluation, kind: EventKind, **more: Any) -> Entry:  # noqa: ANN401  # the fields of Entry
    request = evaluation.request
    fields: dict[str, Any] = {
        "card_id": _named(evaluation),
        "reference": evaluation.reference,
        "ip": request.address,
        "claimed_ip": request.claimed_ip,
        "hardware": request.hardware,
        "function": request.function,
    } | more
    if evaluation.rules.revision:
        fields["details"] = {**(fields.get("details") or {}), "terms": evaluation.rules.revision}
    return Entry(evaluation.at, kind, **fields)
