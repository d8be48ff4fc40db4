"""Requests that other sites forge (CSRF) are refused and change nothing."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from app.console.page import Access
from app.storage.database import Database
from app.storage.models import Operator, OperatorSession
from tests.support.console import Browser, add_operator
from tests.support.console_scene import Scene, address_of, csrf_of, paths, state
from tests.support.service import Service

FOREIGN = {
    "of a page of another site": {"Sec-Fetch-Site": "cross-site"},
    "of a page of a sister site": {"Sec-Fetch-Site": "same-site"},
    "of an older browser, from another site": {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
    "of a sandboxed frame": {"Sec-Fetch-Site": "", "Origin": "null"},
    "of a host that begins like ours": {"Sec-Fetch-Site": "", "Origin": "http://127.0.0.1.evil.example"},
    "of nonsense": {"Sec-Fetch-Site": "", "Origin": "http://[127.0.0.1"},
}


PLANTED = {
    "/admin/account/two-step": ("secret", "A" * 32),
    "/admin/operators": ("name", "mallory"),
    "/admin/settings": ("contact", "mallory"),
    "/admin/webhooks": ("url", "https://evil.example/"),
}


def touched_already() -> None:
    """Set the sessions' last use in the future: after a minute, requests would write it anew."""
    OperatorSession.update(last_seen_at=datetime.now(UTC) + timedelta(hours=1)).execute()


def test_forged_requests_of_other_sites_are_refused_and_change_nothing(
    scene: Scene, service: Service, database: Database
) -> None:
    victim, other = Browser(service).walk_in("olga"), Browser(service).walk_in("olga")
    own, others = (csrf_of(str(browser.cookie("kadun_session"))) for browser in (victim, other))
    touched_already()
    before = state(database)
    posts = {path: access["POST"] for path, access in paths().items() if "POST" in access}
    assert posts
    for path, needed in posts.items():
        form = scene.forms[path]
        for said, headers in FOREIGN.items():
            assert victim.post(path, form, csrf=own, headers=headers).status == 403, (path, said)
        if needed > Access.PUBLIC:
            for token in ("", others):
                assert victim.post(path, form, csrf=token).status == 403, path
            upload = victim.post(path, form, {"file": ("x.csv", b"id\n")}, csrf="")
            assert upload.status == (403 if path == "/admin/cards/import" else 415), path
    # Nobody may be logged in as somebody else without knowing (log-in CSRF), whether they are logged in or not.
    for browser in (victim, Browser(service)):
        for said, headers in FOREIGN.items():
            seen = browser.post("/admin/login", scene.forms["/admin/login"], csrf="", headers=headers)
            assert (seen.status, seen.cookies) == (403, ()), said
    assert [path for path, needed in posts.items() if needed is Access.PUBLIC] == ["/admin/login"]
    assert state(database) == before


def test_the_same_forms_are_taken_from_the_consoles_own_pages(scene: Scene, service: Service) -> None:
    """Or the test before this one would show nothing."""
    older = {"Sec-Fetch-Site": "", "Origin": f"https://127.0.0.1:{service.port}"}
    for path in ("/admin/cards/apply", "/admin/operator/role", "/admin/token", "/admin/cards/issue"):
        assert Browser(service).walk_in("olga").post(path, scene.forms[path], headers=older).status == 303, path
    assert Operator.get(Operator.name == "plain").role == "owner"


def test_a_get_changes_nothing_even_with_all_that_a_post_takes(
    scene: Scene, service: Service, database: Database
) -> None:
    owner = Browser(service).walk_in("olga")
    # The first view of a card in a day is journalled, and nothing else.
    owner.get(f"/admin/card?{urlencode(scene.queries['/admin/card'])}")
    touched_already()
    before = state(database)
    for path in paths():
        fields = {**scene.queries.get(path, {}), **scene.forms.get(path, {}), "_method": "POST"}
        fields["csrf"] = csrf_of(str(owner.cookie("kadun_session")))
        headers = {"X-HTTP-Method-Override": "POST", "Content-Type": "application/x-www-form-urlencoded"}
        for body in (None, urlencode(fields).encode()):
            seen = owner.send("GET", f"{address_of(path)}?{urlencode(fields)}", body, headers)
            assert seen.status in {200, 303, 400, 405}, path
    assert state(database) == before


def test_no_link_fills_in_a_form_about_who_comes_in_or_what_holds(service: Service) -> None:
    add_operator("olga")
    owner = Browser(service).walk_in("olga")
    for path, (name, text) in PLANTED.items():
        seen = owner.get(f"{path}?{urlencode({name: text})}")
        assert (seen.status, dict(seen.form(path).fields)[name] == text) == (200, False), path
