"""The gate: judge a request by the rules, write what follows, and sign what is answered.

Verification, file transfer and core functions stand behind it; each says what more its verdicts carry.
"""

import hashlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app import metrics
from app.domain.cards import ID_RANDOM_BYTES, REFERENCE_LENGTH, id_from_random, parse_card_id
from app.domain.codes import Code, EventKind
from app.domain.policy import Binding, Decision, Facts, Request, decide
from app.storage import bindings, journal
from app.storage.database import ConflictError, Database, DatabaseUnavailableError
from app.storage.journal import Entry
from app.tokens.keyring import AUDIENCE
from app.tokens.sealing import PublicKey
from app.tokens.signer import Signer

TOKEN_SECONDS = 300
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


class Ruling(NamedTuple):
    """What the rules said to a question, written down already. `jti` will be the verdict's.

    `client_id` names the client that an accepted card is bound to now; it is None on rejections.
    """

    question: Question
    judged: bindings.Judged
    decision: Decision
    client_id: str | None
    jti: str

    @property
    def reference(self) -> str:
        """What the vendor finds in the journal."""
        return self.jti[-REFERENCE_LENGTH:]


class Verdict(NamedTuple):
    """The answer: its code, the signed token, and the reference that the vendor finds in the journal."""

    code: Code
    token: str
    reference: str


class Gate:
    """Judges requests against one database.

    Args:
        database: With the hot statements prepared.
        signer: Signs the verdicts.
        issuer: The server's configured name, claim `iss`.
        timezone: The vendor's, whose days usage is counted by.
        clock: Returns the time now, aware.
    """

    def __init__(
        self, database: Database, signer: Signer, issuer: str, timezone: ZoneInfo, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._signer = signer
        self._issuer = issuer
        self._timezone = timezone
        self._clock = clock

    def judge(self, question: Question) -> Ruling:
        """Judge a request by the rules and write what follows.

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
            day=now.astimezone(self._timezone).date(),
        )
        decision, client_id = self._decision(judged, question, jti[-REFERENCE_LENGTH:])
        return Ruling(question, judged, decision, client_id, jti)

    def answer(
        self,
        ruling: Ruling,
        code: Code | None = None,
        claims: dict[str, Any] | None = None,
        *,
        is_late: bool = False,
    ) -> Verdict:
        """Sign the verdict.

        Args:
            ruling: What `judge` returned.
            code: What came of an accepted request, where that is no success: then the verdict accepts nothing.
            claims: What it carries beside the claims of every verdict.
            is_late: Whether its time is that of the answer: much may have been done since the judgement.
        """
        code = code or ruling.decision.code
        metrics.count_verdict(code)
        issued_at = self._clock() if is_late else ruling.judged.now
        signed = self._signer.sign_verdict(self._claims(ruling, code, issued_at) | (claims or {}))
        return Verdict(code, signed, ruling.reference)

    def reject(self, ruling: Ruling, code: Code, details: dict[str, Any] | None = None) -> Verdict:
        """Sign a verdict, of now, that refuses what the rules had accepted, and write that into the journal.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        entry = _entry(EventKind.REJECTED, ruling.judged, ruling.question.claimed_ip, ruling.reference)
        entry = replace(entry, code=code, details=details)
        self._database.with_connection(lambda: _append_rejection(entry))
        return self.answer(ruling, code, is_late=True)

    def _decision(self, judged: bindings.Judged, question: Question, reference: str) -> tuple[Decision, str | None]:
        for _ in range(_ATTEMPTS):
            try:
                decided = self._database.with_connection(lambda: self._attempt(judged, question, reference))
            except ConflictError:
                continue
            if decided is not None:
                return decided
        logger.error("gave up deciding: the facts changed at every attempt", extra={"reference": reference})
        raise DatabaseUnavailableError("the facts changed at every attempt")

    def _attempt(
        self, judged: bindings.Judged, question: Question, reference: str
    ) -> tuple[Decision, str | None] | None:
        """Read, decide, write under a guard; return the decision and the client's ID, None when the guard misses."""
        facts = bindings.read_facts(self._database, judged.card_id, judged.hardware_sha256)
        decision = decide(facts, judged.request, judged.now)
        client = facts.client or decision.released  # who moves to a card without a client keeps the ID
        if client is not None and decision.is_refresh and bindings.refresh(self._database, facts, judged):
            return decision, client.id
        entries = _entries(facts, decision, judged, question.claimed_ip, reference)
        if not decision.accepted:
            _append_rejection(entries[0])
            return decision, None
        client_id = id_from_random(secrets.token_bytes(ID_RANDOM_BYTES)) if client is None else client.id
        applied = bindings.apply(self._database, facts, decision, judged, entries=entries, new_client_id=client_id)
        return (decision, client_id) if applied else None

    def _claims(self, ruling: Ruling, code: Code, at: datetime) -> dict[str, Any]:
        question, judged = ruling.question, ruling.judged
        issued_at = int(at.timestamp())
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": question.card_id,
            "nonce": question.nonce,
            "function": question.function,
            "hardware_sha256": judged.hardware_sha256,
            "iat": issued_at,
            "exp": issued_at + TOKEN_SECONDS,
            "jti": ruling.jti,
            "code": code,
            "accepted": code is Code.OK,
            "activated": ruling.decision.activates,
        }
        card = ruling.decision.card
        if card is not None and code in (Code.OK, Code.CARD_EXPIRED):
            claims["card_activated_at"] = _numeric(card.activated_at)
            claims["card_expires_at"] = _numeric(card.expires_at)
        return claims


def _append_rejection(entry: Entry) -> None:
    if not journal.append_rejection(entry):
        metrics.refusals_not_journalled.inc()


def _numeric(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _entries(
    facts: Facts, decision: Decision, judged: bindings.Judged, claimed_ip: str | None, reference: str
) -> list[Entry]:
    """Return what the journal says of a decision: one entry for a rejection, any number for an acceptance."""

    def entry(kind: EventKind, **more: Any) -> Entry:  # noqa: ANN401  # the fields of Entry
        return replace(_entry(kind, judged, claimed_ip, reference), **more)

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


def _entry(kind: EventKind, judged: bindings.Judged, claimed_ip: str | None, reference: str) -> Entry:
    return Entry(
        at=judged.now,
        kind=kind,
        card_id=judged.card_id,
        reference=reference,
        ip=judged.request.address,
        claimed_ip=claimed_ip,
        hardware=judged.request.hardware,
        function=judged.request.function,
    )
