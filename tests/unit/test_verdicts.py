"""Verdicts as HTTP answers: a status and a message for every code, in both languages."""

import re
import subprocess
from pathlib import Path

import falcon
import falcon.testing
from kadun import messages

from app.customer_messages import MESSAGES, NAMES
from app.domain.codes import Code
from app.http.verdicts import STATUS, message
from tests.support import javascript_messages
from tests.support.tables import for_each

ROOT = Path(__file__).resolve().parents[2]


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


def test_customers_read_what_the_sdk_and_the_javascript_client_say() -> None:
    for code in Code:
        assert MESSAGES[code] == tuple(messages.text(code, language) for language in messages.LANGUAGES)
    assert javascript_messages.TARGET.read_text("utf-8") == javascript_messages.source(), (
        "run python -m tests.support.javascript_messages"
    )


def test_no_message_for_customers_is_written_twice() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    sources = [ROOT / name for name in tracked.split("\0") if name.startswith(("app/", "client/src/", "examples/"))]
    written = {Path(messages.__file__), javascript_messages.TARGET}
    code = {path: path.read_text("utf-8") for path in sources if path.suffix in {".py", ".mjs", ".html"}}
    texts = [text for key, pair in messages.TEXTS.items() if key != "OK" for text in pair]
    assert [(path, text) for path in {*code} - written for text in texts if text in code[path]] == []
