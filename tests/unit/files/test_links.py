"""Download links: only tokens of this type, signed by a published key, for ten minutes."""
# Owns token-purposes, files-link.

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from app.tokens.key_folder import KeyFolder
from app.tokens.links import LINK_SECONDS, Link, LinkRefusedError, Links
from app.tokens.signer import VERDICT_TYPE, Signer

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LINK = Link(name="数据.bin", size=5, sha256="ab" * 32, client_id="C" * 32, reference="R" * 8)
ISSUED = int(NOW.timestamp())
CLAIMS: dict[str, Any] = {
    "iss": "kadun", "aud": "kadun-download", "iat": ISSUED, "exp": ISSUED + 600, "name": "数据.bin", "size": 5,
    "sha256": "ab" * 32, "sub": "C" * 32, "reference": "R" * 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    KeyFolder(folder).create(NOW, "kadun")
    return folder


@pytest.fixture(scope="module")
def links(folder: Path) -> Links:
    return Links(Signer(KeyFolder(folder)), "kadun")


def signed(folder: Path, claims: Any, *, key: Any = None, **header: Any) -> str:
    """A token of the genuine key, right but for what is said."""
    current = KeyFolder(folder).load().current
    shown = {"alg": "EdDSA", "typ": "download+jwt", "kid": current.kid} | header
    signing_input = b".".join(base64url(json.dumps(part).encode()) for part in (shown, claims))
    signature = (key or current.signing_key()).sign(signing_input)
    return (signing_input + b"." + base64url(signature)).decode()


def base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def test_a_link_is_read_until_its_last_second_and_the_machines_clock_has_no_say(folder: Path, links: Links) -> None:
    token = links.sign(LINK, NOW)
    assert links.read(token, NOW) == links.read(signed(folder, CLAIMS), NOW) == LINK
    current = KeyFolder(folder).load().current
    assert jwt.get_unverified_header(token) == {"alg": "EdDSA", "typ": "download+jwt", "kid": current.kid}
    assert jwt.decode(token, options={"verify_signature": False}) == CLAIMS
    assert links.read(token, NOW + timedelta(seconds=LINK_SECONDS, microseconds=-1)) == LINK
    with pytest.raises(LinkRefusedError, match="expired"):
        links.read(token, NOW + timedelta(seconds=LINK_SECONDS))
    later = datetime.now(UTC) + timedelta(days=365)
    assert links.read(links.sign(LINK, later), later) == LINK


def test_a_link_outlives_a_rotation_but_not_its_key(tmp_path: Path) -> None:
    KeyFolder(tmp_path).create(NOW, "kadun")
    token = Links(Signer(KeyFolder(tmp_path)), "kadun").sign(LINK, NOW)
    KeyFolder(tmp_path).rotate(NOW, "kadun")
    rotated = Links(Signer(KeyFolder(tmp_path)), "kadun")
    assert rotated.read(token, NOW + timedelta(seconds=599)) == LINK
    late = signed(tmp_path, CLAIMS | {"exp": CLAIMS["exp"] + 10_000}, kid=KeyFolder(tmp_path).load().keys[0].kid)
    with pytest.raises(LinkRefusedError):
        rotated.read(late, NOW + timedelta(minutes=15))


WRONG_CLAIMS = [
    {"aud": "kadun-client"}, {"aud": None}, {"iss": "other"}, {"iss": None}, {"exp": None}, {"exp": "never"},
    {"iat": None}, {"name": None}, {"name": 5}, {"size": "5"}, {"size": 5.5}, {"sub": None}, {"sub": 1},
    {"sha256": "AB" * 32}, {"sha256": "../" + "a" * 61}, {"sha256": "ab" * 32 + "\n"}, {"reference": None},
]  # fmt: skip


def test_another_token_is_refused(folder: Path, links: Links) -> None:
    changed = [CLAIMS | change for change in WRONG_CLAIMS]
    for claims, header in (
        *(({name: value for name, value in claims.items() if value is not None}, {}) for claims in changed),
        *((claims, {}) for claims in ([], "x", 1, None, {})),
        *((CLAIMS, {"typ": typ}) for typ in (None, "", "JWT", "Download+JWT", 1, ["download+jwt"])),
        *((CLAIMS, {"alg": alg}) for alg in ("none", "None", "HS256", "ES256", "", None, 5)),
        *((CLAIMS, {"kid": kid}) for kid in ("", "x", None, 1, {})),
        (CLAIMS, {"key": Ed25519PrivateKey.generate()}),  # another key with a known ID
    ):
        with pytest.raises(LinkRefusedError):
            pytest.fail(f"{header} {claims} is read as {links.read(signed(folder, claims, **header), NOW)}")


def test_malformed_tokens_and_an_hmac_with_the_public_key_are_refused(folder: Path, links: Links) -> None:
    current = KeyFolder(folder).load().current
    headers = {"typ": "download+jwt", "kid": current.kid}
    for token in (
        "", ".", "..", "...", "a.b.c", "é.é.é", "\ud800.a.b", "\0", "a" * 4000,
        *(base64url(head).decode() + ".e30.AA" for head in (b"[" * 2500, b'{"a":' * 600, b"[]", b"\xff")),
        jwt.encode(CLAIMS, current.public["x"], algorithm="HS256", headers=headers),
    ):  # fmt: skip
        with pytest.raises(LinkRefusedError):
            pytest.fail(f"{token[:50]!r} is read as {links.read(token, NOW)}")


@given(st.data())
def test_a_link_with_a_changed_character_is_refused_or_means_the_same(links: Links, data: st.DataObject) -> None:
    token = links.sign(LINK, NOW)
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=%/ é"))
    changed = token[:at] + letter + token[at + 1 :]
    try:
        assert links.read(changed, NOW) == LINK  # the spare bits of the signature's last letter, for instance
    except LinkRefusedError:
        assert changed != token


def test_a_verdict_is_no_link_even_with_a_links_audience_and_a_refusal_says_why(folder: Path, links: Links) -> None:
    for token, reason in (
        (Signer(KeyFolder(folder)).sign(VERDICT_TYPE, CLAIMS), "another type"),
        (signed(folder, CLAIMS, typ="key+jwt"), "another type"),
        ("a.b.c", "^DecodeError: "),
        (signed(folder, CLAIMS, kid="other"), "^none of the published keys"),
    ):
        with pytest.raises(LinkRefusedError, match=reason):
            links.read(token, NOW)
