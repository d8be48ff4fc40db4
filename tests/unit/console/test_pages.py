"""Parts of the console's pages: data of strangers or of the vendor's, and errors."""

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
from falcon.testing import TestClient

from app.console import errors, rendering, words
from app.console.cards.card import _chart
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
from app.services.shop.shop_tokens import TokenNotFoundError
from tests.support.tables import for_each

VENDOR = Path(rendering.__file__).parent / "static/vendor"
DAY = date(2026, 3, 1)


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


def test_control_and_bidirectional_characters_are_shown_escaped() -> None:
    assert rendering._harmless("a\u202eb\x1b") == "a\\u202eb\\x1b"  # noqa: SLF001
    assert str(rendering._lines(["<b>", "\u202e"])) == "&lt;b&gt;\n\\u202e"  # noqa: SLF001
    assert rendering.url("/admin", status=None, q="", batch="a b&c", page=0) == "/admin?batch=a+b%26c&page=0"


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


@for_each("error", [lambda: TokenNotFoundError("shop"), lambda: RefusedError("不行", "no token shop")])
def test_an_unhandled_refusal_is_a_conflict_with_its_reason_and_an_error_elsewhere(
    error: Callable[[], Exception],
) -> None:
    answer = client(error).simulate_get("/admin/x")
    assert answer.status_code == 409
    assert "no" in answer.text
    assert "token shop" in answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert client(error).simulate_get("/v1/x").json["code"] == "INTERNAL_ERROR"


def test_an_unexpected_error_is_a_page_and_one_of_a_post_has_no_link_to_the_other_language() -> None:
    answer = client(lambda: ValueError("oops")).simulate_get("/admin/x")
    assert (answer.status_code, "oops" in answer.text) == (500, False)
    asked = client(problems.unavailable)
    assert 'href="/admin/x?lang=zh"' in asked.simulate_get("/admin/x").text
    assert "lang=zh" not in asked.simulate_post("/admin/x").text


@for_each(
    ("error", "status"), [(lambda: ValueError("oops"), 500), (UnavailableError, 503), (problems.unavailable, 503)]
)
def test_a_customer_reads_of_a_failure_on_the_page(error: Callable[[], Exception], status: int) -> None:
    answer = client(error).simulate_get("/card", params={"lang": "en"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert 'role="alert"' in answer.text
    assert "oops" not in answer.text
