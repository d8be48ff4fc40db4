"""The language that an answer is in."""

import falcon
import falcon.testing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.texts import Text
from app.http.languages import in_language_of, prefers_english


def asking(accept_language: str | None) -> falcon.Request:
    headers = {} if accept_language is None else {"Accept-Language": accept_language}
    return falcon.Request(falcon.testing.create_environ(headers=headers))


@pytest.mark.parametrize(
    ("header", "english"),
    [
        ("", False),
        ("en", True),
        ("EN-us", True),
        ("zh", False),
        ("zh-CN,zh;q=0.9,en;q=0.8", False),
        ("en-US,en;q=0.9,zh-CN;q=0.8", True),
        ("zh;q=0.5, en;q=0.9", True),
        ("en;q=0.5, zh;q=0.9", False),
        ("en, zh", True),
        ("zh, en", False),
        ("en;q=0.3, zh;q=0.9, en-GB", True),
        ("fr, de;q=0.9", False),
        ("fr, en;q=0.1", True),
        ("*", False),
        ("en;q=0", False),
        ("en;q=0, *", False),
        ("zh;q=0, en;q=0.1", True),
        ("en ; Q=1 , zh ; q=0.9", True),
        ("en;q=high, zh;q=0.1", False),
        ("en;q=nan, zh;q=0.1", False),
        ("en;q=2, zh;q=0.1", False),
        ("en;q=-1", False),
        ("en;q=", False),
        ("en;level=1", True),
        ("english", False),
        (";;;,,,", False),
    ],
)
def test_english_where_the_header_ranks_it_over_chinese(header: str, *, english: bool) -> None:
    assert prefers_english(header) is english
    assert in_language_of(asking(header), Text("中文", "English")) == ("English" if english else "中文")


def test_chinese_without_the_header() -> None:
    assert in_language_of(asking(None), Text("中文", "English")) == "中文"


@given(st.text())
def test_any_header_is_read(header: str) -> None:
    assert prefers_english(header) in {True, False}
