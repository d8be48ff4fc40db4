"""Who may do what in the console, what opens it, that every change is in the journal, and that forged requests (CSRF)
do nothing."""
# Owns console-access, console-forgery.

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pyotp
import pytest
from peewee import fn

from app.console.page import Access
from app.services.random_tokens import digest, new_token
from app.storage.database import Database
from app.storage.models import Card, Event, Figures, LoginFailure, Operator, OperatorSession
from tests.support.console.console import OWN, PASSWORD, Browser, Fields, Files, Seen, add_operator
from tests.support.console.console_scene import NEW_PASSWORD, STATIC, Scene, address_of, csrf_of, paths, state
from tests.support.services.service import Service
from tests.support.shop import Shop

LOGIN = "to the log-in"
GET, POST = "GET", "POST"
OTHER_METHODS = ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "ODD")

# By path and method, what an outsider, a seller and an owner get. 400 is a form that was let in and said too little.
ACCESS: dict[str, dict[str, tuple[int | str, int | str, int | str]]] = {
    "/admin": {GET: (303, 303, 303)},
    STATIC: {GET: (200, 200, 200)},
    "/admin/login": {GET: (200, 303, 303), POST: (303, 303, 303)},
    "/admin/logout": {POST: (LOGIN, LOGIN, LOGIN)},
    "/admin/": {GET: (LOGIN, 200, 200)},
    "/admin/journal": {GET: (LOGIN, 200, 200)},
    "/admin/journal/export": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 200)},
    "/admin/sharing": {GET: (LOGIN, 200, 200)},
    "/admin/usage": {GET: (LOGIN, 200, 200)},
    "/admin/account": {GET: (LOGIN, 200, 200)},
    "/admin/account/password": {GET: (LOGIN, 303, 303), POST: (LOGIN, 400, 400)},
    "/admin/account/sessions": {GET: (LOGIN, 303, 303), POST: (LOGIN, 303, 303)},
    "/admin/account/two-step": {GET: (LOGIN, 200, 200), POST: (LOGIN, 400, 400)},
    "/admin/account/two-step/remove": {GET: (LOGIN, 303, 303), POST: (LOGIN, 400, 400)},
    "/admin/operators": {GET: (LOGIN, 403, 200), POST: (LOGIN, 403, 400)},
    "/admin/operator": {GET: (LOGIN, 403, 200)},
    "/admin/operator/role": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 400)},
    "/admin/operator/ceilings": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 400)},
    "/admin/operator/password": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 400)},
    "/admin/operator/two-step": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 400)},
    "/admin/operator/remove": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 400)},
    "/admin/token": {GET: (LOGIN, 403, 200), POST: (LOGIN, 403, 400)},
    "/admin/webhooks": {GET: (LOGIN, 403, 200), POST: (LOGIN, 403, 400)},
    "/admin/webhook": {GET: (LOGIN, 403, 200)},
    "/admin/webhook/again": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 303)},
    "/admin/webhook/pause": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 400)},
    "/admin/webhook/remove": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 400)},
    "/admin/webhook/resume": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 303)},
    "/admin/webhook/secret": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 400)},
    "/admin/webhook/test": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 303)},
    "/admin/settings": {GET: (LOGIN, 403, 200), POST: (LOGIN, 403, 400)},
    "/admin/programs": {GET: (LOGIN, 403, 200), POST: (LOGIN, 403, 303)},
    "/admin/programs/seal": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 400)},
    "/admin/program": {GET: (LOGIN, 403, 200), POST: (LOGIN, 403, 303)},
    "/admin/program/keys": {GET: (LOGIN, 403, 200)},
    "/admin/program/remove": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 303)},
    "/admin/blocks": {GET: (LOGIN, 403, 200)},
    "/admin/blocks/add": {GET: (LOGIN, 403, 200), POST: (LOGIN, 403, 303)},
    "/admin/blocks/remove": {GET: (LOGIN, 403, 200), POST: (LOGIN, 403, 303)},
    "/admin/files": {GET: (LOGIN, 403, 200)},
    "/admin/functions": {GET: (LOGIN, 403, 200)},
    "/admin/keys": {GET: (LOGIN, 403, 200)},
    "/admin/health": {GET: (LOGIN, 403, 200)},
    "/admin/cards": {GET: (LOGIN, 200, 200)},
    "/admin/cards/confirm": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 200)},
    "/admin/cards/apply": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 303)},
    "/admin/cards/edit": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 200)},
    "/admin/cards/edit/apply": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 303)},
    "/admin/cards/done": {GET: (LOGIN, 403, 200)},
    "/admin/cards/export": {GET: (LOGIN, 403, 303), POST: (LOGIN, 403, 200)},
    # A file is for the batch of the form, whose cards are not a seller's to issue; and a seller sees their own issues.
    "/admin/cards/issue": {GET: (LOGIN, 200, 200), POST: (LOGIN, 400, 303)},
    "/admin/cards/issued": {GET: (LOGIN, 404, 200), POST: (LOGIN, 404, 200)},
    "/admin/cards/import": {GET: (LOGIN, 403, 200), POST: (LOGIN, 403, 400)},
    "/admin/card": {GET: (LOGIN, 200, 200)},
    "/admin/card/move": {GET: (LOGIN, 403, 200), POST: (LOGIN, 403, 303)},
    "/admin/refusal": {GET: (LOGIN, 200, 200)},
}


CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def has_the_security_headers(seen: Seen) -> bool:
    said = seen.headers
    kept = "public, max-age=31536000, immutable" if "/static/" in seen.path and seen.status == 200 else "no-store"
    return (
        said["content-security-policy"] == CONTENT_SECURITY_POLICY
        and (said["x-content-type-options"], said["x-frame-options"]) == ("nosniff", "DENY")
        and said["referrer-policy"] == "same-origin"
        and said["cross-origin-opener-policy"] == said["cross-origin-resource-policy"] == "same-origin"
        and said["cache-control"] == kept
        and not [name for name in said if name.startswith("access-control")]
    )


def ask(browser: Browser, scene: Scene, method: str, path: str, **headers: str) -> Seen:
    """Send what means something to the route; a POST with the session's own token."""
    address = address_of(path)
    if method != "POST":
        query = scene.queries.get(path)
        return browser.send(method, f"{address}?{urlencode(query)}" if query else address, headers=headers)
    form = {**scene.forms[path], **({"name": "olga"} if path.startswith("/admin/operator/") else {})}
    # The forms that would change who may come in say too little: whoever is let in is told so.
    for name in ("new_password_again", "own_password", "role"):
        form = {**form, **({name: ""} if name in form else {})}
    return browser.post(address, form, csrf=csrf_of(browser.cookie("kadun_session") or ""), headers=headers)


def test_the_matrix_has_every_route_and_no_other() -> None:
    assert {path: {*of} for path, of in ACCESS.items()} == {path: {*access} for path, access in paths().items()}


@pytest.mark.parametrize("who", ["outsider", "sam", "olga"])
def test_outsiders_sellers_and_owners_get_what_the_matrix_says(scene: Scene, service: Service, who: str) -> None:
    wrong = []
    for method, path, expected in ((method, path, of[method]) for path, of in ACCESS.items() for method in of):
        LoginFailure.delete().execute()  # so many forms ask for a password, and get none
        browser = Browser(service) if who == "outsider" else Browser(service).walk_in(who)
        seen = ask(browser, scene, method, path)
        said = LOGIN if seen.headers.get("location", "").startswith("/admin/login") else seen.status
        wanted = expected[["outsider", "sam", "olga"].index(who)]
        if said != wanted or not has_the_security_headers(seen):
            wrong.append((method, path, said, wanted))
    assert not wrong


def test_no_other_method_is_answered_whoever_asks(scene: Scene, service: Service) -> None:
    both = Browser(service), Browser(service).walk_in("olga")
    for path, access in paths().items():
        for browser in both:
            for method in {*OTHER_METHODS, "GET", "POST"} - access.keys():
                seen = browser.send(method, address_of(path), headers={"Content-Length": "0"})
                assert seen.status == 405, (method, path)
                assert has_the_security_headers(seen)
                assert sorted(seen.headers["allow"].split(", ")) == sorted(access), (method, path)


def test_without_an_operator_the_console_is_not_there(service: Service) -> None:
    def looks(address: str, method: str) -> tuple[int, dict[str, str], str]:
        body = b"name=olga" if method == "POST" else None
        kind = {"Content-Type": "application/x-www-form-urlencoded", "HX-Request": "true"}
        seen = Browser(service, language="en").send(method, address, body, kind)
        own = seen.headers.pop("x-request-id"), seen.headers.pop("date")
        return seen.status, seen.headers, seen.text.replace(own[0], "")

    for method in ("GET", "POST", *OTHER_METHODS):
        unknown = looks("/admin/nothing/here?lang=en", method)
        assert unknown[0] == 404
        for path in paths():
            assert looks(f"{address_of(path)}?lang=en", method) == unknown, (method, path)


def test_every_change_is_in_the_journal_with_who_made_it(scene: Scene, service: Service, database: Database) -> None:
    # The others want the program, the webhook, the operator and the password.
    at_last = ["/admin/program/remove", "/admin/webhook/remove", "/admin/operator/remove", "/admin/account/password"]
    posts = sorted({path for path, access in paths().items() if "POST" in access} - {*at_last}) + at_last
    changing, silent = set(), []
    for path in posts:
        olga = Browser(service).walk_in("olga")
        Browser(service).walk_in("olga")  # and once more elsewhere
        form, files = full_form(scene, path)
        before, newest = state(database), Event.select(fn.MAX(Event.id)).scalar()
        assert olga.post(path, form, files).status in {200, 303}, path
        if state(database) != before:
            changing.add(path)
            if not Event.select().where((Event.id > newest) & (Event.actor == "console:olga")).exists():
                silent.append(path)
    assert not silent
    assert changing == {*posts} - {"/admin/cards/confirm", "/admin/cards/edit", "/admin/programs/seal"}


def full_form(scene: Scene, path: str) -> tuple[Fields, Files]:
    """A form that takes effect, and the files with it."""
    secret, now = "A" * 32, datetime.now(UTC)
    form, files = {**scene.forms[path]}, {}
    if path == "/admin/account/two-step":
        form |= {"secret": secret, "code": pyotp.TOTP(secret).at(now)}
    elif path == "/admin/account/two-step/remove":
        form |= {"own_code": pyotp.TOTP(secret).at(now, counter_offset=1)}  # the present one was taken
    elif path == "/admin/operators":
        form |= {"name": "anna"}  # the password has the scene's name in it
    elif path == "/admin/operator/two-step":
        Operator.update(totp_secret=secret).where(Operator.name == form["name"]).execute()
    elif path == "/admin/cards/import":
        content = b"id,validity\n" + b"7" * 32 + b",30d\n"
        form |= {"step": "import", "seen": hashlib.sha256(content + b"\nmain").hexdigest()}
        files = {"file": ("old.csv", content)}
    elif path == "/admin/programs/seal":
        files = {"file": ("core.dat", b"core")}
    return form, files


def test_what_is_refused_or_fails_has_the_security_headers_too(scene: Scene, service: Service) -> None:
    owner, outsider = Browser(service).walk_in("olga"), Browser(service)
    wrong = {"name": "nobody", "password": "wrong"}
    answers = [
        (204, outsider.get("/admin/cards?status=odd", {"HX-Request": "true"})),
        (400, owner.get("/admin/cards?status=odd")),
        (403, owner.post("/admin/logout", csrf="")),
        (404, owner.get("/admin/static/odd.css")),
        (413, owner.post("/admin/cards/apply", {"id": "x" * 300_000})),
        (415, owner.send("POST", "/admin/logout", b"x", {"Content-Type": "text/odd"})),
        (403, outsider.post("/admin/login", wrong, csrf="")),
    ]
    LoginFailure.update(failures=99).execute()
    answers.append((429, outsider.post("/admin/login", wrong, csrf="")))
    assert int(answers[-1][1].headers["retry-after"]) > 0
    Figures.delete().execute()
    # Figures that took long to count are shown as they are; these have nothing in them.
    Figures.insert(counted_at=datetime.now(UTC), seconds=9, document={}).execute()
    answers.append((500, Browser(service, foreseen=False).walk_in("olga").get("/admin/")))
    assert answers[0][1].headers["hx-redirect"] == "/admin/login?next=%2Fadmin%2Fcards%3Fstatus%3Dodd"
    for status, seen in answers:
        assert (seen.status, has_the_security_headers(seen)) == (status, True), seen.path


FOREIGN = {
    "of a page of another site": {"Sec-Fetch-Site": "cross-site"},
    "of a page of a sister site": {"Sec-Fetch-Site": "same-site"},
    "of an older browser, from another site": {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
    "of a sandboxed frame": {"Sec-Fetch-Site": "", "Origin": "null"},
    "of a host that begins like ours": {"Sec-Fetch-Site": "", "Origin": "http://127.0.0.1.evil.example"},
    "of nonsense": {"Sec-Fetch-Site": "", "Origin": "http://[127.0.0.1"},
}


def touched_already() -> None:
    """Set the sessions' last use in the future: after a minute, requests would write it anew."""
    OperatorSession.update(last_seen_at=datetime.now(UTC) + timedelta(hours=1)).execute()


def test_requests_of_other_sites_are_refused_and_do_nothing(scene: Scene, service: Service, database: Database) -> None:
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
            assert upload.status == (403 if path in {"/admin/cards/import", "/admin/programs/seal"} else 415), path
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


def test_a_get_changes_nothing_even_with_all_of_a_post(scene: Scene, service: Service, database: Database) -> None:
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
    for path, name, text in (
        ("/admin/account/two-step", "secret", "A" * 32),
        ("/admin/operators", "name", "mallory"),
        ("/admin/settings", "contact", "mallory"),
        ("/admin/webhooks", "url", "https://evil.example/"),
    ):
        seen = owner.get(f"{path}?{urlencode({name: text})}")
        assert (seen.status, dict(seen.form(path).fields)[name] == text) == (200, False), path


NEW = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}


def changed_by_owner(action: str, **fields: str) -> Callable[[Browser, Browser], Seen]:
    return lambda _victim, owner: owner.post(f"/admin/operator/{action}", {"name": "sam", **OWN, **fields})


ENDS: dict[str, Callable[[Browser, Browser], object]] = {
    "log-out": lambda victim, _: victim.post("/admin/logout"),
    "own password": lambda victim, _: victim.post("/admin/account/password", {"own_password": PASSWORD, **NEW}),
    "another's password": changed_by_owner("password", **NEW),
    "lost phone": changed_by_owner("two-step"),
    "removal": changed_by_owner("remove"),
    "ended elsewhere": lambda victim, _: Browser(victim.service).walk_in("sam").post("/admin/account/sessions"),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_stolen_session_ends_when_its_owners_does(scene: Scene, service: Service, how: str) -> None:
    victim, owner, thief = Browser(service).walk_in("sam"), Browser(service).walk_in("olga"), Browser(service)
    thief.set_cookie("kadun_session", str(victim.cookie("kadun_session")))
    assert thief.get("/admin/cards").status == 200
    token = thief.csrf()
    ENDS[how](victim, owner)
    assert thief.get("/admin/cards").headers["location"] == "/admin/login?next=%2Fadmin%2Fcards"
    seen = thief.post("/admin/cards/issue", scene.forms["/admin/cards/issue"], csrf=token)
    assert seen.headers["location"].startswith("/admin/login?ended=yes&next=%2Fadmin%2Fcards%2Fissue")
    assert Card.select().where(Card.note == "plain").count() == 3, "nothing was issued"


def test_a_demoted_owner_loses_their_rights_at_once_and_keeps_their_session(scene: Scene, service: Service) -> None:
    add_operator("otto")
    otto, owner = Browser(service).walk_in("otto"), Browser(service).walk_in("olga")
    form = {**scene.forms["/admin/cards/apply"]}
    assert otto.get("/admin/operators").status == 200
    token = otto.csrf()
    said = {"name": "otto", "role": "seller", "own_password": PASSWORD}
    assert owner.post("/admin/operator/role", said).status == 303
    assert otto.get("/admin/operators").status == 403
    assert otto.post("/admin/cards/apply", form, csrf=token).status == 403
    assert otto.get("/admin/cards").status == 200


def test_no_other_token_is_a_session(scene: Scene, service: Service, database: Database) -> None:
    victim, shops = Browser(service).log_in("olga"), Shop(service, database).token
    session = str(victim.cookie("kadun_session"))
    of_others = (new_token(), shops, digest(session), csrf_of(session))
    for token in (*of_others, session[:-1], session + "=", "", "*"):
        browser = Browser(service)
        browser.set_cookie("kadun_session", token)
        assert browser.get("/admin/cards", {"Authorization": f"Bearer {shops}"}).status == 303, token


def test_a_log_in_replaces_a_planted_session(scene: Scene, service: Service) -> None:
    attacker, elsewhere = Browser(service).walk_in("sam"), Browser(service).walk_in("sam")
    for planted in ("planted", str(attacker.cookie("kadun_session"))):
        victim = Browser(service)
        victim.set_cookie("kadun_session", planted)
        # The page was shown without the cookie: in another tab before the log-in, or by a link in a mail.
        page = Browser(service).get("/admin/login")
        assert victim.submit(page, "/admin/login", name="olga", password=PASSWORD).status == 200
        assert victim.cookie("kadun_session") != planted
        assert victim.get("/admin/operators").status == 200
        attacker.set_cookie("kadun_session", planted)
        assert attacker.get("/admin/account").status == 303
    assert elsewhere.get("/admin/account").status == 200


def test_cookies_are_for_the_console_over_https_only(scene: Scene, service: Service) -> None:
    browser = Browser(service)
    seen = browser.post("/admin/login", scene.forms["/admin/login"], csrf="")
    assert seen.status == 303
    (line,) = seen.cookies
    assert re.fullmatch(r"kadun_session=[\w-]{43}; HttpOnly; Path=/admin; SameSite=Strict; Secure", line)
    (line,) = browser.get("/admin/cards?lang=en").cookies
    assert line == "kadun_language=en; HttpOnly; Max-Age=31536000; Path=/admin; SameSite=Strict; Secure"
    (line,) = browser.post("/admin/logout").cookies
    assert line.startswith('kadun_session=""; ')
    assert "Path=/admin;" in line


def test_behind_the_proxy_neither_host_nor_plain_http_plants_a_session(proxied: Service, database: Database) -> None:
    add_operator("olga")
    browser = Browser(proxied, address="192.0.2.1")
    (line,) = browser.post("/admin/login", {"name": "olga", "password": PASSWORD}, csrf="").cookies
    assert re.fullmatch(r"__Host-kadun_session=[\w-]{43}; HttpOnly; Path=/; SameSite=Strict; Secure", line)
    token = str(browser.cookie("__Host-kadun_session"))
    assert browser.get("/admin/cards").status == 200
    planted = Browser(proxied, address="192.0.2.1")
    planted.set_cookie("kadun_session", token)
    assert planted.get("/admin/cards").status == 303
    assert browser.post("/admin/logout").cookies[0].startswith('__Host-kadun_session=""; ')


def test_nginx_is_told_whether_a_request_has_a_session(scene: Scene, service: Service) -> None:
    seller, outsider = (Browser(service, foreseen=False) for _ in range(2))
    seller.walk_in("sam")
    assert seller.get("/admin/session").status == 204
    assert outsider.get("/admin/session").status == 401
    outsider.set_cookie("kadun_session", "planted")
    seen = outsider.get("/admin/session")
    assert (seen.status, seen.text) == (401, "")


NOTHING_DONE = "提交的内容没有执行"


def test_a_form_sent_late_does_nothing_and_the_log_in_leads_back_to_its_page(olga: Browser) -> None:
    page = olga.get("/admin/cards/issue?lang=zh")
    OperatorSession.delete().execute()
    ended = olga.submit(page, "/admin/cards/issue", count="7", note="淘宝 <张>")
    assert (ended.status, NOTHING_DONE in ended.words) == (200, True)
    wrong = olga.submit(ended, "/admin/login", name="olga", password="wrong", code="")
    assert (wrong.status, NOTHING_DONE in wrong.words) == (403, True)
    (english,) = [link for link in wrong.links if "lang=en" in link]
    back = olga.submit(olga.get(english), "/admin/login", name="olga", password=PASSWORD, code="")
    assert (back.status, back.path.partition("?")[0], "淘宝" in back.text) == (200, "/admin/cards/issue", False)
    assert Card.select().count() == 0
    assert olga.follow(olga.post("/admin/logout")).path == "/admin/login", "a log-out says nothing"
