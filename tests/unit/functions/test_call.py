import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.functions.call import MAX_DEPTH, MAX_DETAIL, ResultError, encode, failed, invalid, run_function
from app.functions.decorator import Caller, CoreFunction
from app.functions.messages import CallRequest, Failed, Invalid, Outcome, Returned
from tests.support.tables import for_each

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    count: int


class Order(msgspec.Struct):
    amount: Annotated[int, msgspec.Meta(ge=1)]
    items: list[Inner] = []
    prices: dict[str, float] = {}


class Checked(msgspec.Struct):
    code: str

    def __post_init__(self) -> None:
        if self.code == "context":
            try:
                {}["hunter2"]
            except KeyError:
                raise msgspec.ValidationError("hunter2")  # noqa: B904  # that it has a context is the point
        raise ValueError("not hunter2 - at `$.hunter2`")


class Holder(msgspec.Struct):
    inner: Checked


def run(function: Any, arguments: Any = None, schema: Any = None, caller: Caller | None = None) -> Outcome:
    request = CallRequest("name", arguments or {}, caller or Caller("card", "client", None))
    outcome = run_function(CoreFunction("name", function, schema), request, 1000, lambda: None)
    return msgspec.json.decode(outcome, type=Outcome)  # type: ignore[arg-type]


@given(JSON)
def test_a_json_value_is_encoded_unchanged(value: object) -> None:
    assert json.loads(encode(value, 10**6)) == value


def nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth - 1):
        made = [made]
    return made


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@for_each(
    "value, most, reason",
    [
        *(
            (value, 1000, r"结果不是 JSON.* / the result is not JSON")
            for value in (CYCLE, math.nan, math.inf, {1}, b"", object(), {"a": [{None: 1}]}, {"\ud800": 1})
        ),
        (10**5000, 10_000, "Exceeds the limit"),  # which Python refuses to write
        *((nested(depth), 10**6, "nested deeper than 64 levels") for depth in (MAX_DEPTH + 1, 10_000)),
        ("卡" * 10, 31, "the result has 32 bytes as JSON: at most 31 are allowed"),
    ],
)
def test_a_value_that_is_not_json_or_beyond_a_limit_is_refused(value: object, most: int, reason: str) -> None:
    with pytest.raises(ResultError, match=reason):
        encode(value, most)


def test_values_up_to_the_limits_are_encoded_and_a_tuple_as_a_list() -> None:
    assert encode(nested(MAX_DEPTH - 1), 1000)
    assert encode("卡" * 10, 32) == ('"' + "卡" * 10 + '"').encode()
    assert encode((1, 2), 100) == b"[1,2]"


@for_each(
    ("arguments", "field", "message"),
    [
        ({}, "arguments.amount", "Object missing required field `amount`"),
        ({"amount": "1"}, "arguments.amount", "Expected `int`, got `str`"),
        ({"amount": 0}, "arguments.amount", "Expected `int` >= 1"),
        ({"amount": 1, "items": [{"count": 1, "x": 2}]}, "arguments.items[0].x", "Object contains unknown field `x`"),
        ({"amount": 1, "prices": {"a": "b"}}, "arguments.prices[...]", "Expected `float`, got `str`"),
    ],
)
def test_invalid_arguments_are_reported_with_their_field(arguments: dict[str, Any], field: str, message: str) -> None:
    assert run(lambda _arguments, _caller: None, arguments, Order) == Invalid(field, message)
    of_all = "Expected `array`, got `object`"
    assert invalid(of_all) == Invalid("arguments", of_all)


@for_each(
    "schema, arguments, field",
    [
        (Checked, {"code": "cause"}, "arguments"),
        (Checked, {"code": "context"}, "arguments"),
        (Holder, {"inner": {"code": "cause"}}, "arguments.inner"),
    ],
)
def test_the_client_gets_the_field_but_not_the_message_of_the_vendors_own_check(
    schema: Any, arguments: dict[str, Any], field: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda _arguments, _caller: None, arguments, schema) == Invalid(field, "")
    printed = capsys.readouterr().err
    assert "in __post_init__\n" in printed
    assert "hunter2" in printed


def test_arguments_are_converted_to_their_type() -> None:
    assert run(
        lambda arguments, _caller: arguments.items[0].count, {"amount": 1, "items": [{"count": 7}]}, Order
    ) == Returned(7)
    assert run(lambda arguments, _caller: arguments, {"amount": "x"}) == Returned({"amount": "x"})


def test_the_expiry_of_the_caller_is_in_utc() -> None:
    until = datetime(2027, 1, 1, 8, tzinfo=timezone(timedelta(hours=8)))
    seen: list[datetime | None] = []
    run(lambda _arguments, caller: seen.append(caller.expires_at), caller=Caller("card", "client", until))
    assert [(at, at and at.tzinfo) for at in seen] == [(datetime(2027, 1, 1, tzinfo=UTC), UTC)]


class OddError(Exception):
    """Cannot be formatted."""

    @property
    def __cause__(self) -> None:
        raise RuntimeError


def raising(error: BaseException) -> Callable[[object, object], None]:
    def raises(arguments: object, caller: object) -> None:
        raise error

    return raises


def endless(arguments: object, caller: object) -> object:
    return endless(arguments, caller)


def failure(function: Any) -> str:
    outcome = run(function)
    assert isinstance(outcome, Failed)
    return outcome.detail


def test_an_exception_is_a_failure_whose_traceback_begins_in_the_function() -> None:
    detail = failure(raising(ValueError("hunter2")))
    assert detail.startswith("Traceback")
    assert "app/functions/call.py" not in detail
    assert "in raises" in detail
    assert detail.endswith("ValueError: hunter2\n")


def test_any_exception_and_an_invalid_result_are_failures() -> None:
    for error in (SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError(), RecursionError()):
        assert type(error).__name__ in failure(raising(error))
    assert failure(raising(OddError())) == "OddError, which cannot be shown"
    assert "RecursionError" in failure(endless), "cut to its end"
    assert failure(lambda _arguments, _caller: {1, 2}).startswith("结果不是 JSON"), "without a traceback"


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=())))
def test_a_detail_is_valid_unicode_without_nul_and_cut_to_its_end(text: str) -> None:
    detail = failed(text).detail
    assert "\0" not in detail
    assert detail.encode().decode() == detail
    detail = failed("a" * 5_000 + "end").detail
    assert (len(detail), detail[:2], detail[-4:]) == (MAX_DETAIL, "…a", "aend")
    assert failed("a" * MAX_DETAIL).detail == "a" * MAX_DETAIL
