"""Unhandled errors of the console, and of customers' page, are pages."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

import falcon
from falcon.testing import TestClient

from app.console import errors
from app.console.own_card import OwnCardPage
from app.console.rendering import Renderer
from app.console.static_files import StaticFiles
from app.console.visitor import Visitor
from app.domain.errors import UnavailableError
from app.domain.texts import RefusedError
from app.http import problems
from app.services.shop_tokens import TokenNotFoundError
from tests.support.tables import for_each


class _Console:
    zone = ZoneInfo("Asia/Shanghai")
    renderer = Renderer(StaticFiles(), zone, lambda: datetime.now(UTC))
    behind_proxy = False


class _Context:
    """What middleware leaves for a page, or for what is none."""

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
