"""The arguments of an execute request: any JSON object that can be stored."""

import json
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http import json_body
from app.http.json_body import MAX_NESTING
from app.http.problems import Problem, ProblemCode
from app.http.schemas import parse_execute_request, parse_verify_request
from tests.support.tables import for_each

VALID = {"card_id": "0" * 32, "hardware": "disk-1", "function": "导出", "nonce": "n" * 22}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def executing(arguments: str) -> bytes:
    return json.dumps({**VALID, "arguments": "@@"}).replace('"@@"', arguments).encode()


def nested(levels: int, opening: str, closing: str) -> str:
    return '{"deep": ' + opening * (levels - 1) + "1" + closing * (levels - 1) + "}"


@for_each(
    "arguments",
    [
        {},
        {"金额": 1.5, "nothing": None, "rows": [[1, -1], {"a": True}], "text": "\n", "big": 10**400},
        json.loads(nested(MAX_NESTING, "[", "]")),
        json.loads(nested(MAX_NESTING, '{"a": ', "}")),
    ],
)
def test_arguments_are_read_exactly_as_sent(arguments: dict[str, Any]) -> None:
    assert parse_execute_request(executing(json.dumps(arguments))).arguments == arguments


@for_each(
    "arguments",
    [
        *("null", "[]", '"{}"', "1", '{"a": "\\u0000"}', '{"\\u0000": 1}', '{"a": [{"\\ud800": 1}]}', '{"a": 1e999}'),
        *('{"a": [[], 1, "b", [{"c": [[], {"d": ["e", "\\u0000"]}]}]]}', '{"a": ["\\ud83d", "\\ude00"]}'),
        *(nested(levels, *ends) for levels in (MAX_NESTING + 1, 900) for ends in (("[", "]"), ('{"a": ', "}"))),
    ],
)
def test_arguments_that_cannot_be_stored_are_refused(arguments: str) -> None:
    with pytest.raises(Problem) as refused:
        parse_execute_request(executing(arguments))
    assert (refused.value.code, refused.value.field) == (ProblemCode.INVALID_REQUEST, "arguments")


@for_each("values", ["[" * 60 + "1" + "]" * 60, "[]", "1.5", '""', '[{"a": ""}]'])
def test_many_values_take_no_call_for_each(values: str) -> None:
    body, calls = executing('{"a": [' + ",".join([values] * 400) + "]}"), Counter[str]()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == json_body.__file__:
            calls[frame.f_code.co_name] += 1

    sys.setprofile(count)
    try:
        parse_execute_request(body)
    finally:
        sys.setprofile(None)
    assert max(count for name, count in calls.items() if name != "_unique") < 100


@given(st.dictionaries(st.text(), json_values, max_size=3))
def test_any_arguments_arrive_as_sent_or_are_refused(arguments: dict[str, Any]) -> None:
    written = json.dumps(arguments)
    try:
        read = parse_execute_request(executing(written)).arguments
    except Problem:
        assert "\\u" in written or "NaN" in written or "Infinity" in written
    else:
        assert json.dumps(read) == written


@for_each(
    ("parse", "body", "field"),
    [
        (parse_execute_request, VALID, "arguments"),
        (parse_execute_request, {**VALID, "argument": {}}, "argument"),
        (parse_verify_request, {**VALID, "arguments": {}}, "arguments"),
    ],
)
def test_arguments_are_required_and_only_execute_takes_them(
    parse: Callable[[bytes], object], body: dict[str, Any], field: str
) -> None:
    with pytest.raises(Problem) as refused:
        parse(json.dumps(body).encode())
    assert refused.value.field == field
