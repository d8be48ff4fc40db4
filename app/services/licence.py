"""Licence evaluation: read the facts, apply the rules, write what follows, and sign the verdict.

Verification, file transfer and core functions use it, and add claims of their own to its verdicts.
"""

import logging
import secrets
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app import metrics
from app.clock import Clock
from app.domain.cards import ID_RANDOM_BYTES, REFERENCE_LENGTH, id_from_random
from app.domain.codes import Code
from app.domain.errors import ConflictError, DatabaseUnavailableError
from app.domain.policy import OPEN_PROGRAM, Facts, VerificationRequest, decide, is_outdated
from app.domain.terms import Terms
from app.services.evaluation import Evaluation, bound_to, entries_of, rejection
from app.services.guesses import hides, refuse_guesses
from app.services.in_force import InForce, VendorRules
from app.storage import bindings, cards, journal
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.touches import Touches
from app.tokens.keys import AUDIENCE
from app.tokens.signer import Signer

TOKEN_SECONDS = 300
_ATTEMPTS = 50  # each failed attempt means that another request succeeded; after this many something is wrong
logger = logging.getLogger(__name__)


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
    rules: VendorRules
    signer: Signer
    issuer: str
    timezone: ZoneInfo
    clock: Clock

    def evaluate(self, request: VerificationRequest) -> Evaluation:
        """Decide about a request by the rules and write what follows.

        Most requests change nothing: `touches` records them and returns the facts, before the rules see them.

        Raises:
            DatabaseUnavailableError: the database is away; nothing was decided.
            TooFastError: the card is not named by an ID, and the address has too many refusals: it may be guessing.
        """
        in_force = self.rules.get()
        at = self.clock()
        day = self._day(at)
        jti = id_from_random(secrets.token_bytes(ID_RANDOM_BYTES))
        if (blocked := self._blocked(request, at, jti, in_force)) is not None:
            return blocked
        # What would touch the card's row must not do so for a program that must be updated first.
        touched = None if is_outdated(request, in_force.terms) else self.touches.touch(request, at, day)
        if touched is not None and touched.client is not None:
            decision = decide(touched, request, at, in_force.terms)
            if decision.is_refresh:
                return Evaluation(request, at, jti, decision, touched.client.id, in_force)
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
        """
        entry = rejection(evaluation, code, details)

        def write() -> Evaluation:
            if code is Code.FUNCTION_NOT_FOUND:
                bindings.take_back(evaluation.request, self._day(evaluation.at))
            return self._journalled(evaluation, entry)

        return self.sign(self.database.with_connection(write), code, is_late=True)

    def _blocked(self, request: VerificationRequest, at: datetime, jti: str, in_force: InForce) -> Evaluation | None:
        """Refuse a request whose machine or network is on the block list; return None where neither is."""
        block = in_force.blocks.find(request.hardware_sha256, request.address)
        if block is None:
            return None
        evaluation = Evaluation(request, at, jti, decide(Facts(block=block), request, at), None, in_force)
        entry = rejection(evaluation, Code.CLIENT_BLOCKED, {"block": block})

        def write() -> None:
            # An imported card is journalled under its ID; its key, which still works, would be shown to sellers.
            known = entry.card_id != request.card_id and cards.existing([request.card_id])
            self._journalled(evaluation, replace(entry, card_id=request.card_id) if known else entry)

        self.database.with_connection(write)
        return evaluation

    def _attempt(self, request: VerificationRequest, at: datetime, day: date, jti: str) -> Evaluation | None:
        """Decide and write under a guard; return None when the guard finds that the facts have changed."""
        in_force = self.rules.get()  # again: the request may have waited for seconds
        if (blocked := self._blocked(request, at, jti, in_force)) is not None:
            return blocked
        counted = None if in_force.terms.changes_per_day is None else day
        facts = bindings.read_facts(self.database, request.card_id, request.hardware_sha256, counted)
        if hides(facts.card, request.sent_card_id, request.address, at):
            facts = Facts()
        decision = decide(facts, request, at, in_force.terms)
        if not decision.is_refresh:  # a card's own machine may share its address with somebody who guesses
            refuse_guesses(request.address, at, request.sent_card_id)
        client = facts.client or decision.released  # a client that moves to a card without a client keeps its ID
        if not decision.accepted:
            evaluation = Evaluation(request, at, jti, decision, None, in_force)
            entry = rejection(evaluation, decision.code, bound_to(facts, decision.code))
            return self._journalled(evaluation, entry)
        client_id = id_from_random(secrets.token_bytes(ID_RANDOM_BYTES)) if client is None else client.id
        evaluation = Evaluation(request, at, jti, decision, client_id, in_force)
        applied = bindings.apply(
            self.database,
            facts,
            decision,
            request,
            at=at,
            day=day,
            entries=entries_of(facts, evaluation),
            client_id=client_id,
            is_in_force=lambda: self.rules.get() == in_force,
        )
        return evaluation if applied else None

    def _journalled(self, evaluation: Evaluation, entry: Entry) -> Evaluation:
        """Journal a rejection; return it with the reference of its entry, or of the one that it repeats."""
        if journal.append_rejection(entry, self._day(entry.at)):
            return evaluation
        metrics.refusals_not_journalled.inc()
        # A customer who tries again shows the support the last answer: it leads to the entry that there is.
        reference = journal.reference_of_repeated(entry) or evaluation.reference
        return evaluation._replace(jti=evaluation.jti[:-REFERENCE_LENGTH] + reference)

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
        return claims | _of_terms(evaluation.in_force.terms, request, code)


def _numeric(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _of_terms(terms: Terms, request: VerificationRequest, code: Code) -> dict[str, str]:
    claims = {}
    if code in (Code.OK, Code.UPDATE_REQUIRED):
        claims = {"latest_version": terms.latest_version, "update_url": terms.update_url}
    if code is Code.OK and request.function == OPEN_PROGRAM:
        claims["notice"] = terms.notice
    return {name: value for name, value in claims.items() if value is not None}
