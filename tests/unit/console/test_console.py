"""Parts of the console: forms and uploads, where the log-in leads on to, texts of the vendor and strangers, errors."""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import falcon
import pytest
from falcon.testing import TestClient, create_req
from hypothesis import given
from hypothesis import strategies as st

from app.console import errors, forms, rendering, words
from app.console.cards.card import _chart
from app.console.guard import HOME, safe_next
from app.console.own_card import OwnCardPage
from app.console.rendering import Renderer
from app.console.static_files import StaticFiles
from app.console.visitor import Visitor
from app.domain.codes import CardStatus, Code, EventKind
from app.domain.errors import UnavailableError
from app.domain.licence.terms import BindingTerm, RenewTerm, Terms, TermsContradictionError, read_terms
from app.domain.operators.operators import Role, Scope
from app.domain.texts import RefusedError, Text
from app.http import problems
from app.http.problems import Problem
from app.services.shop.shop_tokens import TokenNotFoundError
from tests.support.tables import for_each

VENDOR = Path(rendering.__file__).parent / "static/vendor"
DAY = date(2026, 3, 1)


def posted(body: bytes, content_type: str = "application/x-www-form-urlencoded") -> falcon.Request:
    return create_req(method="POST", path="/admin/cards", body=body, headers={"Content-Type": content_type})


def multipart(*parts: bytes, boundary: str = "x") -> falcon.Request:
    body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"
    return posted(body, f"multipart/form-data; boundary={boundary}")


FIELD = b'Content-Disposition: form-data; name="csrf"\r\n\r\nabc'
FILE = b'Content-Disposition: form-data; name="file"; filename="%b"\r\n\r\nid\n\x00\xff'


def test_a_form_keeps_repeated_fields_empty_values_and_uploaded_bytes() -> None:
    form = forms.read_form(posted(b"id=A&id=B&note=&batch=%E5%8D%A1+1"), 1000)
    assert form.all("id") == ["A", "B"]
    assert (form.one("note"), form.one("batch"), form.one("missing")) == ("", "卡 1", "")
    with pytest.raises(Problem, match="several values"):
        form.one("id")
    for text, number in (("0", 0), (" 7 ", 7), ("9" * 18, 10**18 - 1)):
        assert forms.Form({"id": [text]}).number("id") == number
    for text in ("", "-1", "1.5", "x", "\u0661", "\u00b2", "9" * 19):
        assert forms.Form({"id": [text]}).number("id") is None
    assert forms.Form().number("id") is None
    for name in (b"../../etc/passwd", ("卡" * 255).encode()):
        form = forms.read_form(multipart(FIELD, FILE % name), 10_000, takes_files=True)
        assert (form.one("csrf"), form.files) == ("abc", {"file": b"id\n\x00\xff"}), "its name is ignored"


def test_a_form_that_cannot_be_stored_is_broken_too_large_or_of_another_type_is_refused() -> None:
    on_a_page_without_files, of_unknown_length = multipart(FIELD), multipart(FIELD)
    del of_unknown_length.env["CONTENT_LENGTH"]
    disposition = b"Content-Disposition: form-data"
    for request, status in (
        *((posted(body), 400) for body in (b"a=%00", b"a=%ff", b"a=\xff", b"a=%ed%a0%80", b"&".join([b"a=1"] * 5001))),
        (posted(b"a=" + b"1" * 100_000), 413),
        (posted(b"{}", "application/json"), 415),
        (on_a_page_without_files, 415),
    ):
        with pytest.raises(Problem) as refused:
            forms.read_form(request, 100_000)
        assert refused.value.status[:3] == str(status), request.content_type
    assert on_a_page_without_files.bounded_stream.read(3) == b"--x", "nothing of it was read"
    for request, status in (
        (of_unknown_length, 400),
        (multipart(FIELD, boundary="x;" + ";" * 200), 415),
        (multipart(FIELD, boundary="y"), 400),
        (multipart(disposition + b"\r\n\r\nabc"), 400),
        (multipart(disposition + b'; name="a"\r\n\r\n\xff'), 400),
        (multipart(disposition + b'; name="' + b";" * 1_000 + b"\r\n\r\nabc"), 400),
        (multipart(*[FIELD] * 9), 400),
        (posted(b"--x", "multipart/form-data"), 400),
        (posted(b"--x\r\n" + FIELD, "multipart/form-data; boundary=x"), 400),
    ):
        with pytest.raises(Problem) as refused:
            forms.read_form(request, 10_000, takes_files=True)
        assert refused.value.status[:3] == str(status), request.content_type


@given(st.text())
def test_the_log_in_leads_on_to_the_consoles_own_pages_alone(text: str) -> None:
    assert safe_next(text).startswith("/admin/")
    assert not re.search(r"[\s\\]|//", safe_next(text))
    longest = "/admin/cards?q=" + "x" * 3_985  # of a request line
    for path in (
        *("/admin/", "/admin/cards?status=active&after=17.ABC", "/admin/cards?note=a(b)!'*~&q=x//y..z", longest),
        *("/admin/card?id=A&back=/admin/cards%3Fq%3D1", "/admin/journal?kind=%E5%8D%A1"),
    ):
        assert safe_next(path) == path
    for elsewhere in (
        *("", "https://evil.example/", "//evil.example/admin/", "/admin//evil.example", "/admin/\\evil", "/admin"),
        *("/v1/verify", "javascript:alert(1)", "/admin/\n/x", " /admin/", "/admin/../v1", "/\\evil.example"),
        *("/admin/\r\nLocation: https://evil.example", "/admin/%0d%0aSet-Cookie:%20evil=1", "/admin.evil.example"),
        *("/admin@evil.example", "\u2028/admin/", "/admin/\ud800", longest + "x"),
    ):
        assert safe_next(elsewhere) == HOME, elsewhere


def test_every_code_kind_state_role_scope_and_term_has_a_name_in_both_languages() -> None:
    for value in (*CardStatus, *Code, *EventKind, *Role, *Scope):
        assert words.word(value).zh != value
        assert not words.word(value).en.isupper(), value
    assert [name for name in Terms().as_texts() if words.term_name(name).zh == name] == []
    for term, values in (("self_renew", RenewTerm), ("binding", BindingTerm)):
        assert [value for value in values if words.term_value(term, value).zh == value] == []


def test_details_of_the_journal_are_in_words() -> None:
    assert words.detail("by", "36500d") == ("36500 天", "36500 days")
    assert words.detail("validity", "permanent") == ("永久", "permanent")
    assert words.detail("validity", "30d") == ("月卡", "30 days")
    assert words.detail("by", "30d") == ("30 天", "30 days")
    assert words.detail("scopes", ["cards:issue", "cards:read"]) == ("发卡, 查询卡密", "issue cards, look cards up")
    filtered = {"status": "active", "batch": "active", "chosen": 3}
    assert words.detail("filter", filtered).zh == "状态=使用中, 批次=active, 选中的张数=3"
    assert words.detail("sha256", "active") == ("active", "active"), "only a detail's own values are words of ours"
    assert words.term_value("contact", "any").zh == "any"


@for_each("typed", ["binding", "a' binding 'b", "notice\nbinding"])
def test_terms_are_not_named_in_quoted_input(typed: str) -> None:
    with pytest.raises(RefusedError) as refused:
        read_terms(Terms(), [("self_unbind_cost", typed)])
    said = words.with_term_names(refused.value.text).zh
    assert said == refused.value.text.zh.replace("self_unbind_cost", "每次自助解绑扣除的时长")
    assert "binding" in said
    with pytest.raises(TermsContradictionError) as contradiction:
        read_terms(Terms(), [("minimum_version", "2.0"), ("latest_version", "1.0")])
    assert words.with_term_names(contradiction.value.text).zh == "最低版本 2.0 不能高于 最新版本 1.0"
    assert words.with_term_names(Text("minimum_version 太旧", "")).zh == "最低版本 太旧"


def test_functions_that_share_a_bar_link_to_the_whole_day() -> None:
    used = {(DAY, f"f{number}"): 9 - number for number in range(8)}
    *own, others = _chart(used, [DAY], "7" * 32, itemgetter(1)).series
    assert [series.name for series in own] == [f"f{number}" for number in range(6)]
    assert others.values == [3 + 2]
    assert "function=" not in others.links[0]


def test_the_kept_libraries_are_the_ones_that_their_table_names() -> None:
    row = re.compile(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", re.MULTILINE)
    kept = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.*s")}
    assert dict(row.findall((VENDOR / "README.md").read_text())) == kept
    files = StaticFiles()
    assert files.url("htmx.min.js") == f"/admin/static/htmx.min.js?v={kept['htmx.min.js'][:12]}"
    assert files.get("../rendering.py") is None


class _Console:
    zone = ZoneInfo("Asia/Shanghai")
    renderer = Renderer(StaticFiles(), zone, lambda: datetime.now(UTC))
    behind_proxy = False


class _Context:
    """Sets the request ID, and on a console page the visitor, as the service's middleware does."""

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        request.context.request_id = "0"
        if request.path.startswith("/admin"):
            request.context.visitor = Visitor(None, "", "en", "auto")


class _Raising:
    def __init__(self, error: Callable[[], Exception]) -> None:
        self._error = error

    def on_get(self, _request: falcon.Request, _response: falcon.Response) -> None:
        raise self._error()

    on_post = on_get

    def enter(self, _address: str) -> None:
        raise self._error()


def client(error: Callable[[], Exception]) -> TestClient:
    app = falcon.App(middleware=[_Context()])
    problems.install(app)
    errors.install(app, cast("Any", _Console()))
    app.add_route("/admin/x", _Raising(error))
    app.add_route("/v1/x", _Raising(error))
    app.add_route("/card", OwnCardPage(cast("Any", _Console()), cast("Any", _Raising(error))))
    return TestClient(app)


def test_an_unhandled_error_is_a_page_and_elsewhere_a_problem() -> None:
    for error, status, said in (
        (lambda: TokenNotFoundError("shop"), 409, "token"),
        (lambda: RefusedError("不行", "no token shop"), 409, "no token shop"),
        (lambda: ValueError("oops"), 500, ""),
        (UnavailableError, 503, ""),
        (problems.unavailable, 503, ""),
    ):
        answer = client(error).simulate_get("/admin/x")
        assert (answer.status_code, answer.headers["content-type"][:9]) == (status, "text/html")
        assert (said in answer.text, "oops" in answer.text) == (True, False), said
        if said:
            assert client(error).simulate_get("/v1/x").json["code"] == "INTERNAL_ERROR"
            continue
        answer = client(error).simulate_get("/card", params={"lang": "en"})
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert ('role="alert"' in answer.text, "oops" in answer.text) == (True, False), status
    asked = client(problems.unavailable)
    assert 'href="/admin/x?lang=zh"' in asked.simulate_get("/admin/x").text
    assert "lang=zh" not in asked.simulate_post("/admin/x").text
