"""Licence evaluation: read the facts, apply the rules, write what follows, and sign the verdict."""

import logging
import secrets
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app.domain.cards.cards import ID_RANDOM_BYTES, REFERENCE_LENGTH, id_from_random, parse_card_id
from app.domain.codes import Code
from app.domain.errors import ConflictError, DatabaseUnavailableError
from app.domain.licence.policy import OPEN_PROGRAM, Facts, VerificationRequest, decide, is_outdated
from app.domain.licence.terms import Terms
from app.domain.programs import issuer_of
from app.runtime import metrics
from app.runtime.clock import Clock
from app.services.licence.evaluation import Evaluation, details_of, entries_of, rejection
from app.services.licence.guesses import hides, refuse_guesses
from app.services.licence.vendor_rules import CurrentRules, VendorRules
from app.services.programs import DataKeys
from app.storage import bindings, journal
from app.storage.batcher import Batcher
from app.storage.database import Database
from app.storage.journal import Entry
from app.tokens.keys import AUDIENCE
from app.tokens.sealing import seal_to
from app.tokens.signer import VERDICT_TYPE, Signer

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
    batcher: Batcher
    rules: VendorRules
    signer: Signer
    issuer: str
    timezone: ZoneInfo
    clock: Clock

    def evaluate(self, request: VerificationRequest) -> Evaluation:
        """Decide about a request by the rules and write what follows.

        Most requests change nothing: `batcher` records them and returns the facts, before the rules see them.

        Raise DatabaseUnavailableError if the database is away and nothing was decided, UnknownProgramError if there is
        no such program, TooFastError if the card is not named by an ID and the address has too many refusals: it may be
        guessing.
        """
        at = self.clock()
        day = at.astimezone(self.timezone).date()
        jti = id_from_random(secrets.token_bytes(ID_RANDOM_BYTES))
        if (touched := self._touched(request, at, day, jti)) is not None:
            return touched
        for _ in range(_ATTEMPTS):
            rules = self.rules.get()  # each time: the request may have waited for seconds
            try:
                facts = self._facts(request, rules, at, day)
                decision = decide(facts, request, at, rules.of(request.program).terms)
                if facts.block is None and not decision.is_refresh:
                    # A card's own machine may share its address with somebody who guesses.
                    refuse_guesses(request.address, at, request.sent_card_id)
                evaluation = Evaluation(request, at, jti, decision, None, rules)
                if not decision.accepted:
                    return self._rejected(
                        evaluation, rejection(evaluation, decision.code, details_of(facts, decision.code)), day
                    )
                # A client that moves to a card without a client keeps its ID.
                client = facts.client or decision.released
                client_id = id_from_random(secrets.token_bytes(ID_RANDOM_BYTES)) if client is None else client.id
                applied = bindings.apply(
                    self.database,
                    facts,
                    decision,
                    request,
                    at=at,
                    day=day,
                    entries=entries_of(facts, evaluation),
                    client_id=client_id,
                    are_current=partial(self._are_current, rules),
                )
                if applied:
                    return evaluation._replace(client_id=client_id)
            except ConflictError:
                continue
        logger.error(
            "gave up deciding: the facts changed at every attempt", extra={"reference": jti[-REFERENCE_LENGTH:]}
        )
        raise DatabaseUnavailableError("the facts changed at every attempt")

    def _touched(self, request: VerificationRequest, at: datetime, day: date, jti: str) -> Evaluation | None:
        """Record a request that changes nothing; return None for any other."""
        rules = self.rules.get()
        # What would touch the card's row must not do so for a machine that is blocked or a program that is too old.
        is_blocked = rules.blocks.find(request.hardware_sha256, request.address) is not None
        if is_blocked or is_outdated(request, rules.of(request.program).terms):
            return None
        facts = self.batcher.touch(request, at, day)
        if facts is None or facts.client is None:
            return None
        decision = decide(facts, request, at, rules.of(request.program).terms)
        return Evaluation(request, at, jti, decision, facts.client.id, rules) if decision.is_refresh else None

    def _facts(self, request: VerificationRequest, rules: CurrentRules, at: datetime, day: date) -> Facts:
        block = rules.blocks.find(request.hardware_sha256, request.address)
        if block is not None and parse_card_id(request.sent_card_id) is not None:
            return Facts(block=block)
        day_counted = None if rules.of(request.program).terms.changes_per_day is None else day
        asked = (request.card_id, request.hardware_sha256, day_counted, request.program)
        facts = bindings.read_facts(self.database, *asked)
        if block is not None:  # an imported card is journalled under its ID: its key, which works, is not for sellers
            return Facts(facts.card, block=block)
        return Facts() if hides(facts.card, request.sent_card_id, request.address, at) else facts

    def sign(
        self,
        evaluation: Evaluation,
        code: Code | None = None,
        claims: dict[str, Any] | None = None,
        *,
        is_late: bool = False,
    ) -> Verdict:
        """Sign the verdict on a request that was evaluated, with `claims` beside those that every verdict has.

        `code` replaces the decision's when an accepted request failed afterwards. The verdict is as of the decision's
        time, or as of now if it `is_late`, because work was done since.
        """
        code = code or evaluation.decision.code
        metrics.count_verdict(code)
        issued_at = self.clock() if is_late else evaluation.at
        signed = self.signer.sign(VERDICT_TYPE, self._claims(evaluation, code, issued_at) | (claims or {}))
        return Verdict(code, signed, evaluation.reference)

    def reject(self, evaluation: Evaluation, code: Code, details: dict[str, Any] | None = None) -> Verdict:
        """Journal and sign, as of now, the rejection of a request that the rules had accepted."""
        day = evaluation.at.astimezone(self.timezone).date()
        if code is Code.FUNCTION_NOT_FOUND:  # usage counts the functions that exist
            bindings.take_back(evaluation.request, day)
        return self.sign(self._rejected(evaluation, rejection(evaluation, code, details), day), code, is_late=True)

    def _are_current(self, rules: CurrentRules) -> bool:
        return self.rules.get() == rules

    def _rejected(self, evaluation: Evaluation, entry: Entry, day: date) -> Evaluation:
        """Journal a rejection; return it with the reference of its entry, or of the one that it repeats."""
        if journal.append_rejection(entry, day):
            return evaluation
        metrics.refusals_not_journalled.inc()
        # A customer who tries again shows the support the last answer: it leads to the entry that there is.
        reference = journal.reference_of_repeated(entry) or evaluation.reference
        return evaluation._replace(jti=evaluation.jti[:-REFERENCE_LENGTH] + reference)

    def _claims(self, evaluation: Evaluation, code: Code, at: datetime) -> dict[str, Any]:
        request = evaluation.request
        issued_at = int(at.timestamp())
        claims: dict[str, Any] = {
            "iss": issuer_of(self.issuer, request.program),
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
        return claims | _of_terms(evaluation.rules.terms, request, code)


@dataclass(frozen=True, slots=True)
class Verification:
    """Answers `POST /v1/verify`; `offline_grace` is how long a verdict may stand in for the server."""

    licences: LicenceService
    data_keys: DataKeys
    offline_grace: timedelta | None = None

    def verify(self, request: VerificationRequest) -> Verdict:
        """Evaluate a request and return the signed verdict, or raise as `LicenceService.evaluate`."""
        evaluation = self.licences.evaluate(request)
        earns_key = evaluation.decision.accepted and request.function == OPEN_PROGRAM
        return self.licences.sign(evaluation, claims=self._key_claims(evaluation) if earns_key else None)

    def _key_claims(self, evaluation: Evaluation) -> dict[str, Any]:
        program, public_key = evaluation.request.program, evaluation.request.public_key
        key = self.data_keys.open(program, evaluation.rules.data_key)
        claims: dict[str, Any] = (
            {"KERNAL_DATA_KEY": key} if public_key is None else {"KERNAL_DATA_KEY_SEALED": seal_to(public_key, key)}
        )
        if self.offline_grace is not None:
            until = int(evaluation.at.timestamp()) + int(self.offline_grace.total_seconds())
            card = evaluation.decision.card
            expires_at = None if card is None else card.expires_at
            claims["offline_until"] = until if expires_at is None else min(until, int(expires_at.timestamp()))
        return claims


def _numeric(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _of_terms(terms: Terms, request: VerificationRequest, code: Code) -> dict[str, str]:
    claims = {}
    if code in (Code.OK, Code.UPDATE_REQUIRED):
        claims = {"latest_version": terms.latest_version, "update_url": terms.update_url}
    if code is Code.OK and request.function == OPEN_PROGRAM:
        claims["notice"] = terms.notice
    return {name: value for name, value in claims.items() if value is not None}
