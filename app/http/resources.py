"""The resources of the gate: verify, the key set, health and metrics."""

import json
import logging
import time
from collections.abc import Callable
from datetime import datetime

import falcon
import msgspec

from app import metrics
from app.domain.addresses import canonical_address
from app.domain.codes import Code
from app.domain.policy import OPEN_PROGRAM
from app.domain.texts import Text
from app.http import schemas
from app.http.languages import verdict_message
from app.http.problems import invalid_request, unavailable
from app.services.verification import Question, Verification
from app.storage import schema
from app.storage.database import Database
from app.tokens.sealing import PublicKeyError, parse_public_key
from app.tokens.signer import Signer

ADDRESS_HEADER = "X-REAL-IP"
STATUS = {
    Code.OK: falcon.HTTP_200,
    Code.CARD_NOT_FOUND: falcon.HTTP_404,
    Code.CARD_EXPIRED: falcon.HTTP_403,
    Code.CARD_FROZEN: falcon.HTTP_403,
    Code.CLIENT_MISMATCH: falcon.HTTP_403,
    Code.CLIENT_HAS_ANOTHER_CARD: falcon.HTTP_409,
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


class VerifyResource:
    """`POST /v1/verify`."""

    def __init__(self, verification: Verification, *, behind_proxy: bool, require_sealed: bool) -> None:
        self._verification = verification
        self._behind_proxy = behind_proxy
        self._require_sealed = require_sealed

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Judge the request and answer with the verdict."""
        verdict = self._verification.verify(self._question(request))
        metrics.verify_seconds.observe(time.perf_counter() - request.context.started)
        request.context.outcome = {"code": verdict.code, "reference": verdict.reference}
        response.status = STATUS[verdict.code]
        response.content_type = "application/json"
        response.set_header("Cache-Control", "no-store")
        message = verdict_message(verdict.code, verdict.reference, request)
        document = {"code": verdict.code, "message": message, "token": verdict.token}
        response.data = msgspec.json.encode(document)

    def _question(self, request: falcon.Request) -> Question:
        body = schemas.parse_verify_request(schemas.read_body(request))
        public_key = None
        if body.client_public_key is not None:
            try:
                public_key = parse_public_key(body.client_public_key)
            except PublicKeyError as error:
                requirement = schemas.PUBLIC_KEY_REQUIREMENT
                raise invalid_request(
                    Text(f"client_public_key {requirement.zh}。", f"client_public_key {requirement.en}."),
                    "client_public_key",
                ) from error
        elif self._require_sealed and body.function == OPEN_PROGRAM:
            raise invalid_request(
                Text(
                    f"本服务器要求 {OPEN_PROGRAM} 提供 client_public_key。",
                    f"This server requires client_public_key with {OPEN_PROGRAM}.",
                ),
                "client_public_key",
            )
        return Question(
            card_id=body.card_id,
            hardware=body.hardware,
            function=body.function,
            nonce=body.nonce,
            address=client_address(request, behind_proxy=self._behind_proxy),
            claimed_ip=body.ip,
            public_key=public_key,
        )


class KeySetResource:
    """`GET /.well-known/jwks.json`."""

    def __init__(self, signer: Signer, clock: Callable[[], datetime]) -> None:
        self._signer = signer
        self._clock = clock

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the published keys and their endorsements."""
        response.content_type = "application/json"
        response.set_header("Cache-Control", "no-cache")
        response.data = json.dumps(self._signer.key_set(self._clock())).encode()

    on_head = on_get


class HealthResource:
    """`GET /healthz`: the process answers."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer."""
        response.content_type = "application/json"
        response.data = b'{"status": "ok"}'

    on_head = on_get


class ReadinessResource:
    """`GET /readyz`: the database answers and its schema is this program's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer, or raise what becomes a 503."""
        self._database.with_connection(lambda: schema.check_version(self._database.connection()))
        response.content_type = "application/json"
        response.data = b'{"status": "ready"}'

    on_head = on_get


class MetricsResource:
    """`GET /metrics`: for whoever scrapes the app itself; whatever came through the proxy is turned away."""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer in Prometheus' text format."""
        if request.get_header(ADDRESS_HEADER) is not None:
            raise falcon.HTTPNotFound
        response.content_type = "text/plain; version=0.0.4; charset=utf-8"
        response.data = metrics.render()

    on_head = on_get
