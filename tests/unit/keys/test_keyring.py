"""The key ring on disk: created once, rotated and endorsed without a gap; signing goes on whatever happens to it."""
# Owns keys-rotation.

import base64
import json
import logging
import stat
from collections.abc import Callable, Hashable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import Mock

import jwt
import pytest
from joserfc.jwk import OKPKey

from app.domain.errors import UnavailableError
from app.tokens import key_folder
from app.tokens.key_folder import KeyFolder
from app.tokens.keyring import KeyRingError
from app.tokens.keys import KeyRing, KeyState
from app.tokens.signer import VERDICT_TYPE, Signer
from tests.support.concurrency import at_once
from tests.support.services.service import wait_for
from tests.support.tables import for_each

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
CLAIMS = {"aud": "kadun-client", "code": "OK", "function": "打开程序", "card_expires_at": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keys"


def decoded(endorsement: str, public: dict[str, str]) -> dict[str, Any]:
    # The keys of these tests are made at a time of our own: the machine's clock has no say.
    key, options = jwt.PyJWK(public).key, {"verify_iat": False}
    return jwt.decode(endorsement, key, algorithms=["EdDSA"], audience="kadun-client", options=options)


def follow(ring: KeyRing, pinned: dict[str, str]) -> list[str]:
    """Walk the endorsements from a pinned key as a client does; return the IDs of keys believed."""
    believed = {pinned["kid"]: pinned}
    for endorsement in ring.endorsements:
        header = jwt.get_unverified_header(endorsement)
        if header["kid"] not in believed:
            continue
        assert header == {"alg": "EdDSA", "typ": "key+jwt", "kid": header["kid"]}
        claims = decoded(endorsement, believed[header["kid"]])
        believed[claims["jwk"]["kid"]] = claims["jwk"]
    return list(believed)


def test_a_ring_is_created_once_and_its_published_keys_are_jwks_without_a_secret(folder: Path) -> None:
    assert not KeyFolder(folder).exists()
    ring = KeyFolder(folder).create(NOW)
    assert (ring.current, len(ring.keys), len(ring.endorsements)) == (ring.keys[0], 2, 1)
    assert KeyFolder(folder).load() == KeyFolder(folder).create(NOW + timedelta(days=1)) == ring
    assert KeyFolder(folder).exists()
    assert [key.private for key in ring.keys if not key.private or key.private in repr(ring)] == []
    assert repr(ring.current) == f"Key({ring.current.kid})"
    for public in ring.published(NOW):
        key = {"kty": "OKP", "crv": "Ed25519", "x": public["x"]}
        assert len(base64.urlsafe_b64decode(public["x"] + "=")) == 32
        assert public == key | {"kid": OKPKey.import_key(key).thumbprint(), "use": "sig", "alg": "EdDSA"}
    # Only the owner can read the folder and its files.
    KeyFolder(folder).rotate(NOW)
    other = folder.with_name("other")
    key_folder.write_file(other / "file", b"content")
    assert (other / "file").read_bytes() == b"content"
    paths = (folder, other, *folder.iterdir(), other / "file")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert modes == {"keys": 0o700, "other": 0o700, key_folder.FILE: 0o600, ".lock": 0o600, "file": 0o600}


def test_a_second_rotation_within_15_minutes_is_refused_unless_forced(folder: Path) -> None:
    KeyFolder(folder).create(NOW)
    ring = KeyFolder(folder).rotate(NOW)  # the first is never refused
    for late in (timedelta(0), timedelta(minutes=15) - timedelta(seconds=1), timedelta(hours=-1)):
        with pytest.raises(KeyRingError, match=r"15 minutes ago.*rotate after 2026-03-01 12:15:00 UTC, or use --force"):
            KeyFolder(folder).rotate(NOW + late)
    assert KeyFolder(folder).load() == ring
    assert KeyFolder(folder).rotate(NOW + timedelta(minutes=15)).current == ring.keys[-1]
    assert len(KeyFolder(folder).rotate(NOW + timedelta(minutes=16), force=True).keys) == len(ring.keys) + 2


def test_a_retired_keys_private_half_is_deleted_and_it_is_published_for_15_minutes(folder: Path) -> None:
    retired = KeyFolder(folder).create(NOW).current
    assert retired.private
    assert retired.private in (folder / key_folder.FILE).read_text()
    ring = KeyFolder(folder).rotate(NOW)
    assert ring.keys[0].private is None
    assert all(retired.private not in path.read_text() for path in folder.iterdir())
    with pytest.raises(ValueError):  # noqa: PT011  # the library's own words
        ring.keys[0].signing_key()
    for seconds, published in ((0, True), (15 * 60 - 1, True), (15 * 60, False), (365 * 86_400, False)):
        kids = [public["kid"] for public in ring.published(NOW + timedelta(seconds=seconds))]
        assert (retired.kid in kids) is published, seconds
        assert kids[-2:] == [key.kid for key in ring.keys[-2:]]


def test_endorsements_lead_from_any_key_to_the_newest_each_by_the_key_before_and_no_other(folder: Path) -> None:
    ring = KeyFolder(folder).create(NOW)
    for rotation in range(1, 6):
        ring = KeyFolder(folder).rotate(NOW + timedelta(days=rotation))
    kids = [key.kid for key in ring.keys]
    assert len(set(kids)) == 7
    for position, key in enumerate(ring.keys):
        assert follow(ring, key.public) == kids[position:]
    for signer, endorsement in zip(ring.keys, ring.endorsements, strict=False):
        claims = decoded(endorsement, signer.public)
        assert (set(claims), "d" in claims["jwk"]) == ({"aud", "iat", "jwk"}, False)
        for key in ring.keys:
            if key.kid != signer.kid:
                with pytest.raises(jwt.InvalidSignatureError):
                    decoded(endorsement, key.public)


def editing(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        document = json.loads(text)
        change(document)
        return json.dumps(document)

    return edit


DAMAGES: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "cut short": lambda text: text[: len(text) // 2],
    "a list": lambda _: "[]",
    "no keys": editing(lambda ring: ring.pop("keys")),
    "one key only": editing(lambda ring: ring["keys"].pop()),
    "an unknown field in a key": editing(lambda ring: ring["keys"][0].update(surprise=1)),
    "no private half of the current key": editing(lambda ring: ring["keys"][0].update(private=None)),
    "no private half of the next key": editing(lambda ring: ring["keys"][1].update(private=None)),
    "a private half cut short": editing(lambda ring: ring["keys"][0].update(private="AAAA")),
    "no public half": editing(lambda ring: ring["keys"][0]["public"].pop("x")),
    "private halves exchanged": editing(lambda ring: ring["keys"][0].update(private=ring["keys"][1]["private"])),
    "a public key without its ID": editing(lambda ring: ring["keys"][0]["public"].pop("kid")),
    "a time that is none": editing(lambda ring: ring["keys"][0].update(retired_at="yesterday")),
    "another endorsement's key": editing(lambda ring: ring["keys"][1]["public"].update(use="enc")),
    "an endorsement lost": editing(lambda ring: ring.update(endorsements=[])),
}


@for_each("damage", DAMAGES)
def test_a_damaged_ring_is_refused_and_left_unchanged(folder: Path, damage: str) -> None:
    file, keys = folder / key_folder.FILE, KeyFolder(folder)
    file.unlink(missing_ok=True)
    keys.create(NOW)
    damaged = DAMAGES[damage](file.read_text()).encode()
    file.write_bytes(damaged)
    for use in (keys.load, lambda: keys.create(NOW), lambda: keys.rotate(NOW)):
        with pytest.raises(KeyRingError, match="are damaged: put your copy of data/keys back"):
            use()
    assert file.read_bytes() == damaged


def test_a_key_of_another_kind_does_not_sign_and_an_endorsement_of_another_key_is_damage(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, other = KeyFolder(folder).create(NOW).current, OKPKey.generate_key("X25519", private=True)
    monkeypatch.setattr(OKPKey, "import_key", lambda _: other)
    with pytest.raises(TypeError, match="no Ed25519 private key"):
        key.signing_key()
    monkeypatch.undo()
    KeyRing.new(datetime.now(UTC) + timedelta(days=365)).check()  # of a clock that was set back
    ring, strange = KeyRing.new(NOW), KeyRing.new(NOW)
    with pytest.raises(ValueError, match="an endorsement is of another key"):
        KeyRing((ring.keys[0], strange.keys[1]), ring.endorsements).check()


def test_a_ring_or_folder_that_is_missing_or_in_the_way_is_refused(folder: Path, tmp_path: Path) -> None:
    missing = r"cannot read the signing keys .*keyring.json: No such file"
    with pytest.raises(KeyRingError, match=missing):
        KeyFolder(folder).load()
    with pytest.raises(KeyRingError, match=missing):
        KeyFolder(folder).rotate(NOW)
    assert not KeyFolder(folder).exists()
    (folder / key_folder.FILE).mkdir(parents=True)  # root reads any file, but nobody reads a folder
    with pytest.raises(KeyRingError, match=r"cannot read the signing keys .*: Is a directory"):
        KeyFolder(folder).load()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(KeyRingError, match=r"cannot write to the folder of the signing keys .*: Not a directory"):
        KeyFolder(tmp_path / "file" / "keys").create(NOW)


def test_a_ring_that_cannot_be_written_stays_and_what_an_interrupted_write_left_is_replaced(folder: Path) -> None:
    ring = KeyFolder(folder).create(NOW)
    part = folder / f"{key_folder.FILE}.partial"
    part.mkdir()
    with pytest.raises(KeyRingError, match=r"cannot write keyring\.json in the folder of the signing keys"):
        KeyFolder(folder).rotate(NOW)
    assert KeyFolder(folder).load() == ring
    part.rmdir()
    part.write_text("{")
    assert KeyFolder(folder).rotate(NOW).current == ring.keys[-1]
    assert not part.exists()


def test_who_creates_or_rotates_at_once_gets_one_ring_and_loses_no_rotation(folder: Path) -> None:
    """Threads stand for processes: each opens the lock itself."""
    made = at_once([partial(KeyFolder(folder).create, NOW)] * 8)
    assert made == [KeyFolder(folder).load()] * 8
    rotated = at_once([partial(KeyFolder(folder).rotate, NOW, force=True)] * 8)
    ring = KeyFolder(folder).load()
    assert sorted(len(each.keys) for each in rotated) == list(range(3, 11))
    assert follow(ring, ring.keys[0].public) == [key.kid for key in ring.keys]


@pytest.fixture
def made(folder: Path) -> Path:
    KeyFolder(folder).create(NOW)
    return folder


def kid(signer: Signer) -> str:
    signed: str = jwt.get_unverified_header(signer.sign(VERDICT_TYPE, CLAIMS))["kid"]
    return signed


def test_a_verdict_names_its_type_and_key_and_the_key_set_is_what_the_ring_publishes(made: Path) -> None:
    token = Signer(KeyFolder(made)).sign(VERDICT_TYPE, CLAIMS)
    assert "=" not in token  # RFC 7515 has no padding; PyJWT reads it all the same
    current = KeyFolder(made).load().current
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "typ": "verdict+jwt", "kid": current.kid}
    key = jwt.PyJWK(current.public).key
    assert jwt.decode(token, key, algorithms=["EdDSA"], audience="kadun-client") == CLAIMS
    ring = KeyFolder(made).rotate(NOW)
    signer = Signer(KeyFolder(made))
    expected = {"keys": [key.public for key in ring.keys], "endorsements": list(ring.endorsements)}
    assert json.loads(json.dumps(signer.key_set(NOW))) == expected
    keys = signer.public_keys(NOW)
    states = zip((key.kid for key in ring.keys), (KeyState.RETIRED, KeyState.CURRENT, KeyState.NEXT), strict=True)
    assert [(key.kid, key.state) for key in keys] == list(states)
    times = [(key.created_at, key.retired_at, key.is_published) for key in keys]
    assert times == [(NOW, NOW, True), (NOW, None, True), (NOW, None, True)]
    assert [key.is_published for key in signer.public_keys(NOW + timedelta(minutes=15))] == [False, True, True]
    assert signer.pinned() == [ring.keys[1].public, ring.keys[2].public]
    assert not any(key.private and key.private in repr(keys) for key in ring.keys)


def test_rotations_are_taken_up_by_a_running_signer_and_logged_without_a_secret(
    made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    signer = Signer(KeyFolder(made))
    before = kid(signer)
    for times in (1, 3):  # also several between two checks
        for _ in range(times):
            rotated = KeyFolder(made).rotate(NOW, force=True)
        assert before != rotated.current.kid
        wait_for(lambda current=rotated.current.kid: kid(signer) == current)
        assert signer.key_set(NOW)["keys"] == rotated.published(NOW)
        record = caplog.records[-1]
        assert (record.message, record.__dict__["kid"]) == ("signing key taken up", rotated.current.kid)
        assert all(key.private not in str(record.__dict__) for key in rotated.keys if key.private)


@for_each("damage", [lambda file: file.write_bytes(file.read_bytes()[:300]), Path.unlink])
def test_the_old_ring_stays_in_use_while_the_new_file_is_unusable(
    made: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    signer = Signer(KeyFolder(made))
    before, file = kid(signer), made / key_folder.FILE
    good = KeyFolder(made).rotate(NOW, force=True)
    rotated = file.read_bytes()
    damage(file)
    caplog.clear()

    def complained() -> bool:
        assert kid(signer) == before
        return any(record.message.startswith("the signing keys cannot be read again") for record in caplog.records)

    wait_for(complained)
    assert all(record.levelno >= logging.WARNING for record in caplog.records)
    assert all(str(file) in record.__dict__["reason"] for record in caplog.records)
    file.write_bytes(rotated)
    wait_for(lambda: kid(signer) == good.current.kid)


def test_keys_in_a_database_that_was_away_at_the_start_are_read_at_the_first_use_and_kept(made: Path) -> None:
    class Away(KeyFolder):
        reasons: ClassVar[list[Exception]] = [UnavailableError("away"), UnavailableError("away"), KeyRingError("none")]

        def load(self) -> KeyRing:
            if self.reasons:
                raise self.reasons.pop(0)
            return super().load()

        def version(self) -> Hashable:
            raise UnavailableError("away again")

    signer = Signer(Away(made))
    for reason in ("away", "none"):
        with pytest.raises(UnavailableError, match=reason):
            kid(signer)
    assert kid(signer) == KeyFolder(made).load().current.kid


def test_the_key_ring_is_looked_at_twice_a_second_and_read_once(
    made: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    clock, looks, reads = Mock(return_value=100.0), Mock(), Mock()
    monkeypatch.setattr("app.tokens.signer.time.monotonic", clock)
    store = KeyFolder(made)
    looks.side_effect, reads.side_effect = store.version, store.load
    monkeypatch.setattr(store, "version", looks)
    monkeypatch.setattr(store, "load", reads)
    signer = Signer(store)
    seen = []
    for moment in (100.0, 100.4, 100.6, 101.2):
        clock.return_value = moment
        signer.sign(VERDICT_TYPE, {})
        seen.append((looks.call_count, reads.call_count))
    assert seen == [(1, 2), (1, 2), (2, 2), (3, 2)], "before the fork, and at the first use"
    assert kid(signer) == KeyFolder(made).load().current.kid
    assert caplog.records == [], "nothing has changed"
