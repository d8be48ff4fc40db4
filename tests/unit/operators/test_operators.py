"""Operators: names, passwords, and waits after failures."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.operators.operators import (
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


@for_each("name", ["", "x" * (MAX_NAME + 1), " a", "a ", "a\nb", "a\0", "a\u202eb", "\ud800"])
def test_names_that_will_do_and_that_will_not(name: str) -> None:
    for right in ("a", "老板", "小王 2", "x" * MAX_NAME):
        check_name(right)
    with pytest.raises(RefusedError) as caught:
        check_name(name)
    assert caught.value.text == Text(
        "名称必须是 1 到 64 个可打印字符，首尾没有空格",
        "a name must be 1 to 64 printable characters, without white space at its ends",
    )


LENGTH = Text("密码必须是 12 到 256 个字符", "a password must be 12 to 256 characters")
EASY = Text(
    "密码过于简单：不能只有几个不同的字符，也不能包含用户名",
    "the password is too easy: not a few characters repeated, and not with the name in it",
)


@for_each(
    ("password", "name", "reason"),
    [
        *((text, "Alice", LENGTH) for text in ("", "short", "elevenchars", "xy1z5" * MAX_PASSWORD)),
        (("x1y2z3w4v5u6" * 22)[: MAX_PASSWORD + 1], "Alice", LENGTH),
        *((text, "Alice", EASY) for text in ("a" * 20, "abcd" * 5, "alice-and-more", "my name is ALICE")),
        ("my name is bob", "bob", EASY),
    ],
)
def test_passwords_that_will_do_and_others_of_another_length_or_easy(password: str, name: str, reason: Text) -> None:
    for right in ("correct horse", "abcde" * 3, "卡密卡密卡密管理员密码！", ("x1y2z3w4v5u6" * 22)[:MAX_PASSWORD]):
        check_password(right, "alice")
    check_password("correct horse", "c")  # a name of a letter or two may be in it
    with pytest.raises(RefusedError) as caught:
        check_password(password, name)
    assert caught.value.text == reason


def test_the_first_failures_cost_nothing_and_each_after_them_doubles_the_wait_up_to_a_quarter_of_an_hour() -> None:
    waits = [(next_attempt(failures, AT) - AT) / timedelta(seconds=1) for failures in range(FREE_FAILURES + 4)]
    assert waits == [0] * FREE_FAILURES + [1, 2, 4, 8]
    for failures in (20, 100, 10_000_000):
        assert next_attempt(failures, AT) - AT == timedelta(minutes=15)


def test_the_journal_tells_operators_from_shops() -> None:
    assert (console_actor("olga"), shop_actor("taobao")) == ("console:olga", "shop:taobao")
