"""A client with chosen faults: each omits one check. The conformance kit must detect every fault."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pyrage
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from kadun.decoding import decode_base64url, encode_base64url, parse_json_object
from kadun.errors import KadunError
from kadun.sealing import KeyPair
from kadun_conformance.client_under_test import Finished, Settings

Json = dict[str, Any]
Answers = dict[str, Any]
"""What a start asked and was answered: `verdict` (request, key pair, body) and `keys` (body)."""
Predicate = Callable[[Json, Json, Json], bool]
REFUSED = Finished(1, b"")
_LARGEST = 1 << 20

# The checks of a verdict, given its claims, the request and the pinned document.
CLAIMS: dict[str, Predicate] = {
    "nonce": lambda claims, request, _pinned: claims.get("nonce") == request["nonce"],
    "sub": lambda claims, request, _pinned: claims.get("sub") == request["card_id"],
    "function": lambda claims, request, _pinned: claims.get("function") == request["function"],
    "hardware": lambda claims, request, _: claims.get("hardware_sha256") == _sha256(request["hardware"]),
    "request": lambda claims, request, _: (
        "request_sha256" not in claims or claims["request_sha256"] == _sha256(json.dumps(request))
    ),
    "aud": lambda claims, _request, _pinned: claims.get("aud") == "kadun-client",
    "iss": lambda claims, _request, pinned: claims.get("iss") == pinned["iss"],
    "exp": lambda claims, _request, _pinned: _is_span(claims.get("iat"), claims.get("exp")),
    "code": lambda claims, _request, _pinned: (claims.get("code") == "OK") is bool(claims.get("accepted")),
    "accepted": lambda claims, _request, _pinned: isinstance(claims.get("accepted"), bool),
}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_span(iat: object, exp: object) -> bool:
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (iat, exp))
    return numbers and 0 < exp - iat <= 300  # type: ignore[operator]


class ForgedError(Exception):
    """The response is forged."""


class FaultyClient:
    """A client under test. Each name is a check that it omits, or another fault."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        self.key_pair = KeyPair()  # reused by the fault `same-key`
        self.redirects = 5 if "redirects" in faults else 0
        self.largest = None if "bounds" in faults else _LARGEST

    def __call__(self, settings: Settings, _limit_seconds: float) -> Finished:
        return self.start(settings, {})

    def start(self, settings: Settings, answers: Answers) -> Finished:
        """Start the program once. What is in `answers` is not asked again; what is asked is added."""
        try:
            return self._started(settings, answers)
        except (
            ForgedError,
            KadunError,
            OSError,
            http.client.HTTPException,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ):
            return REFUSED

    def _started(self, settings: Settings, answers: Answers) -> Finished:
        pinned = json.loads(Path(settings.keys).read_text())
        if "verdict" not in answers:
            answers["verdict"] = self.asked(settings)
        request, key_pair, body = answers["verdict"]
        document = self.read(body)
        if "words" in self.faults and document.get("code") in ("CARD_FROZEN", "UPDATE_REQUIRED"):
            return Finished(3, b"")
        claims = self.verified(settings, answers, pinned, document["token"])
        for name, holds in CLAIMS.items():
            if name not in self.faults and not holds(claims, request, pinned):
                raise ForgedError(name)
        if not claims.get("accepted") and claims.get("code") != "OK":
            return Finished(3, b"")
        return Finished(0, self.unsealed(settings, claims, key_pair))

    def asked(self, settings: Settings) -> tuple[Json, KeyPair, bytes]:
        key_pair = self.key_pair if "same-key" in self.faults else KeyPair()
        request = {
            "card_id": settings.card,
            "hardware": settings.hardware,
            "function": settings.function,
        }
        if "asks-clear" not in self.faults:
            request["client_public_key"] = key_pair.public_key
        for _try in range(2):
            request["nonce"] = "A" * 32 if "same-nonce" in self.faults else secrets.token_urlsafe(24)
            status, body = self.exchange(settings, "/v1/verify", json.dumps(request).encode())
            if status != 503:
                break
        return request, key_pair, body

    def unsealed(self, settings: Settings, claims: Json, key_pair: KeyPair) -> bytes:
        if "KERNAL_DATA_KEY" in claims:
            if not {"clear", "asks-clear"} & set(self.faults):
                raise ForgedError("clear")
            key = claims["KERNAL_DATA_KEY"]
        else:
            key = key_pair.open(claims["KERNAL_DATA_KEY_SEALED"]).reveal()
        lines = [line for line in key.splitlines() if line.startswith("AGE-")]
        identities = [pyrage.x25519.Identity.from_str(line) for line in lines]
        return bytes(pyrage.decrypt(Path(settings.core).read_bytes(), identities))

    def verified(
        self, settings: Settings, answers: Answers, pinned: Json, token: str, typ: str = "verdict+jwt"
    ) -> Json:
        first, second, third = token.split(".")[: 3 if "parts" in self.faults else None]
        header = self.read(self.decode(first))
        if header.get("typ") != typ and "typ" not in self.faults:
            raise ForgedError("typ")
        if {"crit", "b64"} & set(header) and "crit" not in self.faults:
            raise ForgedError("crit")
        signed, signature = f"{first}.{second}".encode(), self.decode(third) if third else b""
        keys = self.keys(settings, answers, pinned, header) if typ == "verdict+jwt" else self.pinned_keys(pinned)
        if not self.holds(header, keys, signed, signature):
            raise ForgedError("signature")
        return self.read(self.decode(second))

    def holds(self, header: Json, keys: dict[str, bytes], signed: bytes, signature: bytes) -> bool:
        alg = header.get("alg")
        if "none" in self.faults and str(alg).lower() == "none":
            return True
        kid = header.get("kid")
        own = header.get("jwk", {}).get("x") if "jwk" in self.faults else None
        tried = list(keys.values()) if "kid" in self.faults else [keys[kid]] if kid in keys else []
        tried = [decode_base64url(own, "own key")] if own else tried
        if "hs256" in self.faults and alg == "HS256":
            return any(hmac.digest(raw, signed, "sha256") == signature for raw in tried)
        if alg != "EdDSA" and "alg" not in self.faults:
            return False
        return bool(tried) if "signature" in self.faults else any(_signed(raw, signed, signature) for raw in tried)

    def pinned_keys(self, pinned: Json) -> dict[str, bytes]:
        return {jwk["kid"]: decode_base64url(jwk["x"], "a key") for jwk in pinned["keys"]}

    def key_set(self, settings: Settings, answers: Answers) -> bytes:
        if "keys" not in answers:
            _status, answers["keys"] = self.exchange(settings, "/.well-known/jwks.json", None)
        return bytes(answers["keys"])

    def keys(self, settings: Settings, answers: Answers, pinned: Json, header: Json) -> dict[str, bytes]:
        trusted = self.pinned_keys(pinned)
        if header.get("kid") in trusted and "set" not in self.faults:
            return trusted
        document = self.read(self.key_set(settings, answers))
        if "set" in self.faults:  # trusts the network, even about the pinned kid
            return {**trusted, **self.pinned_keys(document)}
        waiting = list(document["endorsements"])
        while True:
            kids = {kid: {"kid": kid, "x": encode_base64url(raw)} for kid, raw in trusted.items()}
            found = [entry for entry in waiting if self._kid(entry) in trusted]
            if not found:
                return trusted
            for entry in found:
                claims = self.verified(settings, answers, {"keys": list(kids.values())}, entry, "key+jwt")
                if claims.get("aud") != "kadun-client" and "endorsed-aud" not in self.faults:
                    raise ForgedError("aud of an endorsement")
                waiting.remove(entry)
                if claims.get("iss", pinned["iss"]) != pinned["iss"] and "endorsed-iss" not in self.faults:
                    continue
                jwk = claims["jwk"]
                if (jwk["kty"], jwk["crv"]) != ("OKP", "Ed25519"):
                    raise ForgedError("an endorsed key of another type")
                members = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": jwk["x"]}, separators=(",", ":"))
                thumbprint = encode_base64url(hashlib.sha256(members.encode()).digest())
                if jwk["kid"] != thumbprint and "thumbprint" not in self.faults:
                    raise ForgedError("thumbprint")
                trusted[jwk["kid"]] = decode_base64url(jwk["x"], "a key")

    def _kid(self, endorsement: str) -> object:
        return self.read(self.decode(endorsement.split(".", 1)[0])).get("kid")

    def read(self, raw: bytes) -> Json:
        if "json" in self.faults:
            return dict(json.loads(raw))
        return parse_json_object(raw, "JSON")

    def decode(self, text: str) -> bytes:
        if "base64" in self.faults:
            return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
        return decode_base64url(text, "base64url")

    def exchange(self, settings: Settings, path: str, body: bytes | None) -> tuple[int, bytes]:
        url = settings.url + path
        for _hop in range(self.redirects + 1):
            status, content, location = self._once(url, body, settings.timeout_seconds)
            if location is None or not self.redirects:
                return status, content
            url = urljoin(url, location)
            body = body if status in (307, 308) else None
        raise ForgedError("redirects")

    def _once(self, url: str, body: bytes | None, timeout: float) -> tuple[int, bytes, str | None]:
        parts = urlsplit(url)
        # Limits each read, not the total: a response byte by byte never ends.
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=timeout)
        try:
            connection.request("GET" if body is None else "POST", parts.path, body)
            response = connection.getresponse()
            content = response.read(self.largest and self.largest + 1)
        finally:
            connection.close()
        if self.largest and len(content) > self.largest:
            raise ForgedError("bounds")
        return response.status, content, response.headers["Location"]


class Crowd:
    """Clients with different faults, by name; for each case one asks, and all judge the answers."""

    def __init__(self, clients: dict[str, FaultyClient]) -> None:
        self._clients = clients
        self.finished: dict[str, dict[str, Finished]] = {}
        """By the case's URL and the client's name."""

    def __call__(self, settings: Settings, _limit_seconds: float) -> Finished:
        answers: Answers = {}
        self.finished[settings.url] = {n: client.start(settings, answers) for n, client in self._clients.items()}
        return REFUSED


def _signed(raw: bytes, signed: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, signed)
    except InvalidSignature:
        return False
    return True
