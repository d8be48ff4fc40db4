"""What every route behind the gate shares: from a request to a question, and from a verdict to an answer."""

import logging
from dataclasses import dataclass

import falcon
import msgspec

from app.domain.addresses import canonical_address
from app.domain.codes import Code
from app.domain.policy import OPEN_PROGRAM
from app.domain.texts import Text
from app.http import schemas
from app.http.languages import verdict_message
from app.http.problems import invalid_request, unavailable
from app.services.gate import Question, Verdict
from app.tokens.sealing import PublicKey, PublicKeyError, parse_public_key

ADDRESS_HEADER = "X-REAL-IP"
STATUS = {
    Code.OK: falcon.HTTP_200,
    Code.CARD_NOT_FOUND: falcon.HTTP_404,
    Code.CARD_EXPIRED: falcon.HTTP_403,
    Code.CARD_FROZEN: falcon.HTTP_403,
    Code.CLIENT_MISMATCH: falcon.HTTP_403,
    Code.CLIENT_HAS_ANOTHER_CARD: falcon.HTTP_409,
    Code.FUNCTION_NOT_FOUND: falcon.HTTP_404,
    Code.FUNCTION_FAILED: falcon.HTTP_502,
    Code.FUNCTION_TIMEOUT: falcon.HTTP_504,
}
logger = logging.getLogger(__name__)


def client_address(request: falcon.Request, *, behind_proxy: bool) -> str:
    """Return the address that the binding counts: the proxy's word for it, or else the peer's.

    Raises:
        Problem: 503 when the proxy gives none or an invalid one, which only a wrong installation does.
    """
    # Repeated headers arrive joined by commas, which is no address: that is refused with the rest.
    seen = request.get_header(ADDRESS_HEADER) if behind_proxy else request.remote_addr
    try:
        return canonical_address(seen or "")
    except ValueError as error:
        logger.critical(
            "the installation is at fault: no single valid client address",
            extra={
                "header": ADDRESS_HEADER if behind_proxy else "peer",
                "seen": ascii(seen),
                "request_id": request.context.request_id,
            },
        )
        raise unavailable() from error


@dataclass(frozen=True, slots=True)
class Door:
    """How this installation reads requests.

    Args:
        behind_proxy: Whether the proxy's header says where a request came from, or the connection itself.
        require_sealed: Whether an 打开程序 must bring a public key to seal KERNAL_DATA_KEY to.
    """

    behind_proxy: bool
    require_sealed: bool

    def question(self, request: falcon.Request, body: schemas.VerifyRequest) -> Question:
        """Return what is asked.

        Raises:
            Problem: 400 for a public key that is none or missing, 503 where the proxy names no address.
        """
        return Question(
            card_id=body.card_id,
            hardware=body.hardware,
            function=body.function,
            nonce=body.nonce,
            address=client_address(request, behind_proxy=self.behind_proxy),
            claimed_ip=body.ip,
            public_key=self._public_key(body),
        )

    def _public_key(self, body: schemas.VerifyRequest) -> PublicKey | None:
        if body.client_public_key is None:
            if self.require_sealed and body.function == OPEN_PROGRAM:
                raise invalid_request(
                    Text(
                        f"本服务器要求 {OPEN_PROGRAM} 提供 client_public_key。",
                        f"This server requires client_public_key with {OPEN_PROGRAM}.",
                    ),
                    "client_public_key",
                )
            return None
        try:
            return parse_public_key(body.client_public_key)
        except PublicKeyError as error:
            requirement = schemas.PUBLIC_KEY_REQUIREMENT
            raise invalid_request(
                Text(f"client_public_key {requirement.zh}。", f"client_public_key {requirement.en}."),
                "client_public_key",
            ) from error


def respond(request: falcon.Request, response: falcon.Response, verdict: Verdict) -> None:
    """Make a verdict the answer."""
    request.context.outcome = {"code": verdict.code, "reference": verdict.reference}
    response.status = STATUS[verdict.code]
    response.content_type = "application/json"
    response.set_header("Cache-Control", "no-store")
    message = verdict_message(verdict.code, verdict.reference, request)
    response.data = msgspec.json.encode({"code": verdict.code, "message": message, "token": verdict.token})
