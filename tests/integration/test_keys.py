"""`cardctl key …` and `cardctl seal`, and a rotation of the signing key under a running service."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pyrage

from app.storage.models import Event
from tests.support.service import ROOT, Service, question, wait_for


def test_the_public_keys_are_exported_for_clients_to_pin(keyed: Service) -> None:
    exported = json.loads(keyed.cardctl("key", "export").stdout)
    assert (exported["iss"], len(exported["keys"])) == ("kadun", 2)
    assert all("d" not in key for key in exported["keys"])
    assert exported["keys"][0]["kid"] in keyed.cardctl("key", "list").stdout


def test_a_sealed_file_opens_with_the_key_only(keyed: Service, tmp_path: Path) -> None:
    (tmp_path / "core.dat").write_bytes(os.urandom(300_000))
    keyed.cardctl("seal", str(tmp_path / "core.dat"), "-o", str(tmp_path / "core.dat.age"))
    identity = pyrage.x25519.Identity.from_str(keyed.environment["KERNAL_DATA_KEY"])
    sealed = (tmp_path / "core.dat.age").read_bytes()
    assert sealed.startswith(b"age-encryption.org/v1\n")
    assert pyrage.decrypt(sealed, [identity]) == (tmp_path / "core.dat").read_bytes()
    assert keyed.cardctl("key", "recipient").stdout.strip() == str(identity.to_public())


def test_sealing_goes_through_pipes(keyed: Service) -> None:
    sealed = subprocess.run(
        [sys.executable, "-m", "app", "seal", "-", "-o", "-"],
        cwd=ROOT,
        env=keyed.environment,
        input=b"core",
        capture_output=True,
        check=True,
    ).stdout
    assert pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(keyed.environment["KERNAL_DATA_KEY"])]) == b"core"


def test_sealing_over_the_plain_file_is_refused_and_a_failure_leaves_nothing(keyed: Service, tmp_path: Path) -> None:
    plain = tmp_path / "core.dat"
    plain.write_bytes(b"core")
    assert keyed.cardctl("seal", str(plain), "-o", str(plain), check=False).returncode == 2
    assert keyed.cardctl("seal", str(tmp_path / "none"), "-o", str(tmp_path / "x.age"), check=False).returncode == 1
    keyed.environment["KERNAL_DATA_KEY"] = "a scheme of my own"
    assert "no age identity" in keyed.refusal("seal", str(plain), "-o", str(tmp_path / "x.age"))
    assert (plain.read_bytes(), (tmp_path / "x.age").exists()) == (b"core", False)


def test_a_copy_of_the_keys_is_put_back_unless_the_present_ones_are_newer(keyed: Service, tmp_path: Path) -> None:
    ring, copy = keyed.folder / "keys" / "keyring.json", tmp_path / "copy.json"
    copy.write_bytes(ring.read_bytes())
    keyed.cardctl("key", "rotate")
    rotated = ring.read_bytes()
    assert "the present signing keys are newer" in keyed.cardctl("key", "restore", str(copy)).stderr.lower()
    assert ring.read_bytes() == rotated
    ring.unlink()
    keyed.cardctl("key", "create")  # as a first start makes one
    created = ring.read_bytes()
    assert "The signing keys are in place" in keyed.cardctl("key", "restore", str(copy)).stderr
    assert ring.read_bytes() == copy.read_bytes()
    (kept,) = ring.parent.glob("keyring.replaced-*.json")
    assert kept.read_bytes() == created
    copy.write_text("{}")
    assert "not an intact keyring.json" in keyed.refusal("key", "restore", str(copy))


def test_a_rotation_is_taken_up_within_seconds_and_drops_no_request(own_service: Service) -> None:
    service = own_service
    (card_id,) = service.issue()
    before = service.get("/.well-known/jwks.json").body
    current: str = jwt.get_unverified_header(service.verify(question(card_id)).body["token"])["kid"]
    service.cardctl("key", "rotate")
    announced = {key["kid"] for key in before["keys"]}

    def taken_up() -> bool:
        answer = service.verify(question(card_id))
        assert answer.status == 200
        kid: str = jwt.get_unverified_header(answer.body["token"])["kid"]
        assert kid in announced  # the next key was published before it signed
        return kid != current

    wait_for(taken_up, 15)

    def with_three_keys() -> dict[str, Any] | None:
        document = service.get("/.well-known/jwks.json").body  # from either process
        return document if len(document["keys"]) == 3 else None

    after = wait_for(with_three_keys, 15)
    keys = {key["kid"]: key for key in after["keys"]}
    for signed in after["endorsements"]:
        signer = keys[jwt.get_unverified_header(signed)["kid"]]
        endorsed = jwt.decode(signed, jwt.PyJWK(signer), ["EdDSA"], audience="kadun-client")["jwk"]
        assert (jwt.get_unverified_header(signed)["typ"], endorsed) == ("key+jwt", keys[endorsed["kid"]])
    assert Event.select().where(Event.kind == "key_rotated").count() == 1


def test_endorsements_name_the_issuer_and_a_second_rotation_within_15_minutes_needs_force(keyed: Service) -> None:
    keyed.environment["KADUN_ISSUER"] = "another name"
    keyed.cardctl("key", "rotate")
    ring = json.loads((keyed.folder / "keys" / "keyring.json").read_bytes())
    claims = [jwt.decode(token, options={"verify_signature": False}) for token in ring["endorsements"]]
    assert [claim["iss"] for claim in claims] == ["kadun", "another name"]
    before = keyed.cardctl("key", "list").stdout
    assert "less than 15 minutes ago" in keyed.refusal("key", "rotate")
    assert keyed.cardctl("key", "list").stdout == before
    assert Event.select().where(Event.kind == "key_rotated").count() == 1
    keyed.cardctl("key", "rotate", "--force")
    assert Event.select().where(Event.kind == "key_rotated").count() == 2
