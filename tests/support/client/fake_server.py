"""A server inside the test process: genuine answers, or what the test says. The conformance kit's forger signs them."""

import json
from collections.abc import Callable
from typing import Any

from kadun.responses import Response
from kadun_conformance.crypto import SigningKey
from kadun_conformance.forger import OPEN, Forger, Vendor

ISSUER = "kadun"
CARD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
HARDWARE = "machine-1"
NOW = 1_760_000_000
REPORT = "导出报表"  # a function other than OPEN
Tweak = Callable[[dict[str, Any]], None]
__all__ = ["OPEN", "SigningKey"]


def pinned(*keys: SigningKey) -> dict[str, Any]:
    """What `cardctl key export` prints."""
    return {"iss": ISSUER, "keys": [key.jwk for key in keys]}


def forger_for(request: dict[str, Any], data_key: str = "the key", body: bytes = b"") -> Forger:
    return Forger(Vendor(issuer=ISSUER, identity=data_key, now=NOW), request, body=body)


def claims_for(request: dict[str, Any], data_key: str = "the key", body: bytes = b"") -> dict[str, Any]:
    """The claims of the genuine server for an accepted request."""
    return forger_for(request, data_key, body).claims(jti="jti-of-this-answer-REF45678")


def reject(code: str, **changes: Any) -> Tweak:
    """Turn an acceptance into the genuine server's rejection, with changed claims."""

    def tweak(claims: dict[str, Any]) -> None:
        claims.update(code=code, accepted=False)
        claims.pop("KERNAL_DATA_KEY_SEALED", None)
        if code != "CARD_EXPIRED":
            del claims["card_activated_at"], claims["card_expires_at"]
        claims.update(changes)

    return tweak


def setting(**changes: Any) -> Tweak:
    return lambda claims: claims.update(changes)


def verdict_response(token: str) -> Response:
    """A verdict, in a body whose unsigned words mean nothing."""
    return Response(200, json.dumps({"code": "CARD_FROZEN", "message": "unsigned words", "token": token}).encode())


def problem(
    status: int, code: object, detail: str = "", content_type: str = "application/problem+json", **members: Any
) -> Response:
    """The genuine server's refusal of a malformed request."""
    return Response(status, json.dumps({"code": code, "detail": detail, **members}).encode(), content_type=content_type)


def card_status(http_status: int = 200, /, **changes: Any) -> Response:
    card = {"status": "active", "expires_at": None, "bound": True, "unbinds_left": 1, "next_unbind_at": None}
    return Response(http_status, json.dumps({**card, **changes}).encode(), content_type="application/json")


class FakeServer:
    """A transport. `script` comes before the genuine answers, one entry for each request.

    An entry is a `Response`, an exception to raise, or a function from the request to either.
    """

    def __init__(self, key: SigningKey) -> None:
        self.key = key
        self.data_key = "the key"
        self.tweak: Tweak = lambda _claims: None
        self.endorsements: list[Any] = []
        self.key_set: Response | Exception | None = None
        self.script: list[Any] = []
        self.requests: list[dict[str, Any]] = []
        self.bodies: dict[str, bytes] = {}  # by nonce, because requests come from several threads
        self.paths: list[str] = []

    def exchange(self, path: str, body: bytes | None, language: str) -> Response:
        self.paths.append(path)
        self.language = language
        if body is None:
            document = {"keys": [self.key.jwk], "endorsements": self.endorsements}
            if isinstance(self.key_set, Exception):
                raise self.key_set
            return self.key_set or Response(200, json.dumps(document).encode())
        request = json.loads(body)
        self.requests.append(request)
        self.bodies[request.get("nonce", path)] = body  # self-service sends no nonce
        entry = self.script.pop(0) if self.script else self.genuine
        answer = entry(request) if callable(entry) else entry
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Response)
        return answer

    def genuine(self, request: dict[str, Any]) -> Response:
        """The answer that the test's `tweak` leaves; signed with `key`."""
        claims = claims_for(request, self.data_key, self.bodies.get(request["nonce"], b""))
        self.tweak(claims)
        return verdict_response(self.key.token(claims))

    def saying(self, tweak: Tweak) -> Callable[[dict[str, Any]], Response]:
        """A genuine answer with other claims, for `script`; the following answers have them, too."""

        def answer(request: dict[str, Any]) -> Response:
            self.tweak = tweak
            return self.genuine(request)

        return answer

    def rotate(self, times: int = 1) -> None:
        """Sign with a new key from now on, endorsed by the one before."""
        for _ in range(times):
            successor = SigningKey()
            self.endorsements.append(self.key.endorse(successor.jwk, iss=ISSUER))
            self.key = successor
