"""The request parser: reads an HTTP request into a `VerificationRequest`."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import falcon

from app.domain.addresses import canonical_address
from app.domain.licence.policy import OPEN_PROGRAM, VerificationRequest
from app.domain.programs import MAIN
from app.domain.texts import Text
from app.http import json_body, schemas
from app.http.problems import invalid_request, unavailable
from app.tokens.sealing import check_public_key

ADDRESS_HEADER = "X-REAL-IP"
logger = logging.getLogger(__name__)


def client_address(request: falcon.Request, *, behind_proxy: bool) -> str:
    """Return the client's address: the one that the proxy names, or the peer's where there is no proxy."""
    # Repeated headers arrive joined by commas, which no address contains.
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
class RequestParser:
    """Reads requests to the rules. `require_sealed`: 打开程序 must bring a public key to seal KERNAL_DATA_KEY to."""

    behind_proxy: bool
    require_sealed: bool

    def verify_request(self, request: falcon.Request, *, may_be_old: bool = False) -> VerificationRequest:
        """Read the body of `POST /v1/verify`, or of `POST /v1/files`, which old programs may send, too."""
        body = json_body.read_body(request)
        asked = json_body.parse(body, schemas.VerifyRequest)
        return self._checked(request, asked, body, needs_version=asked.function == OPEN_PROGRAM and not may_be_old)

    def execute_request(self, request: falcon.Request) -> tuple[VerificationRequest, Callable[[], dict[str, Any]]]:
        """Read the body of `POST /v1/execute`: the request, and what reads the function's arguments again.

        Strangers' arguments, which may take fifty times the body's memory, are not kept while the rules are asked.
        """
        body = json_body.read_body(request)

        def parsed() -> schemas.ExecuteRequest:
            return json_body.parse(body, schemas.ExecuteRequest)

        return self._checked(request, parsed(), body, needs_version=True), lambda: parsed().arguments

    def _checked(
        self, request: falcon.Request, asked: schemas.VerifyRequest, body: bytes, *, needs_version: bool
    ) -> VerificationRequest:
        address = client_address(request, behind_proxy=self.behind_proxy)
        self._check_public_key(asked)
        return VerificationRequest.from_fields(
            asked.card_id,
            asked.hardware,
            asked.function,
            asked.nonce,
            address,
            asked.ip,
            asked.client_public_key,
            body=body,
            version=asked.version,
            needs_version=needs_version,
            program=asked.program or MAIN,
        )

    def _check_public_key(self, asked: schemas.VerifyRequest) -> None:
        if asked.client_public_key is None:
            if self.require_sealed and asked.function == OPEN_PROGRAM:
                raise invalid_request(
                    Text(
                        f"本服务器要求 {OPEN_PROGRAM} 提供 client_public_key。",
                        f"This server requires client_public_key with {OPEN_PROGRAM}.",
                    ),
                    "client_public_key",
                )
            return
        try:
            check_public_key(asked.client_public_key)
        except ValueError as error:
            raise json_body.wrong_value("client_public_key") from error
