"""Which language an answer is in, and that every verdict has words in both."""

import re

import falcon
import falcon.testing
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.codes import Code
from app.domain.texts import Text
from app.http.languages import VERDICTS, in_language_of, prefers_english, verdict_message


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
def test_english_is_spoken_where_the_header_ranks_it_over_chinese(header: str, *, english: bool) -> None:
    assert prefers_english(header) is english
    assert in_language_of(asking(header), Text("中文", "English")) == ("English" if english else "中文")


def test_chinese_is_spoken_where_nothing_is_asked() -> None:
    assert in_language_of(asking(None), Text("中文", "English")) == "中文"


@given(st.text())
def test_any_header_gets_one_of_the_two(header: str) -> None:
    assert prefers_english(header) in {True, False}


def test_every_code_has_a_text_of_its_own_in_both_languages() -> None:
    assert set(VERDICTS) == set(Code)
    for text in VERDICTS.values():
        assert re.search("[\u4e00-\u9fff]", text.zh)
        assert text.en.isascii()
    assert len({text.zh for text in VERDICTS.values()}) == len({text.en for text in VERDICTS.values()}) == len(Code)


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_a_rejection_tells_its_reference(code: Code) -> None:
    assert verdict_message(code, "REF45678", asking("zh")) == VERDICTS[code].zh + "（参考号：REF45678）"
    assert verdict_message(code, "REF45678", asking("en")) == VERDICTS[code].en + " (reference: REF45678)"


def test_an_acceptance_has_no_reference() -> None:
    assert verdict_message(Code.OK, "REF45678", asking("zh")) == "验证通过。"
    assert verdict_message(Code.OK, "REF45678", asking("en")) == "Accepted."
