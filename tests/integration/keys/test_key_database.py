"""Signing keys in the database, which several machines share, and the commands for keys and sealed files."""
# Owns keys-database.

import base64
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import peewee
import pyrage
import pytest

from app.runtime.settings import DATABASE, FOLDER, Settings
from app.services.keys.signing_keys import KeyDatabase, SigningKeys
from app.storage.database import Database
from app.storage.models import Event, SealedKeyRing
from app.tokens.key_folder import KeyFolder
from app.tokens.keyring import KeyRingError
from app.tokens.keys import KeyRing
from tests.conftest import Clock
from tests.support.concurrency import at_once
from tests.support.services.service import ROOT, Service, question, wait_for

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
IDENTITY = str(pyrage.x25519.Identity.generate())


@pytest.fixture
def store(database: Database) -> KeyDatabase:
    return KeyDatabase(database, IDENTITY)


def in_database(service: Service) -> Service:
    service.environment |= {"KADUN_KEYS": DATABASE, "KADUN_KEYS_IDENTITY": IDENTITY}
    return service


def signing_keys(database: Database, folder: Path, chosen: str) -> SigningKeys:
    settings = Settings.from_env(Service(folder, "postgresql://localhost/kadun").environment)
    return SigningKeys(database, replace(settings, keys=chosen, keys_identity=IDENTITY))


def current_kid(service: Service, card_id: str) -> str:
    answer = service.verify(question(card_id))
    assert answer.status == 200, answer
    return str(json.loads(base64.urlsafe_b64decode(answer.body["token"].split(".")[0] + "=="))["kid"])


def test_a_ring_is_one_row_rotated_and_opened_with_its_identity_alone(store: KeyDatabase, database: Database) -> None:
    assert not store.exists()
    with pytest.raises(KeyRingError, match="no signing keys in the database"):
        store.load()
    ring = store.create(NOW)
    assert store.create(NOW + timedelta(days=1)) == ring == store.load()
    row = SealedKeyRing.get()
    assert row.kids == [key.kid for key in ring.keys]
    assert not any(str(key.private) in row.sealed for key in ring.keys)
    rotated = store.rotate(NOW)
    assert (rotated.current, store.load()) == (ring.keys[-1], rotated)
    with pytest.raises(KeyRingError, match="less than 15 minutes ago"):
        store.rotate(NOW + timedelta(minutes=14))
    assert store.load() == rotated
    assert SealedKeyRing.select().count() == 1
    assert store.rotate(NOW, force=True).keys[:2] == store.load().keys[:2]
    for identity, said in (
        (str(pyrage.x25519.Identity.generate()), "put your copy of secrets/keys_identity back"),
        (None, "KADUN_KEYS_IDENTITY is not set"),
    ):
        with pytest.raises(KeyRingError, match=said):
            KeyDatabase(database, identity).load()


def test_a_newer_ring_stays_and_an_unrelated_or_damaged_one_is_put_aside(store: KeyDatabase) -> None:
    first = KeyRing.new(NOW)
    store.create(NOW)
    assert store.restore(first, NOW)
    store.rotate(NOW)
    assert not store.restore(first, NOW)
    assert len(store.load().keys) == 3
    in_use = SealedKeyRing.replaced_at.is_null()
    SealedKeyRing.update(sealed="-----BEGIN AGE ENCRYPTED FILE-----\nnone").where(in_use).execute()
    with pytest.raises(KeyRingError, match="do not open with KADUN_KEYS_IDENTITY"):
        store.load()
    assert store.restore(first, NOW)
    assert store.load() == first
    assert [row.replaced_at for row in SealedKeyRing.select().order_by(SealedKeyRing.id)] == [NOW, NOW, None]


def test_twenty_first_starts_of_two_hosts_at_once_make_one_ring_each(database: Database) -> None:
    def begin() -> KeyRing:
        with database.connection_context():
            return KeyDatabase(database, IDENTITY).create(NOW)

    for _ in range(20):
        SealedKeyRing.delete().execute()
        made, other = at_once([begin, begin])
        assert (made, SealedKeyRing.select().count()) == (other, 1)


def test_a_rotation_that_cannot_be_journalled_did_not_happen(database: Database, clock: Clock, tmp_path: Path) -> None:
    stores = [signing_keys(database, tmp_path / chosen, chosen) for chosen in (FOLDER, DATABASE)]
    for keys in stores:  # the folder first: once the database has keys, those of a folder are not rotated
        ring = keys.create(clock)
        database.execute_sql("ALTER TABLE event ADD CONSTRAINT no_journal CHECK (false) NOT VALID")
        try:
            with pytest.raises(peewee.IntegrityError, match="no_journal"):
                keys.rotate("tester", clock, force=True)
        finally:
            database.execute_sql("ALTER TABLE event DROP CONSTRAINT no_journal")
        assert keys.store.load() == ring


def test_keys_move_both_ways_and_the_store_in_use_is_rotated(database: Database, clock: Clock, tmp_path: Path) -> None:
    folder, there = signing_keys(database, tmp_path, FOLDER), signing_keys(database, tmp_path, DATABASE)
    with pytest.raises(KeyRingError, match="cannot read the signing keys"):
        folder.move(DATABASE, "tester", clock)
    ring = folder.create(clock)
    assert folder.move(DATABASE, "tester", clock) == (ring, True)
    folder.check_place()  # with the same keys it may go on
    with pytest.raises(KeyRingError, match="set KADUN_KEYS=database"):
        folder.rotate("tester", clock, force=True)
    rotated = there.rotate("tester", clock, force=True)
    with pytest.raises(KeyRingError, match="set KADUN_KEYS=database"):
        folder.check_place()
    assert folder.move(DATABASE, "tester", clock) == (rotated, False)  # what is newer stays
    assert there.move(FOLDER, "tester", clock) == (rotated, True)
    assert (folder.moved_to(), there.moved_to()) == (None, FOLDER)
    there.check_place()
    with pytest.raises(KeyRingError, match="set KADUN_KEYS=folder"):
        there.rotate("tester", clock, force=True)
    KeyFolder(folder.folder).file.unlink()
    with pytest.raises(KeyRingError, match="set KADUN_KEYS=folder"):
        there.check_place()
    kinds = [(event.kind, event.details["kid"]) for event in Event.select().order_by(Event.id)]
    moved, kid = "keys_moved", rotated.current.kid
    assert kinds == [(moved, ring.current.kid), ("key_rotated", kid), (moved, kid), (moved, kid)]


def test_two_hosts_share_one_ring_and_its_rotation(database: Database, database_url: str, tmp_path: Path) -> None:
    one, other = (in_database(Service(tmp_path / name, database_url)) for name in ("one", "other"))
    for host in (one, other):
        host.folder.mkdir()
    with one, other:
        assert [file.name for file in (one.folder / "keys").iterdir()] == ["data-key.json"]
        before = one.get("/.well-known/jwks.json").body
        assert other.get("/.well-known/jwks.json").body == before
        (card_id,) = one.issue()
        assert current_kid(one, card_id) == before["keys"][0]["kid"]
        one.cardctl("key", "rotate")
        for host in (one, other):
            wait_for(lambda host=host: current_kid(host, card_id) == before["keys"][1]["kid"], 15)


def test_a_running_service_does_not_notice_a_move(own_service: Service) -> None:
    service = own_service
    service.environment["KADUN_KEYS_IDENTITY"] = IDENTITY
    (card_id,) = service.issue()
    before = service.get("/.well-known/jwks.json").body
    assert "KADUN_KEYS=database" in service.cardctl("key", "store", "database").stderr
    assert current_kid(service, card_id) == before["keys"][0]["kid"]
    assert "set KADUN_KEYS=database" in service.refusal("key", "rotate")
    service.stop()
    with in_database(service):
        assert service.get("/.well-known/jwks.json").body == before
        assert current_kid(service, card_id) == before["keys"][0]["kid"]


def test_public_keys_are_exported_and_sealing_goes_through_pipes_and_opens_with_the_key_alone(keyed: Service) -> None:
    exported = json.loads(keyed.cardctl("key", "export").stdout)
    assert (exported["iss"], len(exported["keys"])) == ("kadun", 2)
    assert all("d" not in key for key in exported["keys"])
    assert exported["keys"][0]["kid"] in keyed.cardctl("key", "list").stdout
    command, content = [sys.executable, "-m", "app", "seal", "-", "-o", "-"], os.urandom(300_000)
    done = subprocess.run(command, cwd=ROOT, env=keyed.environment, input=content, capture_output=True, check=True)
    identity = pyrage.x25519.Identity.from_str(keyed.environment["KERNAL_DATA_KEY"])
    assert pyrage.decrypt(done.stdout, [identity]) == content
    assert keyed.cardctl("key", "recipient").stdout.strip() == str(identity.to_public())


def test_sealing_over_the_plain_file_is_refused_and_a_failure_leaves_nothing(keyed: Service, tmp_path: Path) -> None:
    plain, sealed = tmp_path / "core.dat", tmp_path / "x.age"
    plain.write_bytes(b"core")
    earlier = tmp_path / "earlier.age"
    earlier.write_bytes(b"of before")
    before = set(tmp_path.iterdir())
    unreadable = Path("/proc/self/mem")  # opens, but cannot be read from its beginning
    for source, target, status in ((plain, plain, 2), (tmp_path / "none", sealed, 1), (unreadable, earlier, 1)):
        assert keyed.cardctl("seal", str(source), "-o", str(target), check=False).returncode == status
    keyed.environment["KERNAL_DATA_KEY"] = "a scheme of my own"
    assert "no age identity" in keyed.refusal("seal", str(plain), "-o", str(sealed))
    assert (plain.read_bytes(), earlier.read_bytes(), set(tmp_path.iterdir())) == (b"core", b"of before", before)


def test_a_copy_of_the_keys_is_put_back_unless_the_present_ones_are_newer(keyed: Service, tmp_path: Path) -> None:
    ring, copy = keyed.folder / "keys" / "keyring.json", tmp_path / "copy.json"
    copy.write_bytes(ring.read_bytes())
    keyed.cardctl("key", "rotate")
    assert "the present signing keys are newer" in keyed.cardctl("key", "restore", str(copy)).stderr.lower()
    ring.unlink()
    assert "The signing keys are in place" in keyed.cardctl("key", "restore", str(copy)).stderr
    assert ring.read_bytes() == copy.read_bytes()
