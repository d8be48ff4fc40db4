"""The form of a verify request: a wrong field is named before any rule."""
# Owns http-fields.

import json
import math
from typing import Any

import falcon
import falcon.testing
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http import schemas
from app.http.json_body import parse
from app.http.problems import Problem, ProblemCode
from app.http.schemas import REQUIREMENTS, VerifyRequest
from tests.support.tables import for_each

GOOD: dict[str, Any] = {
    "card_id": "0123-4567-89AB-CDEF-GHJK-MNPQ-RSTV-WXYZ",
    "hardware": "disk-1",
    "function": "打开程序",
    "nonce": "n" * 22,
    "ip": "203.0.113.7",
    "client_public_key": "A" * 43,
    "version": "1.10",
}
OPTIONAL = ["ip", "client_public_key", "version"]


def read(body: bytes) -> VerifyRequest:
    return parse(body, VerifyRequest)


def parsed(**changes: object) -> VerifyRequest:
    return read(json.dumps({**GOOD, **changes}).encode())


def problem(body: bytes) -> Problem:
    with pytest.raises(Problem) as refused:
        read(body)
    assert (refused.value.status, refused.value.code) == (falcon.HTTP_400, ProblemCode.INVALID_REQUEST)
    json.dumps([refused.value.field, *refused.value.detail], ensure_ascii=False).encode()
    return refused.value


def wrong(**changes: object) -> Problem:
    return problem(json.dumps({**GOOD, **changes}).encode())


WITHIN = {
    "card_id": ["x", " 0123 ", "\ufeff卡密\uff1a“x”", "卡" * 64],
    "hardware": ["h", "\U00020000" * 1024, " ", "e\u0301\n\u200b"],
    "function": ["f" * 64, "\u3000"],
    "nonce": ["n" * 16, "-_" * 32],
    "ip": ["", "anything that a client believes", "1" * 64],
    "client_public_key": ["-" * 43],
    "version": ["1", "1." * 15 + "10"],
}
BEYOND = {
    "card_id": ["", " \t\n\u3000", "\u200b \ufeff", "x" * 65],
    "hardware": ["", "\U00020000" * 1025],
    "function": ["", "f" * 65],
    "nonce": ["", *(text + "n" * 15 for text in ("", "n" * 50, "\n")), *("n" * 21 + end for end in "=+\nｎ")],
    "ip": ["1" * 65],
    "client_public_key": ["", "A" * 42, "A" * 44, *("A" * 43 + end for end in "=\n"), "A" * 42 + "/"],
    "version": ["", "v1", "1.", "1..2", "1.0-beta", "1\n", "１", "1" * 33],
}


@for_each("field, values", WITHIN.items())
def test_values_within_the_bounds_are_unchanged(field: str, values: list[str]) -> None:
    assert msgspec.structs.asdict(parsed()) == GOOD
    assert read(json.dumps(GOOD, ensure_ascii=False).encode()) == parsed()
    for value in values:
        assert msgspec.structs.asdict(parsed(**{field: value})) == {**GOOD, field: value}


@for_each("field, values", BEYOND.items())
def test_a_field_out_of_bounds_is_named_with_what_it_must_be(field: str, values: list[str]) -> None:
    for value in values:
        refused = wrong(**{field: value})
        assert refused.field == field, value
        assert REQUIREMENTS[field].en in refused.detail.en
        assert REQUIREMENTS[field].zh in refused.detail.zh


@for_each("field", list(GOOD))
def test_a_field_that_is_null_or_missing_is_named_unless_it_is_optional(field: str) -> None:
    without = json.dumps({name: value for name, value in GOOD.items() if name != field}).encode()
    if field in OPTIONAL:
        assert getattr(parsed(**{field: None}), field) is None
        assert read(without) == parsed(**{field: None})
    else:
        assert problem(without).field == wrong(**{field: None}).field == field


@for_each("field", list(GOOD))
@for_each("value", [2, 1.5, True, [], ["disk-1"], {}, {"disk-1": 1}, 10**400, math.nan, math.inf])
def test_a_field_of_the_wrong_type_is_named(field: str, value: object) -> None:
    refused = wrong(**{field: value})
    assert refused.field == field
    assert refused.detail == (f"{field} {REQUIREMENTS[field].zh}。", f"{field} {REQUIREMENTS[field].en}.")


@for_each("field", list(GOOD))
@for_each("character", ["\0", "\udfff"])
def test_nul_and_lone_surrogates_are_refused_everywhere(field: str, character: str) -> None:
    # The body is good UTF-8: the character is written as an escape.
    assert wrong(**{field: character + GOOD[field][1:]}).field == field


def test_of_a_key_given_twice_the_last_counts() -> None:
    good = json.dumps(GOOD)[1:-1]
    for key in ("nonce", "\\u006eonce"):
        for other in ("1", '"\\u0000"', '"\\ud800"', json.dumps("x" * 2_000)):
            assert read(f'{{"{key}": {other}, {good}}}'.encode()) == parsed()
            assert problem(f'{{{good}, "{key}": {other}}}'.encode()).field == "nonce"


def test_a_pair_of_surrogates_is_one_character_and_a_wrong_field_is_named_beside_one_that_is_absent() -> None:
    body = json.dumps(GOOD).replace('"disk-1"', '"\\ud840\\udc00"').encode()
    assert read(body).hardware == "\U00020000"
    without = {name: value for name, value in GOOD.items() if name != "ip"}
    assert problem(json.dumps({**without, "client_public_key": "short"}).encode()).field == "client_public_key"


def test_an_unknown_field_is_named_escaped_and_cut() -> None:
    for name, shown in (
        *((name, name) for name in ("Card_id", "", "__class__")),
        ("卡密", "\\u5361\\u5bc6"),
        ("\0", "\\x00"),
        ("\x1b[31m\n", "\\x1b[31m\\n"),
        ("\u202e", "\\u202e"),
        ("\ud800", "\\ud800"),
        ("x" * 50_000, "x" * 64),
    ):
        refused = wrong(**{name: 1})
        assert refused.field == shown, (name, shown)
        assert refused.detail.en.startswith(f"Unknown field {shown}; the fields are card_id, "), (name, shown)


def test_malformed_json_is_refused() -> None:
    for body in (
        *(b"", b" ", b"{", b"{}{}", b"\0", b"/* */{}", b"{'card_id': 1}", b'{"card_id": "x",}'),
        *(b'{"card_id": "%b"}' % text for text in (b"\n", b"\xff", b"\xed\xa0\x80", b"\xc0\x80")),
        *(b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'{"ip": ' + b"9" * 5000 + b"}"),
        *(b"[" * 60_000, b'{"ip":' * 10_000, b'{"ip":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    ):
        refused = problem(body)
        assert (refused.field, refused.detail.en) == (None, "The body must be JSON in UTF-8."), body[:50]


@for_each("body", [b"null", b"true", b"1", b'"card_id"', b"[]", b"[{}]"])
def test_json_that_is_not_an_object_is_refused_and_nesting_within_the_limit_is_the_wrong_type(body: bytes) -> None:
    assert problem(body).detail.en == "The body must be a JSON object."
    assert problem(b'{"card_id": ' + b"[" * 500 + b"]" * 500 + b"}").field == "card_id"


@given(st.binary())
def test_any_bytes_are_a_problem(body: bytes) -> None:
    problem(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(list(GOOD)) | st.text(st.characters(), max_size=9), json_values, max_size=3))
def test_any_fields_are_a_request_or_a_problem(fields: dict[str, Any]) -> None:
    body = json.dumps({**GOOD, **fields}).encode()
    try:
        request = read(body)
    except Problem:
        problem(body)
    else:
        for value in msgspec.structs.asdict(request).values():
            assert value is None or "\0" not in value.encode().decode()


def test_every_field_says_what_it_must_be() -> None:
    bodies = (schemas.ExecuteRequest, schemas.RenewalRequest, schemas.IssueRequest, schemas.ExtendRequest)
    fields = {field for body in bodies for field in body.__struct_fields__}
    assert set(REQUIREMENTS) == fields | {"id", schemas.KEY_HEADER}, "also of a parameter, and of a header"
    assert set(VerifyRequest.__struct_fields__) == set(GOOD) == set(WITHIN) == set(BEYOND)
    said = [REQUIREMENTS[field] for field in fields]
    assert all(text.zh.startswith("必须") and text.en.startswith("must") for text in said)
