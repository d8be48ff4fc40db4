"""Operators and tokens: names, passwords, and how long who failed must wait."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.operators import FREE_FAILURES, MAX_NAME, MAX_PASSWORD, check_name, check_password, next_attempt
from app.domain.texts import RefusedError

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", ["a", "老板", "小王 2", "x" * MAX_NAME])
def test_names_that_will_do(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME + 1), " a", "a ", "a\nb", "a\0", "a\u202eb", "\ud800"])
def test_names_that_will_not_do(name: str) -> None:
    with pytest.raises(RefusedError):
        check_name(name)


@pytest.mark.parametrize("password", ["correct horse", "abcde" * 3, "卡密卡密卡密管理员密码！", "x1y2z3w4v5u6" * 21])
def test_passwords_that_will_do(password: str) -> None:
    check_password(password, "alice")


@pytest.mark.parametrize(
    "password",
    ["", "short", "elevenchars", "a" * 20, "abcd" * 5, "alice-and-more", "my name is ALICE", "xy1z" * MAX_PASSWORD],
)
def test_passwords_that_will_not_do(password: str) -> None:
    with pytest.raises(RefusedError):
        check_password(password, "Alice")


def test_the_first_failures_cost_nothing_and_each_after_them_doubles_the_wait() -> None:
    waits = [(next_attempt(failures, AT) - AT) / timedelta(seconds=1) for failures in range(FREE_FAILURES + 4)]
    assert waits == [0] * FREE_FAILURES + [1, 2, 4, 8]


@pytest.mark.parametrize("failures", [20, 100, 10_000_000])
def test_nobody_waits_longer_than_a_quarter_of_an_hour(failures: int) -> None:
    assert next_attempt(failures, AT) - AT == timedelta(minutes=15)


def test_a_name_of_a_letter_or_two_may_be_in_a_password() -> None:
    check_password("correct horse", "c")
