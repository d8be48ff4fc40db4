"""The use case that all else exists for: a card opens the program."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.domain.policy import OPEN_PROGRAM
from app.services.gate import Gate, Question, Ruling, Verdict
from app.tokens.sealing import seal_to


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What an accepted 打开程序 earns, and for how long it may stand in for the server."""

    kernal_data_key: str
    offline_grace: timedelta | None = None


class Verification:
    """Answers `POST /v1/verify`."""

    def __init__(self, gate: Gate, terms: KeyTerms) -> None:
        self._gate = gate
        self._terms = terms

    def verify(self, question: Question) -> Verdict:
        """Judge a request and return the signed verdict.

        Raises:
            DatabaseUnavailableError: the database is away; nothing was decided.
        """
        ruling = self._gate.judge(question)
        earns_key = ruling.decision.accepted and question.function == OPEN_PROGRAM
        return self._gate.answer(ruling, claims=self._key_claims(ruling) if earns_key else None)

    def _key_claims(self, ruling: Ruling) -> dict[str, Any]:
        key, public_key = self._terms.kernal_data_key, ruling.question.public_key
        claims: dict[str, Any] = (
            {"KERNAL_DATA_KEY": key} if public_key is None else {"KERNAL_DATA_KEY_SEALED": seal_to(public_key, key)}
        )
        if self._terms.offline_grace is not None:
            until = int(ruling.judged.now.timestamp()) + int(self._terms.offline_grace.total_seconds())
            card = ruling.decision.card
            expires_at = None if card is None else card.expires_at
            claims["offline_until"] = until if expires_at is None else min(until, int(expires_at.timestamp()))
        return claims
