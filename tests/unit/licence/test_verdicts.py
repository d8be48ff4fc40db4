"""Verdicts as HTTP answers: a status and a message for every code, in both languages."""
# Owns http-statuses.

import re

import falcon
import falcon.testing
from kadun import messages

from app.domain.codes import Code
from app.http.customer_messages import MESSAGES, NAMES, rejection
from app.http.verdicts import STATUS, message
from tests.support.tables import for_each


def asking(accept_language: str) -> falcon.Request:
    return falcon.Request(falcon.testing.create_environ(headers={"Accept-Language": accept_language}))


def test_every_code_has_a_status_and_a_text_of_its_own_in_both_languages() -> None:
    assert set(MESSAGES) == set(NAMES) == set(STATUS) == set(Code)
    for text in MESSAGES.values():
        assert re.search("[\u4e00-\u9fff]", text.zh)
        assert text.en.isascii()
    assert len({text.zh for text in MESSAGES.values()}) == len({text.en for text in MESSAGES.values()}) == len(Code)


@for_each("code", [code for code in Code if code is not Code.OK])
def test_a_rejection_tells_its_reference(code: Code) -> None:
    assert message(code, "REF45678", asking("zh")) == MESSAGES[code].zh + "（参考号 REF45678）"
    assert message(code, "REF45678", asking("en")) == MESSAGES[code].en + " (reference REF45678)"
    accepted = [message(Code.OK, "REF45678", asking(language)) for language in ("zh", "en")]
    assert accepted == ["验证通过", "Accepted"]


def test_customers_read_what_the_sdk_says() -> None:
    for code in Code:
        assert MESSAGES[code] == tuple(messages.text(code, language) for language in messages.LANGUAGES)
        said = tuple(messages.rejection(code, "REF45678", language) for language in messages.LANGUAGES)
        assert rejection(code, "REF45678") == said
