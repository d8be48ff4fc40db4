"""Verification: an accepted 打开程序 earns KERNAL_DATA_KEY (protocol, sections 2 and 3)."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.domain.licence.policy import OPEN_PROGRAM, VerificationRequest
from app.services.licence.evaluation import Evaluation
from app.services.licence.licence import LicenceService, Verdict
from app.tokens.sealing import seal_to


@dataclass(frozen=True, slots=True)
class Verification:
    """Answers `POST /v1/verify`; `offline_grace` is how long a verdict may stand in for the server."""

    licences: LicenceService
    kernal_data_key: str
    offline_grace: timedelta | None = None

    def verify(self, request: VerificationRequest) -> Verdict:
        """Evaluate a request and return the signed verdict, or raise as `LicenceService.evaluate`."""
        evaluation = self.licences.evaluate(request)
        earns_key = evaluation.decision.accepted and request.function == OPEN_PROGRAM
        return self.licences.sign(evaluation, claims=self._key_claims(evaluation) if earns_key else None)

    def _key_claims(self, evaluation: Evaluation) -> dict[str, Any]:
        key, public_key = self.kernal_data_key, evaluation.request.public_key
        claims: dict[str, Any] = (
            {"KERNAL_DATA_KEY": key} if public_key is None else {"KERNAL_DATA_KEY_SEALED": seal_to(public_key, key)}
        )
        if self.offline_grace is not None:
            until = int(evaluation.at.timestamp()) + int(self.offline_grace.total_seconds())
            card = evaluation.decision.card
            expires_at = None if card is None else card.expires_at
            claims["offline_until"] = until if expires_at is None else min(until, int(expires_at.timestamp()))
        return claims
