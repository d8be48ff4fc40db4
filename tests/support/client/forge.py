"""A server of our own that can tell every truth and every lie, without a line of the real one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc.jwe import encrypt_compact
from joserfc.jwk import OKPKey
from kadun.responses import Response

ISSUER = "kadun"
CARD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
HARDWARE = "machine-1"
OPEN = "打开程序"
NOW = 1_760_000_000
Tweak = Callable[[dict[str, Any]], None]


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class SigningKey:
    """An Ed25519 key pair with its JWK."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.raw = self.private.public_key().public_bytes_raw()
        x = b64(self.raw)
        members = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
        self.kid = b64(hashlib.sha256(members.encode()).digest())
        self.jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid, "use": "sig", "alg": "EdDSA"}

    def sign(self, claims: object, header: dict[str, Any] | None = None) -> str:
        """A compact JWS, its header `{"alg", "typ", "kid"}` changed as told (None takes a member away)."""
        full = {"alg": "EdDSA", "typ": "verdict+jwt", "kid": self.kid, **(header or {})}
        shown = {name: value for name, value in full.items() if value is not None}
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        signed = f"{b64(json.dumps(shown).encode())}.{b64(payload)}"
        return f"{signed}.{b64(self.private.sign(signed.encode()))}"

    def endorse(self, successor: SigningKey, **changes: Any) -> str:
        claims = {"iss": ISSUER, "aud": "kadun-client", "jwk": successor.jwk, **changes}
        return self.sign(claims, {"typ": "key+jwt"})


def pinned(*keys: SigningKey) -> dict[str, Any]:
    """What `cardctl key export` prints."""
    return {"iss": ISSUER, "keys": [key.jwk for key in keys]}


def seal(key: str | bytes, public_key: str, header: dict[str, Any] | None = None) -> str:
    recipient = OKPKey.import_key({"kty": "OKP", "crv": "X25519", "x": public_key})
    protected = {"alg": "ECDH-ES", "enc": "A256GCM", **(header or {})}
    return encrypt_compact(protected, key, recipient, algorithms=["ECDH-ES", "A256GCM", "A128GCM", "DEF"])


def claims_for(request: dict[str, Any], data_key: str | bytes = "the key") -> dict[str, Any]:
    """What the real server would say to an accepted request."""
    claims = {
        "iss": ISSUER,
        "aud": "kadun-client",
        "sub": request["card_id"],
        "nonce": request["nonce"],
        "function": request["function"],
        "iat": NOW,
        "exp": NOW + 300,
        "jti": "jti-of-this-answer-REF45678",
        "code": "OK",
        "accepted": True,
        "hardware_sha256": hashlib.sha256(request["hardware"].encode()).hexdigest(),
        "activated": False,
        "card_activated_at": NOW - 86_400,
        "card_expires_at": NOW + 86_400,
    }
    if request["function"] == OPEN:
        claims["KERNAL_DATA_KEY_SEALED"] = seal(data_key, request["client_public_key"])
    return claims


def reject(code: str) -> Tweak:
    """Turn a yes into the real server's no."""

    def tweak(claims: dict[str, Any]) -> None:
        claims.update(code=code, accepted=False)
        claims.pop("KERNAL_DATA_KEY_SEALED", None)
        if code != "CARD_EXPIRED":
            del claims["card_activated_at"], claims["card_expires_at"]

    return tweak


def verdict_answer(token: str, status: int = 200) -> Response:
    return Response(status, json.dumps({"code": "OK", "message": "unsigned words", "token": token}).encode())


def refusal(status: int, code: object, detail: str = "", content_type: str = "application/problem+json") -> Response:
    """How the real server refuses the form of a request."""
    return Response(status, json.dumps({"code": code, "detail": detail}).encode(), content_type=content_type)


class FakeServer:
    """A transport that answers by itself; `script` stands before the truth, one entry a request.

    An entry is an `Response`, an exception to raise, or a function from the request to either.
    """

    def __init__(self, key: SigningKey, data_key: str | bytes = "the key", tweak: Tweak | None = None) -> None:
        self.key = key
        self.data_key = data_key
        self.tweak: Tweak = tweak or (lambda _claims: None)
        self.header: dict[str, Any] = {}
        self.endorsements: list[Any] = []
        self.key_set: Response | None = None
        self.script: list[Any] = []
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []

    def exchange(self, path: str, body: bytes | None, language: str) -> Response:
        self.paths.append(path)
        self.language = language
        if body is None:
            document = {"keys": [self.key.jwk], "endorsements": self.endorsements}
            return self.key_set or Response(200, json.dumps(document).encode())
        request = json.loads(body)
        self.requests.append(request)
        entry = self.script.pop(0) if self.script else self.truth
        answer = entry(request) if callable(entry) else entry
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Response)
        return answer

    def truth(self, request: dict[str, Any]) -> Response:
        claims = claims_for(request, self.data_key)
        self.tweak(claims)
        return verdict_answer(self.key.sign(claims, self.header))


def without(name: str) -> Tweak:
    return lambda claims: claims.pop(name) and None


def setting(**changes: Any) -> Tweak:
    return lambda claims: claims.update(changes)


def signed_by_secret(claims: dict[str, Any], secret: bytes, kid: str) -> str:
    """The classic: HS256, with the public key that everybody has as the secret."""
    header = {"alg": "HS256", "typ": "verdict+jwt", "kid": kid}
    signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def unsigned(claims: dict[str, Any], kid: str, alg: str) -> str:
    header = {"alg": alg, "typ": "verdict+jwt", "kid": kid}
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}."
