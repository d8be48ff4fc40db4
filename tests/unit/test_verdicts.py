"""Verdicts as HTTP answers: a status and a message for every code, in both languages."""

import re

import falcon
import falcon.testing
import pytest

from app.domain.codes import Code
from app.http.verdicts import MESSAGES, STATUS, message


def asking(accept_language: str) -> falcon.Request:
    return falcon.Request(falcon.testing.create_environ(headers={"Accept-Language": accept_language}))


def test_every_code_has_a_status_and_a_text_of_its_own_in_both_languages() -> None:
    assert set(MESSAGES) == set(STATUS) == set(Code)
    for text in MESSAGES.values():
        assert re.search("[\u4e00-\u9fff]", text.zh)
        assert text.en.isascii()
    assert len({text.zh for text in MESSAGES.values()}) == len({text.en for text in MESSAGES.values()}) == len(Code)


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_a_rejection_tells_its_reference(code: Code) -> None:
    assert message(code, "REF45678", asking("zh")) == MESSAGES[code].zh + "（参考号：REF45678）"
    assert message(code, "REF45678", asking("en")) == MESSAGES[code].en + " (reference: REF45678)"


def test_an_acceptance_has_no_reference() -> None:
    assert message(Code.OK, "REF45678", asking("zh")) == "验证通过。"
    assert message(Code.OK, "REF45678", asking("en")) == "Accepted."
