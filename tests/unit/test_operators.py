"""Operators and tokens: names, passwords, and how long who failed must wait."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.operators import (
    FREE_FAILURES,
    MAX_NAME,
    MAX_PASSWORD,
    check_name,
    check_password,
    console_actor,
    next_attempt,
    shop_actor,
)
from app.domain.texts import RefusedError, Text
from tests.support.tables import for_each

AT = datetime(2026, 3, 1, tzinfo=UTC)


@for_each("name", ["a", "老板", "小王 2", "x" * MAX_NAME])
def test_names_that_will_do(name: str) -> None:
    check_name(name)


@for_each("name", ["", "x" * (MAX_NAME + 1), " a", "a ", "a\nb", "a\0", "a\u202eb", "\ud800"])
def test_names_that_will_not_do(name: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check_name(name)
    assert caught.value.text == Text(
        "名称必须是 1 到 64 个可打印字符，首尾没有空格",
        "a name must be 1 to 64 printable characters, without white space at its ends",
    )


@for_each("password", ["correct horse", "abcde" * 3, "卡密卡密卡密管理员密码！", ("x1y2z3w4v5u6" * 22)[:MAX_PASSWORD]])
def test_passwords_that_will_do(password: str) -> None:
    check_password(password, "alice")


@for_each(
    "password",
    ["", "short", "elevenchars", "xy1z5" * MAX_PASSWORD, ("x1y2z3w4v5u6" * 22)[: MAX_PASSWORD + 1]],
)
def test_passwords_of_another_length_will_not_do(password: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check_password(password, "Alice")
    assert caught.value.text == Text("密码必须是 12 到 256 个字符", "a password must be 12 to 256 characters")


@for_each(
    ("password", "name"),
    [
        ("a" * 20, "Alice"),
        ("abcd" * 5, "Alice"),
        ("alice-and-more", "Alice"),
        ("my name is ALICE", "Alice"),
        ("my name is bob", "bob"),
    ],
)
def test_easy_passwords_will_not_do(password: str, name: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check_password(password, name)
    assert caught.value.text == Text(
        "密码过于简单：不能只有几个不同的字符，也不能包含用户名",
        "the password is too easy: not a few characters repeated, and not with the name in it",
    )


def test_the_first_failures_cost_nothing_and_each_after_them_doubles_the_wait() -> None:
    waits = [(next_attempt(failures, AT) - AT) / timedelta(seconds=1) for failures in range(FREE_FAILURES + 4)]
    assert waits == [0] * FREE_FAILURES + [1, 2, 4, 8]


@for_each("failures", [20, 100, 10_000_000])
def test_nobody_waits_longer_than_a_quarter_of_an_hour(failures: int) -> None:
    assert next_attempt(failures, AT) - AT == timedelta(minutes=15)


def test_a_name_of_a_letter_or_two_may_be_in_a_password() -> None:
    check_password("correct horse", "c")


def test_the_journal_tells_operators_from_shops() -> None:
    assert (console_actor("olga"), shop_actor("taobao")) == ("console:olga", "shop:taobao")
