"""The claims of a real verdict: signed, sealed where asked for, and with a reference for the vendor."""

import base64
import hashlib
import json
from pathlib import Path

import jwt
from joserfc import jwe
from joserfc.jwk import OKPKey

from tests.support.service import Service, question


def public_key_of(key: OKPKey) -> str:
    return str(key.as_dict(private=False)["x"])


def header(token: str) -> dict[str, object]:
    return dict(json.loads(base64.urlsafe_b64decode(token.split(".", 1)[0] + "==")))


def test_a_token_has_the_claims_of_the_protocol(service: Service) -> None:
    (card_id,) = service.issue(validity="1d")
    asked = question(card_id)
    answer = service.verify(asked)
    keys = {key["kid"]: key for key in service.get("/.well-known/jwks.json").body["keys"]}
    kid = header(answer.body["token"])["kid"]
    claims = jwt.decode(
        answer.body["token"], jwt.PyJWK(keys[str(kid)]), ["EdDSA"], audience="kadun-client", issuer="kadun"
    )
    assert header(answer.body["token"]) == {"alg": "EdDSA", "typ": "verdict+jwt", "kid": kid}
    assert {name: claims[name] for name in ("sub", "nonce", "function")} == {
        "sub": card_id,
        "nonce": asked["nonce"],
        "function": "打开程序",
    }
    assert claims["exp"] - claims["iat"] == 300
    assert claims["card_expires_at"] - claims["card_activated_at"] == 86_400
    assert claims["KERNAL_DATA_KEY"] == service.environment["KERNAL_DATA_KEY"]
    assert "offline_until" not in claims, "without the vendor's leave"
    assert set(answer.body) == {"code", "message", "token"}


def test_every_verdict_is_bound_to_the_bytes_of_its_request(service: Service) -> None:
    (card_id,) = service.issue()
    for path in ("/v1/verify", "/v1/files"):  # and /v1/execute: tests.support.executing
        for card, ensure_ascii in ((card_id, True), (card_id, False), ("0" * 32, False)):
            body = f"\n{json.dumps(question(card), ensure_ascii=ensure_ascii, indent=1)} ".encode()
            answer = service.request("POST", path, body, {"Content-Type": "application/json"})
            assert answer.claims["request_sha256"] == hashlib.sha256(body).hexdigest(), (path, answer)


def test_the_key_is_sealed_when_a_public_key_is_sent(service: Service) -> None:
    (card_id,) = service.issue()
    key = OKPKey.generate_key("X25519")
    claims = service.verify(question(card_id, client_public_key=public_key_of(key))).claims
    sealed = claims["KERNAL_DATA_KEY_SEALED"]
    assert "KERNAL_DATA_KEY" not in claims
    assert set(header(sealed)) == {"alg", "enc", "epk"}
    opened = jwe.decrypt_compact(sealed, key, algorithms=["ECDH-ES", "A256GCM"])
    assert (opened.plaintext or b"").decode() == service.environment["KERNAL_DATA_KEY"]


def test_a_setting_requires_the_sealed_key(database_url: str, tmp_path: Path) -> None:
    with Service(tmp_path, database_url, KADUN_REQUIRE_SEALED="true") as service:
        (card_id,) = service.issue()
        refused = service.verify(question(card_id))
        assert (refused.status, refused.body["field"]) == (400, "client_public_key")
        assert service.verify(question(card_id, function="导出报表")).status == 200
        key = public_key_of(OKPKey.generate_key("X25519"))
        assert service.verify(question(card_id, client_public_key=key)).status == 200


def test_offline_starts_are_allowed_until_the_cards_expiry_at_most(database_url: str, tmp_path: Path) -> None:
    with Service(tmp_path, database_url, KADUN_OFFLINE_GRACE="7d") as service:
        short, long = service.issue(validity="1d") + service.issue(validity="permanent")
        first = service.verify(question(short, hardware="h1")).claims
        second = service.verify(question(long, hardware="h2")).claims
    assert first["offline_until"] == first["card_expires_at"]
    assert second["offline_until"] == second["iat"] + 7 * 86_400


def test_a_rejection_names_its_reference_in_the_readers_language(service: Service) -> None:
    answer = service.verify(question("0" * 32), **{"Accept-Language": "en"})
    reference = answer.claims["jti"][-8:]
    assert answer.body["message"].endswith(f"(reference {reference})")
    printed = service.cardctl("events", "--reference", reference.lower(), "--format", "json").stdout
    assert [event["code"] for event in json.loads(printed)] == ["CARD_NOT_FOUND"]
