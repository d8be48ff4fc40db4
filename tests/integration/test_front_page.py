"""`/`, and errors below `/admin`, as a browser shows them."""

import base64
import hashlib
import re

import pytest

from app.domain.operators import Role
from tests.support.console import Browser, Seen, add_operator
from tests.support.console_scene import csrf_of
from tests.support.service import Service

ADD = "scripts/cardctl admin add NAME"
LONG = "application/json" + ";" * 500


def front(service: Service, **headers: str) -> Seen:
    seen = Browser(service, language="en").get("/", headers)
    assert (seen.status, seen.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "Licence server" in seen.words
    assert "卡密验证服务" in seen.words
    return seen


def test_a_browser_sees_what_this_server_is(service: Service) -> None:
    for accept in ["text/html,application/xhtml+xml,*/*;q=0.8", "*/*", "nonsense", LONG]:
        seen = front(service, Accept=accept)
        style = seen.text.partition("<style>")[2].partition("</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"style-src 'sha256-{digest}';" in seen.headers["content-security-policy"], accept
        assert not re.search(r"[0-9]+\.[0-9]+\.[0-9]", seen.words), "a version is of use to an attacker"


def test_who_asks_for_json_gets_the_problem_of_any_unknown_path(service: Service) -> None:
    for accept in ("application/json", "application/problem+json, text/html;q=0.5"):
        answer = service.request("GET", "/", headers={"Accept": accept})
        assert (answer.status, answer.body["code"]) == (404, "NOT_FOUND")
    assert service.request("HEAD", "/").status == 200
    assert service.request("POST", "/", b"{}").status == 405


def test_the_front_page_leads_to_the_console_once_there_is_an_operator(service: Service) -> None:
    seen = front(service)
    assert (ADD in seen.words, "/admin" in seen.text) == (True, False)
    add_operator("olga")
    seen = front(service)
    assert (ADD in seen.words, seen.text.count('href="/admin/"')) == (False, 2)


def test_behind_the_proxy_the_console_is_named_only_to_whom_the_proxy_says_so(proxied: Service) -> None:
    def tells(**headers: str) -> tuple[bool, bool]:
        seen = front(proxied, **{"X-Real-IP": "192.0.2.1"}, **headers)
        return "/admin" in seen.text, ADD in seen.words

    welcome, unwelcome = {"X-Kadun-Admin-Stranger": "0"}, {"X-Kadun-Admin-Stranger": "1"}
    assert [tells(**welcome), tells(**unwelcome), tells()] == [(False, True), (False, False), (False, False)]
    add_operator("olga")
    assert [tells(**welcome), tells(**unwelcome), tells()] == [(True, False), (False, False), (False, False)]


@pytest.mark.parametrize(("language", "title"), [("zh", "没有找到"), ("en", "Not found")])
def test_an_unknown_path_below_admin_is_a_page_of_the_console(service: Service, language: str, title: str) -> None:
    add_operator("olga")
    for path in ("/admin/nothing", "/admin/static/nothing.css", "/admin/cards/"):
        seen = Browser(service, language=language).get(path, {"Accept": "application/json"})
        assert (seen.status, title in seen.words, "/admin/static/console.css" in seen.text) == (404, True, True)
        assert seen.headers["content-security-policy"].startswith("default-src 'none'")
    assert service.request("GET", "/administrator").body["code"] == "NOT_FOUND"


def test_while_the_console_is_off_its_paths_say_how_to_open_it(service: Service) -> None:
    for path in ("/admin", "/admin/login", "/admin/nothing"):
        seen = Browser(service).get(path)
        assert (seen.status, ADD in seen.words, "stylesheet" in seen.text) == (404, True, False)


def test_errors_have_a_title_in_words_and_say_what_to_do(service: Service) -> None:
    add_operator("sam", Role.SELLER)
    for language, titles in (("zh", ("无权访问", "操作失败")), ("en", ("No access", "That did not work"))):
        sam = Browser(service, language=language).walk_in("sam")
        refused = sam.get("/admin/operators")
        assert (refused.status, titles[0] in refused.words, "Forbidden" in refused.text) == (403, True, False)
        assert ("ask an owner" if language == "en" else "请联系所有者") in refused.words
        csrf = csrf_of(sam.cookie("kadun_session") or "")
        wrong = sam.post("/admin/cards/issue", {"form_number": ""}, csrf=csrf)
        assert (wrong.status, titles[1] in wrong.words, "Bad Request" in wrong.text) == (400, True, False)
        assert ("Go back" if language == "en" else "请返回上一页") in wrong.words
        stale = sam.post("/admin/cards/issue", csrf="0" * 64)
        assert (stale.status, titles[1] in stale.words) == (403, True)
