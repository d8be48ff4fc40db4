"""Reading what strangers wrote, by itself: PyJWT's newest releases are as strict, older ones are not."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from kadun import UntrustedAnswer
from kadun.decoding import decode_base64url, encode_base64url, parse_json_object
from kadun.tokens import Claims

from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable


def test_base64url_has_one_spelling() -> None:
    for raw in (b"a", b"ab", b"abc", b"\0\0\x17", bytes(range(256))):
        assert decode_base64url(encode_base64url(raw), "it") == raw
    for text in ("", "A", "AB", "AAB", "AA==", "AA=", "A+A", "A/A", "AA\n", " AA", "A.A", "ＡＡ", "AAAAA"):
        with pytest.raises(UntrustedAnswer, match="it is not canonical"):
            decode_base64url(text, "it")
    assert parse_json_object('{"a": ["卡", 1.5, null]}'.encode(), "it") == {"a": ["卡", 1.5, None]}


@for_each(
    "raw",
    [
        b"",
        b"1",
        b"[]",
        b"null",
        b'{"a": 1, "a": 1}',
        b'{"b": {"a": 1, "a": 2}}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a": 1} {}',
        b'{"a":' * 100_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
)
def test_ambiguous_json_is_refused(raw: bytes) -> None:
    with pytest.raises(UntrustedAnswer, match="it is not a JSON object"):
        parse_json_object(raw, "it")


VALUES = [None, "", "x", True, False, 0, 1.5, {}, {"a": 1}, [], [1]]


@for_each(
    "read, good, problem",
    [
        (Claims.text, ["x"], "missing or not a string"),
        (partial(Claims.of, kind=bool), [True, False], "missing or not a boolean"),
        (Claims.seconds, [0, 1.5], "missing or not a time"),
        (partial(Claims.of, kind=dict), [{}, {"a": 1}], "missing or not an object"),
        (partial(Claims.of, kind=list), [[], [1]], "missing or not an array"),
        (Claims.value, VALUES, "missing"),
    ],
)
def test_a_claim_of_its_type_is_returned_and_any_other_refused(
    read: Callable[[Claims, str], object], good: list[Any], problem: str
) -> None:
    for value in good:
        assert read(Claims({"c": value}), "c") == value
    kinds = [(type(value), value) for value in good]
    bad: list[dict[str, Any]] = [{"c": value} for value in VALUES if (type(value), value) not in kinds]
    for claims in [{"other": good[-1]}, *bad]:
        with pytest.raises(UntrustedAnswer) as caught:
            read(Claims(claims), "c")
        assert caught.value.detail == f"claim c is {problem}"


def test_a_number_that_no_calendar_has_is_no_time() -> None:
    for value in (-1, 10**18, 10**400, float("inf"), float("nan")):
        with pytest.raises(UntrustedAnswer, match="missing or not a time"):
            Claims({"c": value}).seconds("c")
