"""Downloads: links are tokens of one type, for ten minutes; ranges and conditions; a request's body and language."""
# Owns token-purposes.

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import falcon
import falcon.testing
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from falcon.testing import create_environ

from app.domain.texts import Text
from app.http.customer_messages import in_language_of
from app.http.files import is_known, wanted_part
from app.http.json_body import MAX_BODY_BYTES, read_body
from app.http.problems import Problem
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
    KeyFolder(folder).create(NOW)
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


def test_a_link_is_read_until_its_last_second_and_the_machines_clock_has_no_say(
    folder: Path, links: Links, tmp_path: Path
) -> None:
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
    # It outlives a rotation but not its key.
    KeyFolder(tmp_path).create(NOW)
    token = Links(Signer(KeyFolder(tmp_path)), "kadun").sign(LINK, NOW)
    KeyFolder(tmp_path).rotate(NOW)
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


def test_another_or_malformed_token_is_refused_such_as_a_verdict_even_with_a_links_audience(
    folder: Path, links: Links
) -> None:
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
    current = KeyFolder(folder).load().current
    headers, genuine = {"typ": "download+jwt", "kid": current.kid}, links.sign(LINK, NOW)
    for token in (
        *(genuine[:at] + ("A" if genuine[at] != "A" else "B") + genuine[at + 1 :] for at in range(len(genuine) - 1)),
        "", ".", "..", "...", "a.b.c", "é.é.é", "\ud800.a.b", "\0", "a" * 4000,
        *(base64url(head).decode() + ".e30.AA" for head in (b"[" * 2500, b'{"a":' * 600, b"[]", b"\xff")),
        jwt.encode(CLAIMS, current.public["x"], algorithm="HS256", headers=headers),  # with the public key as secret
    ):  # fmt: skip
        with pytest.raises(LinkRefusedError):
            pytest.fail(f"{token[:50]!r} is read as {links.read(token, NOW)}")
    for token, reason in (
        (Signer(KeyFolder(folder)).sign(VERDICT_TYPE, CLAIMS), "another type"),
        (signed(folder, CLAIMS, typ="key+jwt"), "another type"),
        ("a.b.c", "^DecodeError: "),
        (signed(folder, CLAIMS, kid="other"), "^none of the published keys"),
    ):
        with pytest.raises(LinkRefusedError, match=reason):
            links.read(token, NOW)


ETAG = '"abc"'


def request(method: str = "GET", **headers: str) -> falcon.Request:
    given_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return falcon.Request(create_environ(method=method, headers=given_headers))


def part(value: str, size: int = 100) -> tuple[int, int] | None:
    found = wanted_part(request(Range=value), size, ETAG)
    return None if found is None else (found[0], len(found))


def test_a_single_range_is_read_an_unclear_one_gives_the_whole_and_one_beyond_the_end_is_refused() -> None:
    for value, expected in (
        ("bytes=0-0", (0, 1)), ("bytes=10-", (10, 90)), ("bytes=10-19", (10, 10)), ("bytes=99-", (99, 1)),
        ("bytes=90-200", (90, 10)), ("bytes=-1", (99, 1)), ("bytes=-200", (0, 100)), ("Bytes=0-", (0, 100)),
        (" bytes=1-2 ", (1, 2)), ("bytes=0-9999999999999999999", (0, 100)),
        *((unclear, None) for unclear in ("", "bytes=", "bytes=-", "bytes=0-1,5-6", "items=0-1", "bytes 0-1")),
        *((unclear, None) for unclear in ("bytes=a-b", "bytes=0x1-2", "bytes=1--2", "bytes=+1-2", "bytes=٣-")),
        ("bytes=" + "9" * 30 + "-", None),
    ):  # fmt: skip
        assert part(value) == expected, value
    for value, size in (("bytes=100-", 100), ("bytes=-0", 100), ("bytes=5-4", 100), ("bytes=5-", 0)):
        with pytest.raises(ValueError, match="no such bytes"):
            pytest.fail(f"{value} is read as {part(value, size)}")
    for empty in ("bytes=0-", "bytes=0-9", "bytes=-5", "bytes=-0"):
        assert part(empty, 0) is None, "an empty file is sent whole"


def test_a_range_of_another_version_and_a_head_request_give_the_whole_and_a_known_version_is_recognised() -> None:
    for if_range in ('"other"', 'W/"abc"', "abc", "Wed, 21 Oct 2015 07:28:00 GMT", "*"):
        assert wanted_part(request(Range="bytes=1-2", If_Range=if_range), 100, ETAG) is None, if_range
    assert wanted_part(request(Range="bytes=1-2", If_Range=ETAG), 100, ETAG) == range(1, 3)
    assert wanted_part(request("HEAD", Range="bytes=1-2"), 100, ETAG) is None
    assert wanted_part(request(), 100, ETAG) is None
    for value in ('"abc"', 'W/"abc"', '"x", "abc"', "*"):
        assert is_known(request(If_None_Match=value), ETAG), value
    for value in ('"x"', "abc", ""):
        assert not is_known(request(If_None_Match=value), ETAG), value
    assert not is_known(request(), ETAG)


def posting(body: bytes = b"{}", content_type: str | None = "application/json", **environ: str) -> falcon.Request:
    made = falcon.testing.create_environ(method="POST", body=body)
    made.pop("CONTENT_TYPE", None)
    if content_type is not None:
        made["CONTENT_TYPE"] = content_type
    return falcon.Request({**made, **environ})


def test_a_body_is_read_where_it_is_declared_as_json_up_to_64_kib() -> None:
    json = "application/json"
    for right in (json, "Application/JSON", f"{json}; charset=utf-8", f'{json};charset="UTF-8"', json + ";" * 112):
        assert read_body(posting(b'{"a":1}', right)) == b'{"a":1}', right
    others = (None, "", "text/plain", f"{json}p", "application/x-www-form-urlencoded")
    for other in (*others, f"{json}; charset=gbk", json + ";" * 113):
        with pytest.raises(Problem) as refused:
            read_body(posting(content_type=other))
        assert refused.value.status == falcon.HTTP_415, other
    for is_chunked in (False, True):
        fits, longer = (posting(b" " * length) for length in (MAX_BODY_BYTES, MAX_BODY_BYTES + 1))
        for sized in (fits, longer) if is_chunked else ():
            del sized.env["CONTENT_LENGTH"]
            sized.env["wsgi.input_terminated"] = True
        assert len(read_body(fits)) == MAX_BODY_BYTES == 65_536
        with pytest.raises(Problem) as refused:
            read_body(longer)
        assert refused.value.status == falcon.HTTP_413, is_chunked


def test_an_answer_is_english_where_the_request_ranks_it_over_chinese() -> None:
    for header, english in (
        *((header, True) for header in ("EN-us", "zh;q=0.5, en;q=0.9", "en, zh", "en;q=0.3, zh;q=0.9, en-GB")),
        *((header, True) for header in ("zh;q=0, en;q=0.1", "en ; Q=1 , zh ; q=0.9")),
        *((header, False) for header in ("", "zh-CN,zh;q=0.9,en;q=0.8", "*", "en;q=0", "english", ";;;,,,")),
        *((f"en;q={odd}, zh;q=0.1", False) for odd in ("high", "nan", "2", "-1", "")),
    ):
        assert in_language_of(request(Accept_Language=header), Text("中文", "English")) == (
            "English" if english else "中文"
        ), (header, english)
    assert in_language_of(request(), Text("中文", "English")) == "中文"
