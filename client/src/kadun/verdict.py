"""Verifies verdicts: every check of docs/protocol.md, "What a client must check", before any claim is used."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from kadun.errors import UntrustedAnswer
from kadun.keys import TrustedKeys
from kadun.request import OPEN, VerificationRequest
from kadun.sealing import KeyPair, Secret
from kadun.tokens import AUDIENCE, Claims, key_id, verify_token

UPDATE_REQUIRED = "UPDATE_REQUIRED"
_TYP = "verdict+jwt"
_LONGEST_LIFE_SECONDS = 300
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_JTI = re.compile(r"[\x21-\x7e]{8,128}")
_REFERENCE_LENGTH = 8
_CLEAR, _SEALED = "KERNAL_DATA_KEY", "KERNAL_DATA_KEY_SEALED"


@dataclass(frozen=True)
class Verdict:
    """The server's signed answer, verified. Times are in UTC, by the server's clock."""

    code: str  # `OK`, or the reason of the rejection
    accepted: bool
    function: str  # of the request
    reference: str  # 参考号, with which the vendor finds this answer in the journal
    issued_at: datetime
    activated: bool  # whether this request activated the card
    card_activated_at: datetime | None = None  # when the card was first used; None in most rejections
    card_expires_at: datetime | None = None  # None for a permanent card, and in most rejections
    offline_until: datetime | None = None  # until when it permits offline starts, where the vendor allows them
    notice: str | None = None  # the vendor's message for customers, in an accepted opening; show it as text
    latest_version: str | None = None  # of the program; in accepted verdicts and in UPDATE_REQUIRED
    update_url: str | None = None  # where to get it; open it only if it begins with https://
    offline: bool = False  # the last accepted verdict on this machine, without the server; worth showing
    data_key: Secret | None = field(default=None, repr=False, compare=False)  # in an accepted opening only
    claims: Claims = field(default=Claims({}), repr=False, compare=False)  # downloads and executions read theirs

    @property
    def revokes_access(self) -> bool:
        """Whether the card was rejected. A failed server function (FUNCTION_…) is not a rejection of the card."""
        return not self.accepted and not is_function_failure(self.code)

    @property
    def revokes_key(self) -> bool:
        """Whether a running program loses its key. UPDATE_REQUIRED leaves it, because the card is valid."""
        return self.revokes_access and self.code != UPDATE_REQUIRED


def is_function_failure(code: str) -> bool:
    """Return whether the card was accepted, and possibly activated, but its server function has no result."""
    return code.startswith("FUNCTION_")


def verify_verdict(token: str, request: VerificationRequest, keys: TrustedKeys, key_pair: KeyPair | None) -> Verdict:
    """Verify that a token is the genuine server's answer to this request, and return its verdict.

    The local clock is not used, because customers' clocks are wrong: the nonce proves that the answer is fresh.
    """
    claims = verify_token(token, keys[key_id(token)], _TYP)
    claims.require("aud", AUDIENCE)
    claims.require("iss", keys.issuer)
    claims.require("nonce", request.nonce)
    claims.require("sub", request.card_id)
    claims.require("function", request.function)
    claims.require("hardware_sha256", request.hardware_sha256)
    if request.body_sha256 is not None and "request_sha256" in claims:  # servers of release 1.0 do not send it
        claims.require("request_sha256", request.body_sha256)
    if not 0 < claims.seconds("exp") - claims.seconds("iat") <= _LONGEST_LIFE_SECONDS:
        raise UntrustedAnswer("claim exp is not within 300 seconds after iat")
    code, jti = claims.text("code"), claims.text("jti")
    if not _CODE.fullmatch(code) or not _JTI.fullmatch(jti):
        raise UntrustedAnswer("claim code or jti is malformed")
    accepted = claims.of("accepted", bool)
    if accepted is not (code == "OK"):
        raise UntrustedAnswer("claim accepted contradicts code")
    activated = claims.of("activated", bool)
    if activated and not accepted and not is_function_failure(code):
        raise UntrustedAnswer("claim activated contradicts code")
    may_start_offline = "offline_until" in claims
    if may_start_offline and not (accepted and request.function == OPEN):
        raise UntrustedAnswer("claim offline_until in a verdict that is not an accepted opening")
    dated = accepted or code == "CARD_EXPIRED"
    return Verdict(
        code=code,
        accepted=accepted,
        function=request.function,
        reference=jti[-_REFERENCE_LENGTH:],
        issued_at=claims.time("iat"),
        activated=activated,
        card_activated_at=claims.time("card_activated_at") if dated else None,
        card_expires_at=claims.time_or_null("card_expires_at") if dated else None,
        offline_until=claims.time("offline_until") if may_start_offline else None,
        notice=_text_or_absent(claims, "notice"),
        latest_version=_text_or_absent(claims, "latest_version"),
        update_url=_text_or_absent(claims, "update_url"),
        data_key=_data_key(claims, key_pair if accepted else None),
        claims=claims,
    )


def _text_or_absent(claims: Claims, name: str) -> str | None:
    return claims.text(name) if name in claims else None


def _data_key(claims: Claims, key_pair: KeyPair | None) -> Secret | None:
    # It must be present, sealed, if this verdict grants it, and absent otherwise.
    if _CLEAR in claims:
        raise UntrustedAnswer("the key is in clear, although it was requested sealed or not at all")
    if key_pair is None:
        if _SEALED in claims:
            raise UntrustedAnswer("the verdict contains a key that it does not grant")
        return None
    return key_pair.open(claims.text(_SEALED))
