"""Signing continues while the key ring is rotated, damaged and repaired."""

import json
import logging
from collections.abc import Callable, Hashable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import jwt
import pytest

from app.domain.errors import UnavailableError
from app.tokens import key_folder
from app.tokens.key_folder import KeyFolder
from app.tokens.keyring import KeyRingError
from app.tokens.keys import KeyRing, KeyState
from app.tokens.signer import VERDICT_TYPE, Signer
from tests.support.services.service import wait_for
from tests.support.tables import for_each

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
CLAIMS = {"aud": "kadun-client", "code": "OK", "function": "打开程序", "card_expires_at": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    KeyFolder(tmp_path / "keys").create(NOW)
    return tmp_path / "keys"


def kid(signer: Signer) -> str:
    signed: str = jwt.get_unverified_header(signer.sign(VERDICT_TYPE, CLAIMS))["kid"]
    return signed


def test_a_verdict_is_a_jws_that_names_its_type_and_key(folder: Path) -> None:
    token = Signer(KeyFolder(folder)).sign(VERDICT_TYPE, CLAIMS)
    assert "=" not in token  # RFC 7515 has no padding; PyJWT reads it all the same
    current = KeyFolder(folder).load().current
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "typ": "verdict+jwt", "kid": current.kid}
    key = jwt.PyJWK(current.public).key
    assert jwt.decode(token, key, algorithms=["EdDSA"], audience="kadun-client") == CLAIMS


def test_the_key_set_is_what_the_ring_publishes(folder: Path) -> None:
    ring = KeyFolder(folder).rotate(NOW)
    signer = Signer(KeyFolder(folder))
    expected = {"keys": [key.public for key in ring.keys], "endorsements": list(ring.endorsements)}
    assert json.loads(json.dumps(signer.key_set(NOW))) == expected


def test_public_keys_have_their_states(folder: Path) -> None:
    ring = KeyFolder(folder).rotate(NOW)
    signer = Signer(KeyFolder(folder))
    keys = signer.public_keys(NOW)
    assert [(key.kid, key.state) for key in keys] == [
        (ring.keys[0].kid, KeyState.RETIRED),
        (ring.keys[1].kid, KeyState.CURRENT),
        (ring.keys[2].kid, KeyState.NEXT),
    ]
    times = [(key.created_at, key.retired_at, key.is_published) for key in keys]
    assert times == [(NOW, NOW, True), (NOW, None, True), (NOW, None, True)]
    assert [key.is_published for key in signer.public_keys(NOW + timedelta(minutes=15))] == [False, True, True]
    assert signer.pinned() == [ring.keys[1].public, ring.keys[2].public]
    assert not any(key.private and key.private in repr(keys) for key in ring.keys)


def test_rotations_are_taken_up_by_a_running_signer_and_logged_without_a_secret(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    signer = Signer(KeyFolder(folder))
    before = kid(signer)
    for times in (1, 3):  # also several between two checks
        for _ in range(times):
            rotated = KeyFolder(folder).rotate(NOW, force=True)
        assert before != rotated.current.kid
        wait_for(lambda current=rotated.current.kid: kid(signer) == current)
        assert signer.key_set(NOW)["keys"] == rotated.published(NOW)
        record = caplog.records[-1]
        assert (record.message, record.__dict__["kid"]) == ("signing key taken up", rotated.current.kid)
        assert all(key.private not in str(record.__dict__) for key in rotated.keys if key.private)


@for_each("damage", [lambda file: file.write_bytes(file.read_bytes()[:300]), Path.unlink])
def test_the_old_ring_stays_in_use_while_the_new_file_is_unusable(
    folder: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    signer = Signer(KeyFolder(folder))
    before, file = kid(signer), folder / key_folder.FILE
    good = KeyFolder(folder).rotate(NOW, force=True)
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


def test_keys_in_a_database_that_was_away_at_the_start_are_read_at_the_first_use_and_kept(folder: Path) -> None:
    class Away(KeyFolder):
        reasons: ClassVar[list[Exception]] = [UnavailableError("away"), UnavailableError("away"), KeyRingError("none")]

        def load(self) -> KeyRing:
            if self.reasons:
                raise self.reasons.pop(0)
            return super().load()

        def version(self) -> Hashable:
            raise UnavailableError("away again")

    signer = Signer(Away(folder))
    for reason in ("away", "none"):
        with pytest.raises(UnavailableError, match=reason):
            kid(signer)
    assert kid(signer) == KeyFolder(folder).load().current.kid


def test_a_signer_without_a_ring_or_with_a_damaged_one_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / key_folder.FILE).write_text("{")
    for place, reason in ((tmp_path, "cannot read the signing keys"), (folder, "damaged")):
        with pytest.raises(KeyRingError, match=reason):
            Signer(KeyFolder(place))


class CountedFolder(KeyFolder):
    """Counts how often the key ring is looked at and read."""

    looks, reads = 0, 0

    def version(self) -> Hashable:
        self.looks += 1
        return super().version()

    def load(self) -> KeyRing:
        self.reads += 1
        return super().load()


def test_the_key_ring_is_looked_at_twice_a_second_and_read_once(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    moments = [100.0]
    monkeypatch.setattr("app.tokens.signer.time.monotonic", lambda: moments[-1])
    store = CountedFolder(folder)
    signer = Signer(store)
    seen = []
    for moment in (100.0, 100.4, 100.6, 101.2):
        moments.append(moment)
        signer.sign(VERDICT_TYPE, {})
        seen.append((store.looks, store.reads))
    assert seen == [(1, 2), (1, 2), (2, 2), (3, 2)], "before the fork, and at the first use"
    assert kid(signer) == KeyFolder(folder).load().current.kid
    assert caplog.records == [], "nothing has changed"
