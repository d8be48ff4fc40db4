"""Sessions of the console: how they end, and the cookies that they are in."""

import re
from collections.abc import Callable

import pytest

from app.services.bearer import digest, new_token
from app.storage.database import Database
from app.storage.models import Card
from tests.support.console import PASSWORD, Browser, Seen, add_operator
from tests.support.console_scene import NEW_PASSWORD, Scene, csrf_of
from tests.support.service import Service
from tests.support.shop import Shop


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
