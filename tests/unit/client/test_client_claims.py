"""Claims are read by type, and none is taken for another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kadun import UntrustedAnswer
from kadun.tokens import Claims

from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable

READERS: dict[str, tuple[Callable[[Claims, str], object], list[Any], str]] = {
    "text": (Claims.text, ["x"], "missing or not a string"),
    "boolean": (Claims.boolean, [True, False], "missing or not a boolean"),
    "seconds": (Claims.seconds, [0, 1.5], "missing or not a time"),
    "mapping": (Claims.mapping, [{}, {"a": 1}], "missing or not an object"),
    "sequence": (Claims.sequence, [[], [1]], "missing or not an array"),
    "value": (Claims.value, [None, "", 0], "missing"),
}
VALUES = [None, "", "x", True, False, 0, 1.5, {}, {"a": 1}, [], [1]]


def refusal(read: Callable[[Claims, str], object], values: dict[str, Any]) -> str:
    with pytest.raises(UntrustedAnswer) as caught:
        read(Claims(values), "c")
    return caught.value.detail


@for_each("name", READERS)
def test_a_claim_of_its_type_is_returned_and_any_other_refused(name: str) -> None:
    read, good, problem = READERS[name]
    for value in VALUES if name != "value" else []:
        if not any(type(value) is type(each) and value == each for each in good):
            assert refusal(read, {"c": value}) == f"claim c is {problem}"
    for value in good:
        assert read(Claims({"c": value}), "c") == value
    assert refusal(read, {"other": good[-1]}) == f"claim c is {problem}"
