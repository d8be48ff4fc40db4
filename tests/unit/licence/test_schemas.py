"""What HTTP reads and answers: a wrong field is named before any rule, and each code has a status and a message."""
# Owns http-fields, http-statuses.

import json
import math
import re
import sys
from collections import Counter
from types import FrameType, SimpleNamespace
from typing import Any, cast

import falcon
import falcon.testing
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kadun import messages

from app.domain.codes import Code
from app.http import json_body, schemas
from app.http.customer_messages import MESSAGES, NAMES, rejection
from app.http.json_body import parse
from app.http.problems import Problem, ProblemCode
from app.http.schemas import MAX_NESTING, REQUIREMENTS, ExecuteRequest, VerifyRequest
from app.http.verdicts import STATUS, message
from app.services.functions import Execution
from tests.support.tables import for_each

GOOD: dict[str, Any] = {
    "card_id": "0123-4567-89AB-CDEF-GHJK-MNPQ-RSTV-WXYZ",
    "hardware": "disk-1",
    "function": "打开程序",
    "nonce": "n" * 22,
    "ip": "203.0.113.7",
    "client_public_key": "A" * 43,
    "version": "1.10",
    "program": "b",
}
OPTIONAL = ["ip", "client_public_key", "version", "program"]


def read(body: bytes) -> VerifyRequest:
    return parse(body, VerifyRequest)


def parsed(**changes: object) -> VerifyRequest:
    return read(json.dumps({**GOOD, **changes}).encode())


def problem(body: bytes, kind: type = VerifyRequest) -> Problem:
    with pytest.raises(Problem) as refused:
        parse(body, kind)
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
    "program": ["main", "9-" + "a" * 30],
}
BEYOND = {
    "card_id": ["", " \t\n\u3000", "\u200b \ufeff", "x" * 65],
    "hardware": ["", "\U00020000" * 1025],
    "function": ["", "f" * 65],
    "nonce": ["", *(text + "n" * 15 for text in ("", "n" * 50, "\n")), *("n" * 21 + end for end in "=+\nｎ")],
    "ip": ["1" * 65],
    "client_public_key": ["", "A" * 42, "A" * 44, *("A" * 43 + end for end in "=\n"), "A" * 42 + "/"],
    "version": ["", "v1", "1.", "1..2", "1.0-beta", "1\n", "１", "1" * 33],
    "program": ["", "B", "-b", "b_", "b\n", "程序", "b" * 33],
}


def test_values_within_the_bounds_are_unchanged_and_others_named_with_what_they_must_be() -> None:
    assert msgspec.structs.asdict(parsed()) == GOOD
    assert read(json.dumps(GOOD, ensure_ascii=False).encode()) == parsed()
    for field, value in ((field, value) for field, values in WITHIN.items() for value in values):
        assert msgspec.structs.asdict(parsed(**{field: value})) == {**GOOD, field: value}, field
    for field, value in ((field, value) for field, values in BEYOND.items() for value in values):
        refused = wrong(**{field: value})
        assert refused.field == field, value
        assert REQUIREMENTS[field].en in refused.detail.en, (field, value)
        assert REQUIREMENTS[field].zh in refused.detail.zh, (field, value)


@for_each("field", list(GOOD))
def test_a_field_of_the_wrong_type_or_missing_is_named_and_nul_and_lone_surrogates_are_refused(field: str) -> None:
    for value in (2, 1.5, True, [], ["disk-1"], {}, {"disk-1": 1}, 10**400, math.nan, math.inf):
        refused = wrong(**{field: value})
        assert refused.field == field, value
        assert refused.detail == (f"{field} {REQUIREMENTS[field].zh}。", f"{field} {REQUIREMENTS[field].en}.")
    for character in ("\0", "\udfff"):  # the body is good UTF-8: the character is written as an escape
        assert wrong(**{field: character + GOOD[field][1:]}).field == field
    without = json.dumps({name: value for name, value in GOOD.items() if name != field}).encode()
    if field in OPTIONAL:
        assert getattr(parsed(**{field: None}), field) is None
        assert read(without) == parsed(**{field: None})
    else:
        assert problem(without).field == wrong(**{field: None}).field == field


def test_of_a_key_given_twice_the_last_counts_and_a_pair_of_surrogates_is_one_character() -> None:
    good = json.dumps(GOOD)[1:-1]
    for key in ("nonce", "\\u006eonce"):
        for other in ("1", '"\\u0000"', '"\\ud800"', json.dumps("x" * 2_000)):
            assert read(f'{{"{key}": {other}, {good}}}'.encode()) == parsed()
            assert problem(f'{{{good}, "{key}": {other}}}'.encode()).field == "nonce"
    body = json.dumps(GOOD).replace('"disk-1"', '"\\ud840\\udc00"').encode()
    assert read(body).hardware == "\U00020000"
    without = {name: value for name, value in GOOD.items() if name != "ip"}
    refused = problem(json.dumps({**without, "client_public_key": "short"}).encode())
    assert refused.field == "client_public_key", "beside one that is absent"


def test_an_unknown_field_is_named_escaped_and_cut_and_what_is_no_json_object_is_refused() -> None:
    for name, shown in (
        *((name, name) for name in ("Card_id", "", "__class__")),
        *(("卡密", "\\u5361\\u5bc6"), ("\0", "\\x00"), ("\x1b[31m\n", "\\x1b[31m\\n"), ("\u202e", "\\u202e")),
        *(("\ud800", "\\ud800"), ("x" * 50_000, "x" * 64)),
    ):
        refused = wrong(**{name: 1})
        assert refused.field == shown, (name, shown)
        assert refused.detail.en.startswith(f"Unknown field {shown}; the fields are card_id, "), (name, shown)
    for body in (
        *(b"", b" ", b"{", b"{}{}", b"\0", b"/* */{}", b"{'card_id': 1}", b'{"card_id": "x",}'),
        *(b'{"card_id": "%b"}' % text for text in (b"\n", b"\xff", b"\xed\xa0\x80", b"\xc0\x80")),
        *(b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'{"ip": ' + b"9" * 5000 + b"}"),
        *(b"[" * 60_000, b'{"ip":' * 10_000, b'{"ip":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    ):
        refused = problem(body)
        assert (refused.field, refused.detail.en) == (None, "The body must be JSON in UTF-8."), body[:50]
    for body in (b"null", b"true", b"1", b'"card_id"', b"[]", b"[{}]"):
        assert problem(body).detail.en == "The body must be a JSON object.", body
    assert problem(b'{"card_id": ' + b"[" * 500 + b"]" * 500 + b"}").field == "card_id"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


texts = st.sampled_from(list(GOOD)) | st.text(st.characters(), max_size=9)


@given(st.dictionaries(texts, json_values, max_size=3), st.binary())
def test_any_fields_are_a_request_or_a_problem_and_any_bytes_a_problem(fields: dict[str, Any], other: bytes) -> None:
    problem(other)
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


EXECUTION = {"card_id": "0" * 32, "hardware": "disk-1", "function": "导出", "nonce": "n" * 22}


def body_with(arguments: str) -> bytes:
    return json.dumps({**EXECUTION, "arguments": "@@"}).replace('"@@"', arguments).encode()


def executed(arguments: str) -> dict[str, Any]:
    return parse(body_with(arguments), ExecuteRequest).arguments


def nested(levels: int, opening: str, closing: str) -> str:
    return '{"deep": ' + opening * (levels - 1) + "1" + closing * (levels - 1) + "}"


def test_arguments_are_read_exactly_as_sent_required_and_refused_where_they_cannot_be_stored() -> None:
    for arguments in (
        {},
        {"金额": 1.5, "nothing": None, "rows": [[1, -1], {"a": True}], "text": "\n", "big": 10**400},
        json.loads(nested(MAX_NESTING, "[", "]")),
        json.loads(nested(MAX_NESTING, '{"a": ', "}")),
    ):
        assert executed(json.dumps(arguments)) == arguments, arguments
    for text in (
        *("null", "[]", '"{}"', "1", '{"a": "\\u0000"}', '{"\\u0000": 1}', '{"a": [{"\\ud800": 1}]}', '{"a": 1e999}'),
        *('{"a": [[], 1, "b", [{"c": [[], {"d": ["e", "\\u0000"]}]}]]}', '{"a": ["\\ud83d", "\\ude00"]}', '{"a": NaN}'),
        *(nested(levels, *ends) for levels in (MAX_NESTING + 1, 900) for ends in (("[", "]"), ('{"a": ', "}"))),
    ):
        assert problem(body_with(text), ExecuteRequest).field == "arguments", text[:60]
    for kind, body, field in (
        (ExecuteRequest, EXECUTION, "arguments"),
        (ExecuteRequest, {**EXECUTION, "argument": {}}, "argument"),
        (VerifyRequest, {**EXECUTION, "arguments": {}}, "arguments"),
    ):
        assert problem(json.dumps(body).encode(), kind).field == field


@for_each("values", ["[" * 60 + "1" + "]" * 60, "[]", "1.5", '""', '[{"a": ""}]'])
def test_many_values_take_no_call_for_each(values: str) -> None:
    body, calls = body_with('{"a": [' + ",".join([values] * 400) + "]}"), Counter[str]()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == json_body.__file__:
            calls[frame.f_code.co_name] += 1

    sys.setprofile(count)
    try:
        parse(body, ExecuteRequest)
    finally:
        sys.setprofile(None)
    assert max(calls.values()) < 100


@given(st.dictionaries(st.text(), json_values, max_size=3))
def test_any_arguments_arrive_as_sent_or_are_refused(arguments: dict[str, Any]) -> None:
    written = json.dumps(arguments)
    try:
        found = executed(written)
    except Problem:
        assert "\\u" in written or "NaN" in written or "Infinity" in written
    else:
        assert json.dumps(found) == written


def test_arguments_of_a_rejected_request_are_not_read() -> None:
    rejected = SimpleNamespace(decision=SimpleNamespace(accepted=False))
    licences = SimpleNamespace(evaluate=lambda _request: rejected, sign=lambda evaluation: ("signed", evaluation))
    execution = Execution(cast("Any", licences), cast("Any", None))
    assert execution.execute(cast("Any", None), cast("Any", None)) == ("signed", rejected)


def test_every_code_has_a_status_and_a_message_in_both_languages_which_the_sdk_has_too() -> None:
    assert set(MESSAGES) == set(NAMES) == set(STATUS) == set(Code)
    zh, en = ({text[number] for text in MESSAGES.values()} for number in (0, 1))
    assert len(zh) == len(en) == len(Code)
    assert all(re.search("[\u4e00-\u9fff]", text) for text in zh)
    assert "".join(en).isascii()
    languages = messages.LANGUAGES
    requests = [falcon.Request(falcon.testing.create_environ(headers={"Accept-Language": each})) for each in languages]
    for code, text in MESSAGES.items():
        assert text == tuple(messages.text(code, language) for language in languages)
        said = tuple(messages.rejection(code, "REF45678", language) for language in languages)
        assert (
            rejection(code, "REF45678") == (f"{text.zh}（参考号 REF45678）", f"{text.en} (reference REF45678)") == said
        )
        answered = tuple(message(code, "REF45678", request) for request in requests)
        assert answered == (("验证通过", "Accepted") if code is Code.OK else said)
