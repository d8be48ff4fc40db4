"""Calls of `POST /v1/execute` in tests: answers are verified, and some calls wait until they are released."""

import hashlib
import json
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jwt

from app.domain.cards.cards import REFERENCE_LENGTH
from tests.support.hosts.rendezvous import Rendezvous
from tests.support.services.service import Response, Service, question

FUNCTION_SECONDS = 5
"""How long a function may run: on a busy machine two seconds go by before one has begun."""
KEY_CLAIMS = {"KERNAL_DATA_KEY", "KERNAL_DATA_KEY_SEALED"}


def execute(
    service: Service, card_id: str, function: str, arguments: Any, *, address: str | None = None, **more: Any
) -> Response:
    """Ask for a function; `address` is the client address that the proxy reports."""
    headers = {"Content-Type": "application/json", "Accept-Language": "en"}
    if address is not None:
        headers["X-Real-IP"] = address
    asked = question(card_id, function=function, arguments=arguments, **more)
    body = json.dumps(asked).encode()
    answer = service.request("POST", "/v1/execute", body, headers)
    if "token" in answer.body:
        verified = claims(service, answer)
        assert [verified[name] for name in ("sub", "nonce", "function")] == [card_id, asked["nonce"], function]
        assert verified["code"] == answer.body["code"]
        assert verified["request_sha256"] == hashlib.sha256(body).hexdigest()  # the arguments included
        assert not KEY_CLAIMS & set(verified)
    return answer


def claims(service: Service, answer: Response) -> dict[str, Any]:
    """Return the token's claims, after checking its signature."""
    keys = {key["kid"]: key for key in service.get("/.well-known/jwks.json").body["keys"]}
    key = jwt.PyJWK(keys[jwt.get_unverified_header(answer.body["token"])["kid"]])
    return jwt.decode(answer.body["token"], key, ["EdDSA"], audience="kadun-client", issuer="kadun")


def journalled(service: Service, answer: Response) -> dict[str, Any]:
    """Return the journal entry of the rejection that an answer refers to."""
    reference = answer.claims["jti"][-REFERENCE_LENGTH:]
    assert f"(reference {reference})" in answer.body["message"]
    events = json.loads(service.cardctl("events", "--reference", reference, "--format", "json").stdout)
    (rejected,) = [event for event in events if event["kind"] == "rejected"]
    return dict(rejected)


class Held:
    """Calls that have begun and wait to be told to go on."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._rendezvous = Rendezvous()
        self._threads = ThreadPoolExecutor(8)
        self.calls: list[Future[Response]] = []

    def call(self, card_id: str, hardware: str = "machine-1", address: str | None = None) -> None:
        """Begin one and wait until it runs."""
        arguments = {"port": self._rendezvous.port}
        self.calls.append(
            self._threads.submit(execute, self._service, card_id, "等待", arguments, hardware=hardware, address=address)
        )
        self._rendezvous.wait()

    def release(self) -> list[Response]:
        self._rendezvous.close()
        answers = [call.result() for call in self.calls]
        self._threads.shutdown()
        return answers
