"""A rotation of the signing key under a running service."""

import base64
import json
from typing import Any

import jwt

from app.storage.models import Event
from tests.support.service import Service, question, wait_for


def header(token: str) -> dict[str, object]:
    return dict(json.loads(base64.urlsafe_b64decode(token.split(".", 1)[0] + "==")))


def test_a_rotation_is_taken_up_within_seconds_and_drops_no_request(own_service: Service) -> None:
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


def test_a_second_rotation_within_15_minutes_needs_force(own_service: Service) -> None:
    own_service.cardctl("key", "rotate")
    before = own_service.cardctl("key", "list").stdout
    assert "less than 15 minutes ago" in own_service.refusal("key", "rotate")
    assert own_service.cardctl("key", "list").stdout == before
    assert Event.select().where(Event.kind == "key_rotated").count() == 1
    own_service.cardctl("key", "rotate", "--force")
    assert Event.select().where(Event.kind == "key_rotated").count() == 2
