"""Access to the console: roles, sessions, CSRF, security headers."""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlencode

import pyotp
import pytest
from peewee import fn

from app.console.page import Access
from app.domain.operators import Role
from app.services.bearer import digest, new_token
from app.storage.database import Database
from app.storage.models import Card, Event, Figures, LoginFailure, Operator
from tests.support.console import OWN, PASSWORD, Browser, Fields, Files, Seen, add_operator
from tests.support.console_scene import NEW_PASSWORD, STATIC, Scene, address_of, csrf_of, furnish, paths, state
from tests.support.service import Service
from tests.support.shop import Shop

LOGIN = "to the log-in"
OTHER_METHODS = ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "ODD")

# Method and path; what an outsider, a seller and an owner get. 400 is a form that was let in and said too little.
MATRIX: dict[tuple[str, str], tuple[int | str, int | str, int | str]] = {
    ("GET", "/admin"): (303, 303, 303),
    ("GET", STATIC): (200, 200, 200),
    ("GET", "/admin/login"): (200, 303, 303),
    ("POST", "/admin/login"): (303, 303, 303),
    ("POST", "/admin/logout"): (LOGIN, LOGIN, LOGIN),
    ("GET", "/admin/"): (LOGIN, 200, 200),
    ("GET", "/admin/journal"): (LOGIN, 200, 200),
    ("GET", "/admin/journal/export"): (LOGIN, 403, 303),
    ("POST", "/admin/journal/export"): (LOGIN, 403, 200),
    ("GET", "/admin/sharing"): (LOGIN, 200, 200),
    ("GET", "/admin/usage"): (LOGIN, 200, 200),
    ("GET", "/admin/account"): (LOGIN, 200, 200),
    ("GET", "/admin/account/password"): (LOGIN, 303, 303),
    ("POST", "/admin/account/password"): (LOGIN, 400, 400),
    ("GET", "/admin/account/sessions"): (LOGIN, 303, 303),
    ("POST", "/admin/account/sessions"): (LOGIN, 303, 303),
    ("GET", "/admin/account/log-ins"): (LOGIN, 200, 200),
    ("GET", "/admin/account/two-step/codes"): (LOGIN, 303, 303),
    ("POST", "/admin/account/two-step/codes"): (LOGIN, 400, 400),
    ("GET", "/admin/account/two-step"): (LOGIN, 200, 200),
    ("POST", "/admin/account/two-step"): (LOGIN, 400, 400),
    ("GET", "/admin/account/two-step/remove"): (LOGIN, 303, 303),
    ("POST", "/admin/account/two-step/remove"): (LOGIN, 400, 400),
    ("GET", "/admin/operators"): (LOGIN, 403, 200),
    ("POST", "/admin/operators"): (LOGIN, 403, 400),
    ("GET", "/admin/operator"): (LOGIN, 403, 200),
    ("GET", "/admin/operator/role"): (LOGIN, 403, 303),
    ("POST", "/admin/operator/role"): (LOGIN, 403, 400),
    ("GET", "/admin/operator/ceilings"): (LOGIN, 403, 303),
    ("POST", "/admin/operator/ceilings"): (LOGIN, 403, 400),
    ("GET", "/admin/operator/password"): (LOGIN, 403, 303),
    ("POST", "/admin/operator/password"): (LOGIN, 403, 400),
    ("GET", "/admin/operator/two-step"): (LOGIN, 403, 303),
    ("POST", "/admin/operator/two-step"): (LOGIN, 403, 400),
    ("GET", "/admin/operator/remove"): (LOGIN, 403, 303),
    ("POST", "/admin/operator/remove"): (LOGIN, 403, 400),
    ("GET", "/admin/token"): (LOGIN, 403, 200),
    ("POST", "/admin/token"): (LOGIN, 403, 400),
    ("GET", "/admin/webhooks"): (LOGIN, 403, 200),
    ("POST", "/admin/webhooks"): (LOGIN, 403, 400),
    ("GET", "/admin/webhook"): (LOGIN, 403, 200),
    ("GET", "/admin/webhook/again"): (LOGIN, 403, 303),
    ("POST", "/admin/webhook/again"): (LOGIN, 403, 303),
    ("GET", "/admin/webhook/pause"): (LOGIN, 403, 303),
    ("POST", "/admin/webhook/pause"): (LOGIN, 403, 303),
    ("GET", "/admin/webhook/remove"): (LOGIN, 403, 303),
    ("POST", "/admin/webhook/remove"): (LOGIN, 403, 400),
    ("GET", "/admin/webhook/resume"): (LOGIN, 403, 303),
    ("POST", "/admin/webhook/resume"): (LOGIN, 403, 303),
    ("GET", "/admin/webhook/secret"): (LOGIN, 403, 303),
    ("POST", "/admin/webhook/secret"): (LOGIN, 403, 400),
    ("GET", "/admin/webhook/test"): (LOGIN, 403, 303),
    ("POST", "/admin/webhook/test"): (LOGIN, 403, 303),
    ("GET", "/admin/files"): (LOGIN, 403, 200),
    ("GET", "/admin/functions"): (LOGIN, 403, 200),
    ("GET", "/admin/keys"): (LOGIN, 403, 200),
    ("GET", "/admin/health"): (LOGIN, 403, 200),
    ("GET", "/admin/cards"): (LOGIN, 200, 200),
    ("GET", "/admin/cards/confirm"): (LOGIN, 403, 303),
    ("POST", "/admin/cards/confirm"): (LOGIN, 403, 200),
    ("GET", "/admin/cards/apply"): (LOGIN, 403, 303),
    ("POST", "/admin/cards/apply"): (LOGIN, 403, 303),
    ("GET", "/admin/cards/edit"): (LOGIN, 403, 303),
    ("POST", "/admin/cards/edit"): (LOGIN, 403, 200),
    ("GET", "/admin/cards/edit/apply"): (LOGIN, 403, 303),
    ("POST", "/admin/cards/edit/apply"): (LOGIN, 403, 303),
    ("GET", "/admin/cards/done"): (LOGIN, 403, 200),
    ("GET", "/admin/cards/export"): (LOGIN, 403, 303),
    ("POST", "/admin/cards/export"): (LOGIN, 403, 200),
    ("GET", "/admin/cards/issue"): (LOGIN, 200, 200),
    ("POST", "/admin/cards/issue"): (LOGIN, 303, 303),
    ("GET", "/admin/cards/issued"): (LOGIN, 404, 200),  # a seller sees what they issued themselves
    ("POST", "/admin/cards/issued"): (LOGIN, 404, 200),
    ("GET", "/admin/cards/import"): (LOGIN, 403, 200),
    ("GET", "/admin/cards/import/template"): (LOGIN, 403, 200),
    ("POST", "/admin/cards/import"): (LOGIN, 403, 400),
    ("GET", "/admin/card"): (LOGIN, 200, 200),
    ("GET", "/admin/card/move"): (LOGIN, 403, 200),
    ("POST", "/admin/card/move"): (LOGIN, 403, 303),
    ("GET", "/admin/refusal"): (LOGIN, 200, 200),
}


CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


@pytest.fixture
def scene(service: Service, database: Database) -> Scene:
    """Olga owns, Sam sells, and there is a little of everything."""
    add_operator("olga")
    add_operator("sam", Role.SELLER)
    return furnish(["plain"])


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


# --- the matrix


def test_the_matrix_has_every_route_and_no_other() -> None:
    assert set(MATRIX) == {(method, path) for path, access in paths().items() for method in access}


@pytest.mark.parametrize("who", ["outsider", "sam", "olga"])
def test_outsiders_sellers_and_owners_get_what_the_matrix_says(scene: Scene, service: Service, who: str) -> None:
    wrong = []
    for (method, path), expected in MATRIX.items():
        LoginFailure.delete().execute()  # so many forms ask for a password, and get none
        browser = Browser(service) if who == "outsider" else Browser(service).walk_in(who)
        seen = ask(browser, scene, method, path)
        said = LOGIN if seen.headers.get("location", "").startswith("/admin/login") else seen.status
        wanted = expected[["outsider", "sam", "olga"].index(who)]
        if said != wanted:
            wrong.append((method, path, said, wanted))
    assert not wrong


def test_no_other_method_is_answered_whoever_asks(scene: Scene, service: Service) -> None:
    for path, access in paths().items():
        for browser in (Browser(service), Browser(service).walk_in("olga")):
            for method in {*OTHER_METHODS, "GET", "POST"} - access.keys():
                seen = browser.send(method, address_of(path), headers={"Content-Length": "0"})
                assert seen.status == 405, (method, path)
                assert sorted(seen.headers["allow"].split(", ")) == sorted(access), (method, path)


def test_htmx_is_redirected_to_the_log_in_as_a_whole_page(scene: Scene, service: Service) -> None:
    seen = ask(Browser(service), scene, "GET", "/admin/", **{"HX-Request": "true"})
    assert (seen.status, seen.content, seen.headers["hx-redirect"]) == (
        204,
        b"",
        "/admin/login?next=%2Fadmin%2F%3Fstamp%3D",
    )


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


# --- every change is in the journal


def test_every_change_is_in_the_journal_with_who_made_it(scene: Scene, service: Service, database: Database) -> None:
    # The others want the webhook, the operator and the password.
    at_last = ["/admin/webhook/remove", "/admin/operator/remove", "/admin/account/password"]
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
    assert changing == {*posts} - {"/admin/cards/confirm", "/admin/cards/edit"}


def full_form(scene: Scene, path: str) -> tuple[Fields, Files]:
    """A form that takes effect, and the files with it."""
    secret, now = "A" * 32, datetime.now(UTC)
    form, files = {**scene.forms[path]}, {}
    if path == "/admin/account/two-step":
        form |= {"secret": secret, "code": pyotp.TOTP(secret).at(now)}
    elif path == "/admin/account/two-step/codes":
        Operator.update(totp_last_step=None).where(Operator.name == "olga").execute()
        form |= {"own_code": pyotp.TOTP(secret).at(now)}
    elif path == "/admin/account/two-step/remove":
        form |= {"own_code": pyotp.TOTP(secret).at(now, counter_offset=1)}  # the present one was taken
    elif path == "/admin/operators":
        form |= {"name": "anna"}  # the password has the scene's name in it
    elif path == "/admin/operator/two-step":
        Operator.update(totp_secret=secret).where(Operator.name == form["name"]).execute()
    elif path == "/admin/cards/import":
        content = b"id,validity\n" + b"7" * 32 + b",30d\n"
        form |= {"step": "import", "seen": hashlib.sha256(content).hexdigest()}
        files = {"file": ("old.csv", content)}
    return form, files


# --- sessions


def changed_by_owner(action: str, **fields: str) -> Callable[[Browser, Browser], Seen]:
    said = {"name": "sam", "own_password": PASSWORD, **fields}
    return lambda _victim, owner: owner.post(f"/admin/operator/{action}", said)


NEW = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
ENDS: dict[str, Callable[[Browser, Browser], object]] = {
    "log-out": lambda victim, _: victim.post("/admin/logout"),
    "own password": lambda victim, _: victim.post("/admin/account/password", {"own_password": PASSWORD, **NEW}),
    "another's password": changed_by_owner("password", **NEW),
    "lost phone": changed_by_owner("two-step"),
    "removal": changed_by_owner("remove"),
    "ended elsewhere": lambda victim, _: Browser.post(elsewhere_of(victim), "/admin/account/sessions"),
}


def elsewhere_of(browser: Browser) -> Browser:
    return Browser(browser.service).walk_in("sam")


@pytest.mark.parametrize("how", ENDS)
def test_a_stolen_session_ends_when_its_owners_does(scene: Scene, service: Service, how: str) -> None:
    victim, owner, thief = Browser(service).walk_in("sam"), Browser(service).walk_in("olga"), Browser(service)
    thief.set_cookie("kadun_session", str(victim.cookie("kadun_session")))
    assert thief.get("/admin/cards").status == 200
    token = thief.csrf()
    ENDS[how](victim, owner)
    assert thief.get("/admin/cards").headers["location"] == "/admin/login?next=%2Fadmin%2Fcards"
    seen = thief.post("/admin/cards/issue", scene.forms["/admin/cards/issue"], csrf=token)
    assert seen.headers["location"] == "/admin/login"
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
    session, device = str(victim.cookie("kadun_session")), str(victim.cookie("kadun_device"))
    of_others = (new_token(), shops, device, digest(session), csrf_of(session))
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
        assert (
            victim.submit(Browser(service).get("/admin/login"), "/admin/login", name="olga", password=PASSWORD).status
            == 200
        )
        assert victim.cookie("kadun_session") != planted
        assert victim.get("/admin/operators").status == 200
        attacker.set_cookie("kadun_session", planted)
        assert attacker.get("/admin/account").status == 303
    assert elsewhere.get("/admin/account").status == 200
    first, second = (Browser(service).log_in("olga").cookie("kadun_session") for _ in range(2))
    assert first != second, "each log-in has a session of its own"


def test_cookies_are_for_the_console_over_https_only(scene: Scene, service: Service) -> None:
    browser = Browser(service)
    seen = browser.post("/admin/login", scene.forms["/admin/login"], csrf="")
    assert seen.status == 303
    lines = {line.partition("=")[0]: line for line in seen.cookies}
    assert set(lines) == {"kadun_session", "kadun_device"}
    same = r"HttpOnly; {}Path={}; SameSite=Strict; Secure"
    assert re.fullmatch(r"kadun_session=[\w-]{43}; " + same.format("", "/admin"), lines["kadun_session"])
    assert re.fullmatch(
        r"kadun_device=[\w-]{43}; " + same.format("Max-Age=34560000; ", "/admin/login"), lines["kadun_device"]
    )
    (line,) = browser.get("/admin/cards?lang=en").cookies
    assert line == "kadun_language=en; HttpOnly; Max-Age=31536000; Path=/admin; SameSite=Strict; Secure"
    (line,) = browser.post("/admin/logout").cookies
    assert line.startswith('kadun_session=""; ')
    assert "Path=/admin;" in line


def test_behind_the_proxy_no_other_host_and_no_plain_http_can_plant_a_session(
    proxied: Service, database: Database
) -> None:
    add_operator("olga")
    browser = Browser(proxied, address="192.0.2.1")
    lines = browser.post("/admin/login", {"name": "olga", "password": PASSWORD}, csrf="").cookies
    (line,) = (line for line in lines if "session" in line)
    assert re.fullmatch(r"__Host-kadun_session=[\w-]{43}; HttpOnly; Path=/; SameSite=Strict; Secure", line)
    token = str(browser.cookie("__Host-kadun_session"))
    assert browser.get("/admin/cards").status == 200
    planted = Browser(proxied, address="192.0.2.1")
    planted.set_cookie("kadun_session", token)
    assert planted.get("/admin/cards").status == 303
    (line,) = browser.post("/admin/logout").cookies
    assert (
        line
        == '__Host-kadun_session=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Path=/; SameSite=Strict; Secure'
    )
    assert browser.cookie("__Host-kadun_session") is None


def test_nginx_is_told_whether_a_request_has_a_session(scene: Scene, service: Service) -> None:
    seller, outsider = (Browser(service, foreseen=False) for _ in range(2))
    seller.walk_in("sam")
    assert seller.get("/admin/session").status == 204
    assert outsider.get("/admin/session").status == 401
    outsider.set_cookie("kadun_session", "planted")
    seen = outsider.get("/admin/session")
    assert (seen.status, seen.text) == (401, "")


# --- meant by whoever is logged in

FOREIGN = {
    "of a page of another site": {"Sec-Fetch-Site": "cross-site"},
    "of a page of a sister site": {"Sec-Fetch-Site": "same-site"},
    "of an older browser, from another site": {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
    "of a sandboxed frame": {"Sec-Fetch-Site": "", "Origin": "null"},
    "of a host that begins like ours": {"Sec-Fetch-Site": "", "Origin": "http://127.0.0.1.evil.example"},
    "of nonsense": {"Sec-Fetch-Site": "", "Origin": "http://[127.0.0.1"},
}


def test_forged_requests_of_other_sites_are_refused_and_change_nothing(
    scene: Scene, service: Service, database: Database
) -> None:
    victim, other = Browser(service).walk_in("olga"), Browser(service).walk_in("olga")
    own, others = (csrf_of(str(browser.cookie("kadun_session"))) for browser in (victim, other))
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
    before = state(database)
    for path in paths():
        fields = {**scene.queries.get(path, {}), **scene.forms.get(path, {}), "_method": "POST"}
        fields["csrf"] = csrf_of(str(owner.cookie("kadun_session")))
        headers = {"X-HTTP-Method-Override": "POST", "Content-Type": "application/x-www-form-urlencoded"}
        for body in (None, urlencode(fields).encode()):
            seen = owner.send("GET", f"{address_of(path)}?{urlencode(fields)}", body, headers)
            assert seen.status in {200, 303, 400, 405}, path
    assert state(database) == before


# --- headers


def test_every_answer_of_the_console_has_the_security_headers(scene: Scene, service: Service) -> None:
    owner, outsider = Browser(service).walk_in("olga"), Browser(service)
    odd = {"Content-Type": "text/odd"}
    wrong = {"name": "nobody", "password": "wrong"}
    answers = [
        (200, owner.get("/admin/cards")),
        (200, owner.post("/admin/cards/export", {"format": "csv", **OWN})),
        (303, outsider.get("/admin/cards")),
        (303, owner.post("/admin/token", scene.forms["/admin/token"])),
        (204, outsider.get("/admin/", {"HX-Request": "true"})),
        (400, owner.get("/admin/cards?status=odd")),
        (403, owner.post("/admin/logout", csrf="")),
        (404, owner.get("/admin/card?id=odd")),
        (404, owner.get(f"/admin/card?id={'0' * 32}")),
        (404, owner.get("/admin/static/odd.css")),
        (405, owner.send("PUT", "/admin/cards")),
        (413, owner.post("/admin/cards/apply", {"id": "x" * 300_000})),
        (415, owner.send("POST", "/admin/logout", b"x", odd)),
        (403, outsider.post("/admin/login", wrong, csrf="")),
    ]
    LoginFailure.update(failures=99).execute()
    answers += [(200, outsider.get("/admin/login")), (429, outsider.post("/admin/login", wrong, csrf=""))]
    assert int(answers[-1][1].headers["retry-after"]) > 0
    Figures.delete().execute()
    # Figures that took long to count are shown as they are; these have nothing in them.
    Figures.insert(counted_at=datetime.now(UTC), seconds=9, document={}).execute()
    answers.append((500, Browser(service, foreseen=False).walk_in("olga").get("/admin/")))
    for status, seen in answers:
        assert seen.status == status, (seen.path, seen.words)
        secure(seen)
        assert seen.headers["cache-control"] == "no-store", seen.path
    seen = outsider.get("/admin/static/console.css")
    secure(seen)
    assert seen.headers["cache-control"] == "public, max-age=31536000, immutable"


def secure(seen: Seen) -> None:
    said = seen.headers
    assert said["content-security-policy"] == CONTENT_SECURITY_POLICY, seen.path
    assert said["x-content-type-options"] == "nosniff"
    assert said["x-frame-options"] == "DENY"
    assert said["referrer-policy"] == "same-origin"
    assert said["cross-origin-opener-policy"] == said["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in said if name.startswith("access-control")]
