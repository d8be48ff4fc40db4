"""scripts/lib/signature.py: whose archives are believed."""

import io
import json
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from signature import AUDIENCE, TYPE, SignatureError, Trust, current_kid

from app.tokens import keyring
from scripts.lib import archive

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
CONTENTS = "schema 0008_x\ntable card 2 17\n"


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    """Return a server's key ring."""
    keyring.create(tmp_path / "keys", NOW, "kadun")
    return tmp_path / "keys" / keyring.FILE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "staged"
    folder.mkdir()
    (folder / "database.dump").write_bytes(b"PGDMP")
    (folder / archive.CONTENTS).write_text(CONTENTS)
    return folder


def packed(folder: Path, ring: Path | None) -> bytes:
    output = io.BytesIO()
    archive.pack(folder, {}, output, ring)
    return output.getvalue()


def check(content: bytes, *fingerprints: str, ring: Path | None = None, unsigned: bool = False) -> Any:
    taken: list[str] = []
    trust = Trust(ring, list(fingerprints), unsigned)
    try:
        return archive.read(io.BytesIO(content), lambda info: taken.append(info.name), trust)
    except SignatureError:
        assert taken == [], "nothing of it was used"
        raise


def rebuilt(content: bytes, **changes: bytes | None) -> bytes:
    """Return an archive with other members; None removes one."""
    output = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as source, tarfile.open(fileobj=output, mode="w") as target:
        for info in source:
            file = source.extractfile(info)
            assert file
            member = changes.get(info.name.partition(".")[2], file.read())
            if member is not None:
                info.size = len(member)
                target.addfile(info, io.BytesIO(member))
    return output.getvalue()


def part(content: bytes, name: str) -> Any:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        file = tar.extractfile(name)
        assert file
        return json.loads(file.read())


def test_the_same_server_asks_nothing_and_another_asks_for_the_fingerprint(folder: Path, ring: Path) -> None:
    content = packed(folder, ring)
    assert check(content, ring=ring)["format"] == archive.FORMAT
    kid = current_kid(ring)
    with pytest.raises(SignatureError, match=f"--fingerprint {kid}"):
        check(content)
    check(content, kid)
    stranger = keyring.create(folder.parent / "others", NOW, "kadun")
    others = folder.parent / "others" / keyring.FILE
    with pytest.raises(SignatureError, match="not one of this server's"):
        check(content, stranger.current.kid, ring=others)
    check(content, kid, ring=others)


def test_every_key_of_the_chain_counts_and_a_later_one_is_found_from_an_earlier_one(folder: Path, ring: Path) -> None:
    early, first = packed(folder, ring), current_kid(ring)
    before = folder.parent / "before.json"
    before.write_bytes(ring.read_bytes())
    for hours in (1, 2, 3):
        keyring.rotate(ring.parent, NOW + timedelta(hours=hours), "kadun")
    late = packed(folder, ring)
    check(early, ring=ring)
    check(late, first)
    check(late, ring=before)
    check(late, current_kid(ring))
    cut = part(late, archive.SIGNATURE)
    cut["endorsements"] = cut["endorsements"][1:]
    with pytest.raises(SignatureError, match="--fingerprint"):
        check(rebuilt(late, signature=json.dumps(cut).encode()), first)


def test_a_signature_has_a_purpose_of_its_own(folder: Path, ring: Path) -> None:
    token = part(packed(folder, ring), archive.SIGNATURE)["token"]
    current = keyring.load(ring.parent).current
    claims = jwt.decode(token, jwt.PyJWK(current.public).key, algorithms=["EdDSA"], audience="kadun-archive")
    assert (
        (jwt.get_unverified_header(token)["typ"], claims["aud"]) == (TYPE, AUDIENCE) == ("archive+jwt", "kadun-archive")
    )


@pytest.mark.parametrize(
    "other",
    [{"typ": "verdict+jwt"}, {"aud": "kadun-client"}, {"alg": "none"}, {"sha256": "0" * 64}, {"kid": "x"}],
    ids=str,
)
def test_a_token_for_another_purpose_is_no_signature(folder: Path, ring: Path, other: dict[str, str]) -> None:
    content = packed(folder, ring)
    parts, current = part(content, archive.SIGNATURE), keyring.load(ring.parent).current
    claims = jwt.decode(parts["token"], options={"verify_signature": False})
    header = {"typ": TYPE, "kid": current.kid} | {k: v for k, v in other.items() if k in ("typ", "kid")}
    claims |= {name: value for name, value in other.items() if name in claims}
    algorithm = other.get("alg", "EdDSA")
    parts["token"] = jwt.encode(claims, current.signing_key() if algorithm != "none" else None, algorithm, header)
    with pytest.raises(SignatureError, match="forged"):
        check(rebuilt(content, signature=json.dumps(parts).encode()), ring=ring)


def test_what_was_changed_after_signing_is_refused(folder: Path, ring: Path) -> None:
    content = packed(folder, ring)
    manifest = part(content, archive.MANIFEST) | {"tables": {"card": [3, "17"]}}
    with pytest.raises(SignatureError, match="was changed after it was signed"):
        check(rebuilt(content, json=json.dumps(manifest).encode()), ring=ring)
    for nonsense in (b"{}", b"[]", b"nonsense", b'{"token": "a.b.c", "keys": [], "endorsements": []}', b"[" * 100_000):
        with pytest.raises(SignatureError, match="cannot be read"):
            check(rebuilt(content, signature=nonsense), ring=ring)
    with pytest.raises(archive.ArchiveError, match="its signature is missing"):
        check(rebuilt(content, signature=None), ring=ring)


def test_an_unsigned_archive_wants_a_person_to_accept_it(folder: Path, ring: Path) -> None:
    content = packed(folder, None)
    with pytest.raises(SignatureError, match="--accept-unsigned"):
        check(content, current_kid(ring), ring=ring)
    assert check(content, unsigned=True)["format"] == archive.UNSIGNED_FORMAT
    with pytest.raises(SignatureError, match="--fingerprint"):
        check(packed(folder, ring), unsigned=True)


def test_a_damaged_key_ring_signs_nothing(folder: Path, ring: Path) -> None:
    ring.write_text("{")
    with pytest.raises(SignatureError, match="cannot read the signing keys"):
        packed(folder, ring)
