"""Licence evaluation: read the facts, apply the rules, write what follows, and sign the verdict.

Verification, file transfer and core functions use it, and add claims of their own to its verdicts.
"""

import logging
import secrets
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app import metrics
from app.clock import Clock
from app.domain.addresses import known
from app.domain.cards import ID_RANDOM_BYTES, REFERENCE_LENGTH, id_from_random, parse_card_id
from app.domain.codes import Code, Counted, EventKind
from app.domain.errors import ConflictError, DatabaseUnavailableError
from app.domain.policy import Binding, Client, Decision, Facts, VerificationRequest, decide
from app.storage import bindings, journal, usage
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.touches import Touches
from app.tokens.keys import AUDIENCE
from app.tokens.signer import Signer

TOKEN_SECONDS = 300
_ATTEMPTS = 50  # each failed attempt means that another request succeeded; after this many something is wrong
_COUNTED = {Code(kind): kind for kind in Counted if kind in set(map(str, Code))}
logger = logging.getLogger(__name__)


class Evaluation(NamedTuple):
    """The decision on a request, already written to the database.

    `at` is the time of the decision. `jti` is the ID of the verdict to come. `client_id` is the client that an
    accepted card is bound to now, None for a rejection.
    """

    request: VerificationRequest
    at: datetime
    jti: str
    decision: Decision
    client_id: str | None

    @property
    def reference(self) -> str:
        """The end of `jti`, by which the vendor finds the journal entry."""
        return self.jti[-REFERENCE_LENGTH:]


class Verdict(NamedTuple):
    """The answer: its code, the signed token, and the reference of the journal entry."""

    code: Code
    token: str
    reference: str


@dataclass(frozen=True, slots=True)
class LicenceService:
    """Evaluates requests against one database, which has the statements of `app.storage.statements` prepared.

    `issuer` is the server's configured name (claim `iss`); usage is counted by the days of `timezone`, the vendor's.
    """

    database: Database
    touches: Touches
    signer: Signer
    issuer: str
    timezone: ZoneInfo
    clock: Clock

    def evaluate(self, request: VerificationRequest) -> Evaluation:
        """Decide about a request by the rules and write what follows.

        Most requests change nothing: `touches` records them and returns the facts, before the rules see them.

        Raises:
            DatabaseUnavailableError: the database is away; nothing was decided.
        """
        at = self.clock()
        day = self._day(at)
        jti = id_from_random(secrets.token_bytes(ID_RANDOM_BYTES))
        touched = self.touches.touch(request, at, day)
        if touched is not None and touched.client is not None:
            decision = decide(touched, request, at)
            if decision.is_refresh:
                return Evaluation(request, at, jti, decision, touched.client.id)
        for _ in range(_ATTEMPTS):
            try:
                evaluation = self.database.with_connection(lambda: self._attempt(request, at, day, jti))
            except ConflictError:
                continue
            if evaluation is not None:
                return evaluation
        logger.error(
            "gave up deciding: the facts changed at every attempt", extra={"reference": jti[-REFERENCE_LENGTH:]}
        )
        raise DatabaseUnavailableError("the facts changed at every attempt")

    def sign(
        self,
        evaluation: Evaluation,
        code: Code | None = None,
        claims: dict[str, Any] | None = None,
        *,
        is_late: bool = False,
    ) -> Verdict:
        """Sign the verdict on a request.

        Args:
            evaluation: Returned by `evaluate`.
            code: Replaces the decision's code when an accepted request failed afterwards.
            claims: Added to the claims that every verdict has.
            is_late: Whether to issue the verdict as of now instead of the decision's time, because work was done since.
        """
        code = code or evaluation.decision.code
        metrics.count_verdict(code)
        issued_at = self.clock() if is_late else evaluation.at
        signed = self.signer.sign_verdict(self._claims(evaluation, code, issued_at) | (claims or {}))
        return Verdict(code, signed, evaluation.reference)

    def reject(self, evaluation: Evaluation, code: Code, details: dict[str, Any] | None = None) -> Verdict:
        """Journal and sign, as of now, the rejection of a request that the rules had accepted.

        Usage counts the functions that exist: a call of another one is taken back.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        entry = _rejection(evaluation, code, details)

        def write() -> None:
            if code is Code.FUNCTION_NOT_FOUND:
                request = evaluation.request
                usage.take_back(request.card_id, self._day(evaluation.at), request.function)
            self._append_rejection(entry)

        self.database.with_connection(write)
        return self.sign(evaluation, code, is_late=True)

    def _attempt(self, request: VerificationRequest, at: datetime, day: date, jti: str) -> Evaluation | None:
        """Decide and write under a guard; return None when the guard finds that the facts have changed."""
        facts = bindings.read_facts(self.database, request.card_id, request.hardware_sha256)
        decision = decide(facts, request, at)
        client = facts.client or decision.released  # a client that moves to a card without a client keeps its ID
        if not decision.accepted:
            evaluation = Evaluation(request, at, jti, decision, None)
            self._append_rejection(_rejection(evaluation, decision.code, _bound_to(facts, decision.code)))
            return evaluation
        client_id = id_from_random(secrets.token_bytes(ID_RANDOM_BYTES)) if client is None else client.id
        evaluation = Evaluation(request, at, jti, decision, client_id)
        entries = _entries(facts, evaluation)
        applied = bindings.apply(
            self.database, facts, decision, request, at=at, day=day, entries=entries, client_id=client_id
        )
        return evaluation if applied else None

    def _append_rejection(self, entry: Entry) -> None:
        if not journal.append_rejection(entry, self._day(entry.at)):
            metrics.refusals_not_journalled.inc()

    def _day(self, at: datetime) -> date:
        return at.astimezone(self.timezone).date()

    def _claims(self, evaluation: Evaluation, code: Code, at: datetime) -> dict[str, Any]:
        request = evaluation.request
        issued_at = int(at.timestamp())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": request.sent_card_id,
            "nonce": request.nonce,
            "function": request.function,
            "hardware_sha256": request.hardware_sha256,
            "request_sha256": request.request_sha256,
            "iat": issued_at,
            "exp": issued_at + TOKEN_SECONDS,
            "jti": evaluation.jti,
            "code": code,
            "accepted": code is Code.OK,
            "activated": evaluation.decision.activates,
        }
        card = evaluation.decision.card
        if card is not None and code in (Code.OK, Code.CARD_EXPIRED):
            claims["card_activated_at"] = _numeric(card.activated_at)
            claims["card_expires_at"] = _numeric(card.expires_at)
        return claims


def _numeric(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _entries(facts: Facts, evaluation: Evaluation) -> list[Entry]:
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
        counted = Counted.HARDWARE_CHANGED if decision.hardware_changed else Counted.ADDRESS_CHANGED
        entries.append(_entry(evaluation, EventKind.ENVIRONMENT_CHANGED, details={"before": before}, counted=counted))
    return entries


def _bound_to(facts: Facts, code: Code) -> dict[str, Any] | None:
    """Return what a card was bound to when another machine was rejected."""
    if code is not Code.CLIENT_MISMATCH or facts.client is None:
        return None
    return {"before": _environment(facts.client)}


def _environment(client: Client) -> dict[str, str | None]:
    return {"hardware": client.hardware, "ip": known(client.address)}


def _rejection(evaluation: Evaluation, code: Code, details: dict[str, Any] | None = None) -> Entry:
    return _entry(evaluation, EventKind.REJECTED, code=code, details=details, counted=_COUNTED.get(code))


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
    }
    return Entry(evaluation.at, kind, **(fields | more))
