"""Where the log-in leads on to."""

import re

from hypothesis import given
from hypothesis import strategies as st

from app.console.guard import HOME, safe_next
from tests.support.tables import for_each


@for_each(
    "path",
    [
        "/admin/",
        "/admin/cards?status=active&after=17.ABC",
        "/admin/cards?note=a(b)!'*~&q=x//y..z",
        "/admin/card?id=A&back=/admin/cards%3Fq%3D1",
        "/admin/journal?kind=%E5%8D%A1",
    ],
)
def test_the_log_in_leads_on_to_the_consoles_own_pages(path: str) -> None:
    assert safe_next(path) == path


@for_each(
    "elsewhere",
    [
        *("", "https://evil.example/", "//evil.example/admin/", "/admin//evil.example", "/admin/\\evil", "/admin"),
        *("/v1/verify", "javascript:alert(1)", "/admin/\n/x", " /admin/", "/admin/../v1", "/\\evil.example"),
        *("/admin/\r\nLocation: https://evil.example", "/admin/%0d%0aSet-Cookie:%20evil=1", "/admin.evil.example"),
        *("/admin@evil.example", "\u2028/admin/", "/admin/\ud800"),
    ],
)
def test_no_link_leads_from_the_log_in_to_another_site(elsewhere: str) -> None:
    assert safe_next(elsewhere) == HOME


def test_an_address_longer_than_a_request_line_leads_home() -> None:
    longest = "/admin/cards?q=" + "x" * 3_985
    assert safe_next(longest) == longest
    assert safe_next(longest + "x") == HOME


@given(st.text())
def test_every_text_leads_to_a_page_of_the_console(text: str) -> None:
    assert safe_next(text).startswith("/admin/")
    assert not re.search(r"[\s\\]|//", safe_next(text))
