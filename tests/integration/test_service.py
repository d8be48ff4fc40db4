"""The running service: keys, sealing, metrics, and how a wrong start ends."""

import base64
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import jwt
from joserfc import jwe
from joserfc.jwk import OKPKey

from app.storage.database import Database
from app.storage.models import Event
from app.storage.schema import expected_version
from tests.support.service import Service, question, wait_for


def public_key_of(key: OKPKey) -> str:
    return str(key.as_dict(private=False)["x"])


def header(token: str) -> dict[str, object]:
    return dict(json.loads(base64.urlsafe_b64decode(token.split(".", 1)[0] + "==")))


def test_a_token_is_what_the_protocol_promises(service: Service) -> None:
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
    assert set(answer.body) == {"code", "message", "token"}


def test_the_key_comes_sealed_when_a_public_key_is_sent(service: Service) -> None:
    (card_id,) = service.issue()
    key = OKPKey.generate_key("X25519")
    claims = service.verify(question(card_id, client_public_key=public_key_of(key))).claims
    sealed = claims["KERNAL_DATA_KEY_SEALED"]
    assert "KERNAL_DATA_KEY" not in claims
    assert set(header(sealed)) == {"alg", "enc", "epk"}
    opened = jwe.decrypt_compact(sealed, key, algorithms=["ECDH-ES", "A256GCM"])
    assert (opened.plaintext or b"").decode() == service.environment["KERNAL_DATA_KEY"]


def test_a_vendor_may_insist_on_the_sealed_key(database_url: str, tmp_path: Path) -> None:
    with Service(tmp_path, database_url, KADUN_REQUIRE_SEALED="true") as service:
        (card_id,) = service.issue()
        refused = service.verify(question(card_id))
        assert (refused.status, refused.body["field"]) == (400, "client_public_key")
        assert service.verify(question(card_id, function="导出报表")).status == 200
        key = public_key_of(OKPKey.generate_key("X25519"))
        assert service.verify(question(card_id, client_public_key=key)).status == 200


def test_offline_starts_end_with_the_card(database_url: str, tmp_path: Path) -> None:
    with Service(tmp_path, database_url, KADUN_OFFLINE_GRACE="7d") as service:
        short, long = service.issue(validity="1d") + service.issue(validity="permanent")
        first = service.verify(question(short, hardware="h1")).claims
        second = service.verify(question(long, hardware="h2")).claims
    assert first["offline_until"] == first["card_expires_at"]
    assert second["offline_until"] == second["iat"] + 7 * 86_400


def test_a_rejection_names_its_reference_in_the_readers_language(service: Service) -> None:
    answer = service.verify(question("0" * 32), **{"Accept-Language": "en"})
    reference = answer.claims["jti"][-8:]
    assert answer.body["message"].endswith(f"(reference: {reference})")
    printed = service.cardctl("events", "--reference", reference.lower(), "--format", "json").stdout
    assert [event["code"] for event in json.loads(printed)] == ["CARD_NOT_FOUND"]


def test_a_rotation_is_taken_up_within_seconds_and_drops_no_request(own_service: Service, database: Database) -> None:
    service = own_service
    (card_id,) = service.issue()
    before = service.get("/.well-known/jwks.json").body
    current = header(service.verify(question(card_id)).body["token"])["kid"]
    service.cardctl("key", "rotate")
    announced = {key["kid"] for key in before["keys"]}

    def taken_up() -> bool:
        answer = service.verify(question(card_id))
        assert answer.status == 200
        kid = header(answer.body["token"])["kid"]
        assert kid in announced  # the next key was published before it signed
        return kid != current

    wait_for(taken_up, 15)

    def with_three_keys() -> dict[str, Any] | None:
        document = service.get("/.well-known/jwks.json").body  # from either process
        return document if len(document["keys"]) == 3 else None

    after = wait_for(with_three_keys, 15)
    keys = {key["kid"]: key for key in after["keys"]}
    for signed in after["endorsements"]:
        signer = keys[str(header(signed)["kid"])]
        endorsed = jwt.decode(signed, jwt.PyJWK(signer), ["EdDSA"], audience="kadun-client")["jwk"]
        assert (header(signed)["typ"], endorsed) == ("key+jwt", keys[endorsed["kid"]])
    assert Event.select().where(Event.kind == "key_rotated").count() == 1


def test_metrics_add_up_across_the_processes(own_service: Service) -> None:
    for _ in range(40):
        own_service.verify(question("0" * 32))
    with urllib.request.urlopen(f"http://127.0.0.1:{own_service.port}/metrics") as answer:
        text = answer.read().decode()
    counted = re.search(r'kadun_verdicts_total\{code="CARD_NOT_FOUND"\} ([0-9.]+)', text)
    assert counted is not None
    assert float(counted[1]) == 40


def test_each_request_is_one_line_of_json_with_the_id_that_the_client_got(service: Service) -> None:
    answer = service.verify(question("0" * 32))

    def logged() -> list[dict[str, object]]:
        # Not `splitlines`: a path in a line may hold what Unicode calls a line's end. The last may be on its way.
        lines = [json.loads(line) for line in service.log.read_text().split("\n")[:-1]]
        return [line for line in lines if line.get("request_id") == answer.headers["x-request-id"]]

    (line,) = wait_for(logged)
    assert (line["message"], line["status"], line["code"]) == ("request", 404, "CARD_NOT_FOUND")


def test_a_path_in_the_log_steers_no_terminal(service: Service) -> None:
    service.get("/%C2%9B31m%E2%80%AE")
    line = wait_for(lambda: [line for line in service.log.read_text().split("\n")[:-1] if "31m" in line])[0]
    assert line.isprintable()
    assert json.loads(line)["path"] == r"/\x9b31m\u202e"


def refused_start(service: Service) -> str:
    process = service.spawn()
    assert process.wait(30) == 1
    (line,) = [line for line in service.log.read_text().splitlines() if line.startswith("kadun: ")]
    assert "Traceback" not in service.log.read_text()
    return line


def test_a_wrong_setting_is_one_clear_line(database_url: str, tmp_path: Path) -> None:
    assert "KADUN_THREADS is 'many'" in refused_start(Service(tmp_path, database_url, KADUN_THREADS="many"))


def test_a_missing_secret_is_one_clear_line(database_url: str, tmp_path: Path) -> None:
    missing = Service(tmp_path, database_url, KERNAL_DATA_KEY="", KERNAL_DATA_KEY_FILE=str(tmp_path / "none"))
    assert "KERNAL_DATA_KEY_FILE: cannot read" in refused_start(missing)


def test_another_schema_is_refused_by_name(database: Database, database_url: str, tmp_path: Path) -> None:
    database.execute_sql("INSERT INTO schema_migration (name, applied) VALUES ('9999_future', now())")
    try:
        line = refused_start(Service(tmp_path, database_url))
        assert "9999_future" in line
        assert expected_version() in line
    finally:
        database.execute_sql("DELETE FROM schema_migration WHERE name = '9999_future'")


def test_lost_signing_keys_are_not_silently_replaced(own_service: Service, tmp_path: Path) -> None:
    service = own_service
    (card_id,) = service.issue()
    service.verify(question(card_id))
    service.stop()
    (tmp_path / "keys" / "keyring.json").unlink()
    service.log.write_text("")
    assert "restore the folder from a backup" in refused_start(service)


def test_damaged_signing_keys_are_one_clear_line(own_service: Service, tmp_path: Path) -> None:
    service = own_service
    service.stop()
    (tmp_path / "keys" / "keyring.json").write_text("{")
    service.log.write_text("")
    assert "damaged" in refused_start(service)
