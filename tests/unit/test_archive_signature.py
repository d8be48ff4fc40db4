"""scripts/lib/signature.py: whose archives are believed."""

import base64
import io
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import signature
from signature import TYPE, SignatureError, Trust

from app.tokens import key_folder, keyring
from app.tokens.key_folder import KeyFolder
from app.tokens.keys import AUDIENCE as CLIENT
from app.tokens.keys import ENDORSEMENT_TYPE, Key, KeyRing
from scripts.lib import archive
from tests.support.archives import packed, rewritten, staged, strangers_ring
from tests.support.tables import for_each

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    """Return a server's key ring, after one rotation."""
    KeyFolder(tmp_path / "keys").create(NOW - timedelta(hours=1), "kadun")
    KeyFolder(tmp_path / "keys").rotate(NOW, "kadun")
    return tmp_path / "keys" / key_folder.FILE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return staged(tmp_path / "staged")


def check(content: bytes, ring: Path, *fingerprints: str, unsigned: bool = False) -> archive.Manifest:
    taken: list[str] = []
    trust = Trust(ring, fingerprints, unsigned)
    try:
        return archive.read(io.BytesIO(content), lambda info: taken.append(info.name), trust)
    except SignatureError:
        assert taken == [], "nothing of it was used"
        raise


def keys_of(ring: Path) -> tuple[Key, ...]:
    return KeyFolder(ring.parent).load().keys


def signed_anew(content: bytes, **changes: Any) -> bytes:
    """Return an archive with other parts in its signature."""
    return rewritten(content, lambda manifest: manifest["signature"].update(changes))


def test_the_same_server_asks_nothing_and_another_asks_for_the_fingerprint(
    folder: Path, ring: Path, tmp_path: Path
) -> None:
    content, kid, strangers = (
        packed(folder, ring, created="now 现在"),
        signature.fingerprint(ring),
        strangers_ring(tmp_path),
    )
    assert kid == KeyFolder(ring.parent).load().current.kid
    manifest = check(content, ring)
    assert manifest["created"] == "now 现在"
    secrets = [key.private for key in keys_of(ring) if key.private]
    assert [secret for secret in secrets if secret in json.dumps(manifest)] == [], "no private key leaves the ring"
    assert len(secrets) == 2
    # Neither versions that know no signature nor the way back in upgrade.sh, whose code may be of another version, ask.
    assert archive.read(io.BytesIO(content), lambda _: None)["format"] == archive.FORMAT == 2
    with pytest.raises(SignatureError, match=f"key {kid}, which is not one of this server's.*--fingerprint {kid}"):
        check(content, strangers, signature.fingerprint(strangers), "nonsense", unsigned=True)
    check(content, strangers, "nonsense", kid)
    with pytest.raises(SignatureError, match=r"nothing shows who made it.*--accept-unsigned"):
        check(packed(folder), ring, kid)
    assert "signature" not in check(packed(folder), ring, unsigned=True)


def test_every_key_of_the_chain_counts_and_a_later_one_is_found_from_an_earlier_one(
    folder: Path, ring: Path, tmp_path: Path
) -> None:
    early, first = packed(folder, ring), keys_of(ring)[0].kid
    before = tmp_path / "before.json"
    before.write_bytes(ring.read_bytes())
    for hours in (1, 2, 3):
        KeyFolder(ring.parent).rotate(NOW + timedelta(hours=hours), "kadun")
    late, nobody = packed(folder, ring), tmp_path / "none"
    check(early, ring)
    check(early, nobody, first)
    check(late, before)
    check(late, nobody, first)
    check(late, nobody, keys_of(ring)[-1].kid, signature.fingerprint(ring))
    endorsements = list(KeyFolder(ring.parent).load().endorsements)
    with pytest.raises(SignatureError, match="not one of this server's"):
        check(signed_anew(late, endorsements=endorsements[1:]), nobody, first)


def test_an_endorsement_by_an_unknown_key_or_for_another_purpose_leads_nowhere(
    folder: Path, ring: Path, tmp_path: Path
) -> None:
    strangers, ours = strangers_ring(tmp_path), keys_of(ring)
    content, stranger = packed(folder, strangers), keyring.decoded(strangers.read_bytes()).keys[0]
    for signer, kid, kind, audience in (
        (stranger, stranger.kid, ENDORSEMENT_TYPE, CLIENT),
        (stranger, ours[1].kid, ENDORSEMENT_TYPE, CLIENT),
        (ours[1], ours[1].kid, "verdict+jwt", CLIENT),
        (ours[1], ours[1].kid, ENDORSEMENT_TYPE, "kadun-archive"),
    ):
        claims = {"aud": audience, "jwk": stranger.public}
        forged = jwt.encode(claims, signer.signing_key(), "EdDSA", {"typ": kind, "kid": kid})
        with pytest.raises(SignatureError, match="not one of this server's"):
            check(signed_anew(content, endorsements=[forged]), ring)


def test_what_was_changed_after_signing_or_has_no_readable_signature_is_refused(folder: Path, ring: Path) -> None:
    content, current = packed(folder, ring), KeyFolder(ring.parent).load().current
    parts = check(content, ring)["signature"]
    claims = jwt.decode(parts["token"], options={"verify_signature": False})
    assert (set(claims), jwt.get_unverified_header(parts["token"])["typ"]) == ({"aud", "sha256"}, TYPE)
    public = base64.urlsafe_b64decode(current.public["x"] + "=")

    def token(kid: str = current.kid, kind: str = TYPE, algorithm: str = "EdDSA", **changes: str) -> dict[str, Any]:
        key = current.signing_key() if algorithm == "EdDSA" else public
        made = jwt.encode(claims | changes, key, algorithm, {"typ": kind, "kid": kid})
        return {"signature": parts | {"token": made}}

    check(rewritten(content, lambda manifest: manifest.update(token())), ring)
    changed = ({"tables": {"card": [3, "17"]}}, {"created": "later"}, {"more": 1}, {"members": {}})
    other_purposes = (token(kind="verdict+jwt"), token(aud=CLIENT), token(algorithm="HS256"), token(sha256="0" * 64))
    no_name, no_token = "\x1b[2J; rm -rf /", {"token": "a.b", "keys": ["AAAA"]}
    endless = parts | {"endorsements": parts["endorsements"] * 1001}
    unreadable = [{"signature": nonsense} for nonsense in (None, [], "x", {}, no_token, endless)]
    for complaint, rows in (
        ("somebody changed it after it was signed", [*changed, *other_purposes]),
        ("Its signature cannot be read", [*unreadable, token(kid=no_name)]),
    ):
        for row in rows:
            forged = rewritten(content, lambda manifest, row=row: manifest.update(row))
            with pytest.raises(SignatureError, match=complaint):
                check(forged, ring, current.kid, no_name, unsigned=True)


def test_a_key_that_cannot_sign_is_found_out_beforehand_and_said_in_one_line(
    ring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = json.loads(ring.read_bytes())
    for private, complaint in (("AAAA", "cannot sign"), (damaged["keys"][-1]["private"], "does not match")):
        damaged["keys"][-2]["private"] = private
        ring.write_text(json.dumps(damaged))
        with pytest.raises(SignatureError, match=complaint) as refused:
            signature.fingerprint(ring)
        assert "\n" not in str(refused.value)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SignatureError, match="openssl is missing"):
        signature.fingerprint(ring)


@for_each("kind", ["missing", "{", "[]", '{"keys": [{"public": {"x": "AAAA"}}]}', "link", "pipe", "large"])
def test_a_key_ring_that_is_lost_or_that_the_service_has_exchanged_is_none(folder: Path, ring: Path, kind: str) -> None:
    """The service may have been taken over: the scripts of root neither wait for it nor read without end."""
    content, kid, genuine = packed(folder, ring), signature.fingerprint(ring), ring.with_name("elsewhere")
    ring.rename(genuine)
    match kind:
        case "missing":
            pass
        case "link":
            ring.symlink_to(genuine)
        case "pipe":
            os.mkfifo(ring)
        case "large":
            ring.write_text(genuine.read_text() + " " * (1 << 20))
        case _:
            ring.write_text(kind)
    with pytest.raises(SignatureError, match="cannot use the signing keys"):
        signature.fingerprint(ring)
    with pytest.raises(SignatureError, match="holds no usable signing keys: if you have a copy, put it back first"):
        check(content, ring)
    check(content, ring, kid)
    genuine.replace(ring)


def test_a_ring_of_the_service_as_it_is_made_signs_and_one_that_a_script_holds_open(
    tmp_path: Path, folder: Path
) -> None:
    file = tmp_path / "keyring.json"
    file.write_bytes(keyring.encoded(KeyRing.new(NOW, "发行 issuer")))
    with file.open() as held:
        content = packed(folder, Path(f"/proc/{os.getpid()}/fd/{held.fileno()}"))
    assert check(content, file)["signature"]
