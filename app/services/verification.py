"""The use case that all else exists for: judge a request, write what follows, answer with a signed verdict."""

import hashlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app import metrics
from app.domain.cards import ID_RANDOM_BYTES, id_from_random, parse_card_id
from app.domain.codes import Code, EventKind
from app.domain.policy import OPEN_PROGRAM, Binding, Decision, Facts, Request, decide
from app.storage import bindings, journal
from app.storage.database import ConflictError, Database, DatabaseUnavailableError
from app.storage.journal import Entry
from app.tokens.keyring import AUDIENCE
from app.tokens.sealing import PublicKey, seal_to
from app.tokens.signer import Signer

TOKEN_SECONDS = 300
REFERENCE_LENGTH = 8
_ATTEMPTS = 50  # each miss means that somebody else got on; with this many something is wrong
logger = logging.getLogger(__name__)


class Question(NamedTuple):
    """A checked request. `address` is what the proxy saw, `claimed_ip` what the client believes."""

    card_id: str
    hardware: str
    function: str
    nonce: str
    address: str
    claimed_ip: str | None = None
    public_key: PublicKey | None = None


class Verdict(NamedTuple):
    """The answer: its code, the signed token, and the reference that the vendor finds in the journal."""

    code: Code
    token: str
    reference: str


@dataclass(frozen=True, slots=True)
class VerdictTerms:
    """What the vendor has set about verdicts."""

    issuer: str
    kernal_data_key: str
    timezone: ZoneInfo
    offline_grace: timedelta | None = None


class Verification:
    """Judges requests against one database.

    Args:
        database: With the hot statements prepared.
        signer: Signs the verdicts.
        terms: What the vendor has set.
        clock: Returns the time now, aware.
    """

    def __init__(self, database: Database, signer: Signer, terms: VerdictTerms, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._signer = signer
        self._terms = terms
        self._clock = clock

    def verify(self, question: Question) -> Verdict:
        """Judge a request by the rules, write what follows and return the signed verdict.

        Raises:
            DatabaseUnavailableError: the database is away; nothing was decided.
        """
        now = self._clock()
        jti = id_from_random(secrets.token_bytes(ID_RANDOM_BYTES))
        judged = bindings.Judged(
            card_id=parse_card_id(question.card_id) or question.card_id,
            request=Request(question.hardware, question.address, question.function),
            hardware_sha256=hashlib.sha256(question.hardware.encode()).hexdigest(),
            now=now,
            day=now.astimezone(self._terms.timezone).date(),
        )
        decision = self._judge(judged, question, jti[-REFERENCE_LENGTH:])
        metrics.count_verdict(decision.code)
        token = self._signer.sign_verdict(self._claims(question, judged, decision, jti))
        return Verdict(decision.code, token, jti[-REFERENCE_LENGTH:])

    def _judge(self, judged: bindings.Judged, question: Question, reference: str) -> Decision:
        for _ in range(_ATTEMPTS):
            try:
                decision = self._database.with_connection(lambda: self._attempt(judged, question, reference))
            except ConflictError:
                continue
            if decision is not None:
                return decision
        logger.error("gave up deciding: the facts changed at every attempt", extra={"reference": reference})
        raise DatabaseUnavailableError("the facts changed at every attempt")

    def _attempt(self, judged: bindings.Judged, question: Question, reference: str) -> Decision | None:
        """Read, decide, write under a guard; None when the guard misses."""
        facts = bindings.read_facts(self._database, judged.card_id, judged.hardware_sha256)
        decision = decide(facts, judged.request, judged.now)
        if decision.is_refresh and bindings.refresh(self._database, facts, judged):
            return decision
        entries = _entries(facts, decision, judged, question.claimed_ip, reference)
        if not decision.accepted:
            if not journal.append_rejection(entries[0]):
                metrics.refusals_not_journalled.inc()
            return decision
        new_client_id = id_from_random(secrets.token_bytes(ID_RANDOM_BYTES))
        applied = bindings.apply(self._database, facts, decision, judged, entries=entries, new_client_id=new_client_id)
        return decision if applied else None

    def _claims(self, question: Question, judged: bindings.Judged, decision: Decision, jti: str) -> dict[str, Any]:
        issued_at = int(judged.now.timestamp())
        claims: dict[str, Any] = {
            "iss": self._terms.issuer,
            "aud": AUDIENCE,
            "sub": question.card_id,
            "nonce": question.nonce,
            "function": question.function,
            "hardware_sha256": judged.hardware_sha256,
            "iat": issued_at,
            "exp": issued_at + TOKEN_SECONDS,
            "jti": jti,
            "code": decision.code,
            "accepted": decision.accepted,
            "activated": decision.activates,
        }
        card = decision.card
        if card is not None and decision.code in (Code.OK, Code.CARD_EXPIRED):
            claims["card_activated_at"] = _numeric(card.activated_at)
            claims["card_expires_at"] = _numeric(card.expires_at)
        if decision.accepted and question.function == OPEN_PROGRAM:
            claims |= self._key_claims(question, issued_at, claims["card_expires_at"])
        return claims

    def _key_claims(self, question: Question, issued_at: int, expires_at: int | None) -> dict[str, Any]:
        key = self._terms.kernal_data_key
        claims: dict[str, Any] = (
            {"KERNAL_DATA_KEY": key}
            if question.public_key is None
            else {"KERNAL_DATA_KEY_SEALED": seal_to(question.public_key, key)}
        )
        if self._terms.offline_grace is not None:
            until = issued_at + int(self._terms.offline_grace.total_seconds())
            claims["offline_until"] = until if expires_at is None else min(until, expires_at)
        return claims


def _numeric(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _entries(
    facts: Facts, decision: Decision, judged: bindings.Judged, claimed_ip: str | None, reference: str
) -> list[Entry]:
    """Return what the journal says of a decision: one entry for a rejection, any number for an acceptance."""

    def entry(kind: EventKind, **more: Any) -> Entry:  # noqa: ANN401  # the fields of Entry
        fields: dict[str, Any] = {
            "at": judged.now,
            "kind": kind,
            "card_id": judged.card_id,
            "reference": reference,
            "ip": judged.request.address,
            "claimed_ip": claimed_ip,
            "hardware": judged.request.hardware,
            "function": judged.request.function,
        }
        return Entry(**(fields | more))

    if not decision.accepted:
        return [entry(EventKind.REJECTED, code=decision.code)]
    entries = []
    if decision.released is not None:
        details = {"moved_to": judged.card_id, "client_id": decision.released.id}
        entries.append(entry(EventKind.RELEASED, card_id=decision.released.card_id, details=details))
    if decision.activates:
        entries.append(entry(EventKind.ACTIVATED))
    elif decision.binding is not Binding.KEEP:
        entries.append(entry(EventKind.BOUND))
    if facts.client is not None and (decision.hardware_changed or decision.address_changed):
        before = {"hardware": facts.client.hardware, "ip": facts.client.address}
        entries.append(entry(EventKind.ENVIRONMENT_CHANGED, details={"before": before}))
    return entries
