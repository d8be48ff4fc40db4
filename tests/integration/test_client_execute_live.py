"""The SDK's `execute` against the real service: results, and an exception for each kind of failure."""

import pytest
from kadun import CardRejected, FunctionFailed, FunctionNotFound, FunctionTimeout, RequestRefused

from tests.support.executing import client_of, execute
from tests.support.service import Service

SECRET = "hunter2-" + "q" * 20


def test_a_result_is_returned(executing: Service) -> None:
    (card_id,) = executing.issue()
    assert client_of(executing, card_id).execute("求和", {"a": 1.5, "b": 1}) == {"sum": 2.5}


@pytest.mark.parametrize(
    ("function", "error"), [("没有的", FunctionNotFound), ("泄密", FunctionFailed), ("死循环", FunctionTimeout)]
)
def test_each_failure_of_a_function_has_its_exception(
    executing: Service, function: str, error: type[Exception]
) -> None:
    (card_id,) = executing.issue()
    with pytest.raises(error) as failure:
        client_of(executing, card_id).execute(function, {"secret": SECRET})
    assert SECRET not in str(failure.value)


def test_a_bad_card_and_bad_arguments_are_told_apart(executing: Service) -> None:
    (card_id,) = executing.issue()
    with pytest.raises(RequestRefused, match=r"arguments\.amount"):
        client_of(executing, card_id).execute("下单", {"amount": "many"})
    executing.cardctl("card", "freeze", card_id)
    with pytest.raises(CardRejected):
        client_of(executing, card_id).execute("下单", {"amount": "many"})


def test_the_largest_result_is_accepted(executing: Service) -> None:
    (card_id,) = executing.issue()
    length = 256 * 1024 // 3 - 1  # three bytes each, and two quotation marks
    result = client_of(executing, card_id).execute("多大", {"length": length})
    assert result == "核" * length
    assert execute(executing, card_id, "多大", {"length": length + 1}).body["code"] == "FUNCTION_FAILED"
