"""The arguments of an execute request: any JSON object that can be stored; large ones are parsed off the hub."""

import json
import sys
from collections import Counter
from types import FrameType, SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http import json_body
from app.http.problems import Problem, ProblemCode
from app.http.schemas import MAX_NESTING, ExecuteRequest, VerifyRequest
from app.services.functions.functions import Execution
from tests.support.tables import for_each
from tests.unit.licence.test_schemas import json_values

VALID = {"card_id": "0" * 32, "hardware": "disk-1", "function": "导出", "nonce": "n" * 22}


def body_with(arguments: str) -> bytes:
    return json.dumps({**VALID, "arguments": "@@"}).replace('"@@"', arguments).encode()


def read(body: bytes) -> ExecuteRequest:
    return json_body.parse(body, ExecuteRequest)


def nested(levels: int, opening: str, closing: str) -> str:
    return '{"deep": ' + opening * (levels - 1) + "1" + closing * (levels - 1) + "}"


def test_arguments_are_read_exactly_as_sent() -> None:
    for arguments in (
        {},
        {"金额": 1.5, "nothing": None, "rows": [[1, -1], {"a": True}], "text": "\n", "big": 10**400},
        json.loads(nested(MAX_NESTING, "[", "]")),
        json.loads(nested(MAX_NESTING, '{"a": ', "}")),
    ):
        assert read(body_with(json.dumps(arguments))).arguments == arguments, arguments


@for_each(
    "arguments",
    [
        *("null", "[]", '"{}"', "1", '{"a": "\\u0000"}', '{"\\u0000": 1}', '{"a": [{"\\ud800": 1}]}', '{"a": 1e999}'),
        *('{"a": [[], 1, "b", [{"c": [[], {"d": ["e", "\\u0000"]}]}]]}', '{"a": ["\\ud83d", "\\ude00"]}', '{"a": NaN}'),
        *(nested(levels, *ends) for levels in (MAX_NESTING + 1, 900) for ends in (("[", "]"), ('{"a": ', "}"))),
    ],
)
def test_arguments_that_cannot_be_stored_are_refused(arguments: str) -> None:
    with pytest.raises(Problem) as refused:
        read(body_with(arguments))
    assert (refused.value.code, refused.value.field) == (ProblemCode.INVALID_REQUEST, "arguments")


@for_each("values", ["[" * 60 + "1" + "]" * 60, "[]", "1.5", '""', '[{"a": ""}]'])
def test_many_values_take_no_call_for_each(values: str) -> None:
    body, calls = body_with('{"a": [' + ",".join([values] * 400) + "]}"), Counter[str]()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == json_body.__file__:
            calls[frame.f_code.co_name] += 1

    sys.setprofile(count)
    try:
        read(body)
    finally:
        sys.setprofile(None)
    assert max(calls.values()) < 100


@given(st.dictionaries(st.text(), json_values, max_size=3))
def test_any_arguments_arrive_as_sent_or_are_refused(arguments: dict[str, Any]) -> None:
    written = json.dumps(arguments)
    try:
        found = read(body_with(written)).arguments
    except Problem:
        assert "\\u" in written or "NaN" in written or "Infinity" in written
    else:
        assert json.dumps(found) == written


def test_arguments_are_required_and_only_execute_takes_them() -> None:
    for kind, body, field in (
        (ExecuteRequest, VALID, "arguments"),
        (ExecuteRequest, {**VALID, "argument": {}}, "argument"),
        (VerifyRequest, {**VALID, "arguments": {}}, "arguments"),
    ):
        with pytest.raises(Problem) as refused:
            json_body.parse(json.dumps(body).encode(), kind)
        assert refused.value.field == field


def test_arguments_of_a_rejected_request_are_not_read() -> None:
    rejected = SimpleNamespace(decision=SimpleNamespace(accepted=False))
    licences = SimpleNamespace(evaluate=lambda _request: rejected, sign=lambda evaluation: ("signed", evaluation))
    execution = Execution(cast("Any", licences), cast("Any", None))
    assert execution.execute(cast("Any", None), cast("Any", None)) == ("signed", rejected)
