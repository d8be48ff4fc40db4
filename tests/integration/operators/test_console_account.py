"""The visitor's own account in the console: password, sessions, cookies, and no secret that is told."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pyotp
import pytest

from app.domain.operators.operators import Role
from app.services.bearer import digest, new_token
from app.storage.database import Database
from app.storage.models import Card, Operator, OperatorSession
from tests.support.console.console import PASSWORD, Browser, Seen, add_operator
from tests.support.console.console_scene import NEW_PASSWORD, Scene, address_of, csrf_of, furnish, paths
from tests.support.sealing import SEALING
from tests.support.services.service import Service, question
from tests.support.shop import Shop

NEW = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}


def test_instead_of_a_secret_of_another_form_a_new_one_is_offered(olga: Browser) -> None:
    page = olga.post("/admin/account/two-step", {"secret": "a" * 32, "code": "000000", "own_password": PASSWORD})
    assert page.status == 400
    assert re.fullmatch("[A-Z2-7]{32}", dict(page.form("/admin/account/two-step").fields)["secret"])


def changed_by_owner(action: str, **fields: str) -> Callable[[Browser, Browser], Seen]:
    said = {"name": "sam", "own_password": PASSWORD, **fields}
    return lambda _victim, owner: owner.post(f"/admin/operator/{action}", said)


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
    first, second = (Browser(service).log_in("olga").cookie("kadun_session") for _ in range(2))
    assert first != second, "each log-in has a session of its own"


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


def test_behind_the_proxy_no_other_host_and_no_plain_http_can_plant_a_session(
    proxied: Service, database: Database
) -> None:
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
    assert browser.cookie("__Host-kadun_session") is None


def test_nginx_is_told_whether_a_request_has_a_session(scene: Scene, service: Service) -> None:
    seller, outsider = (Browser(service, foreseen=False) for _ in range(2))
    seller.walk_in("sam")
    assert seller.get("/admin/session").status == 204
    assert outsider.get("/admin/session").status == 401
    outsider.set_cookie("kadun_session", "planted")
    seen = outsider.get("/admin/session")
    assert (seen.status, seen.text) == (401, "")


def test_a_walk_through_everything_leaves_no_secret_in_the_log_nor_in_the_database(
    database_url: str, database: Database, tmp_path: Path
) -> None:
    with Service(tmp_path, database_url, KADUN_LOG_LEVEL="debug") as service:
        add_operator("olga")
        add_operator("sam", Role.SELLER)
        typed = "a password typed into the wrong field"
        Browser(service).post("/admin/login", {"name": typed, "password": typed + "!"}, csrf="")
        owner = Browser(service).log_in("olga")
        scene = furnish(["plain"])
        shop = Shop(service, database)
        card = shop.issue()[0]
        shop.look_up(card)
        service.verify(question(card))
        owner.get(f"/admin/cards?{urlencode({'q': card})}")
        owner.get(f"/admin/card?{urlencode({'id': card})}")
        owner.post("/admin/cards/freeze", {"id": card})
        owner.post("/admin/cards/import", {"step": "preview"}, {"file": ("x", f"id,validity\n{card},30d\n".encode())})
        first = str(owner.cookie("kadun_session"))
        assert owner.post("/admin/account/password", {"own_password": PASSWORD, **NEW}).status == 303
        secret = dict(owner.get("/admin/account/two-step").form("/admin/account/two-step").fields)["secret"]
        code = pyotp.TOTP(secret).now()
        owner.post("/admin/account/two-step", {"secret": secret, "code": code, "own_password": NEW_PASSWORD})
        for path, access in paths().items():
            form = {**scene.forms.get(path, {}), "id": card, "csrf": owner.csrf()}
            if "GET" in access:
                owner.get(f"{address_of(path)}?{urlencode({**scene.queries.get(path, {}), **form})}")
            if "POST" in access and path not in {"/admin/logout", "/admin/login"} and "own_password" not in form:
                owner.post(path, form, csrf=str(form.pop("csrf")))
        hashes = [row.password_hash for row in Operator.select()]
        tokens = [first, str(owner.cookie("kadun_session")), shop.token]
        csrf = [owner.csrf(), csrf_of(first)]
    olga = Operator.get(Operator.name == "olga")
    assert SEALING.open("operator", olga.id, olga.totp_secret) == secret
    log = service.log.read_text()
    assert '"/admin/account/password"' in log
    secrets = {PASSWORD, NEW_PASSWORD, typed, secret, *tokens, *csrf}
    for said in secrets | {card, *scene.cards, *map(digest, tokens), *hashes}:
        assert said not in log, said
    for table in database.get_tables():
        stored = str(database.execute_sql(f'SELECT t::text FROM "{table}" t').fetchall())  # noqa: S608  # our tables
        assert not [said for said in secrets if said in stored], table


ISSUE, LOGIN = "/admin/cards/issue", "/admin/login"
NOTHING_DONE = "提交的内容没有执行"


def test_a_form_sent_late_does_nothing_and_the_log_in_leads_back_to_its_page(olga: Browser) -> None:
    page = olga.get(f"{ISSUE}?lang=zh")
    OperatorSession.delete().execute()
    ended = olga.submit(page, ISSUE, count="7", note="淘宝 <张>")
    assert (ended.status, NOTHING_DONE in ended.words) == (200, True)
    wrong = olga.submit(ended, LOGIN, name="olga", password="wrong", code="")
    assert (wrong.status, NOTHING_DONE in wrong.words) == (403, True)
    (english,) = [link for link in wrong.links if "lang=en" in link]
    back = olga.submit(olga.get(english), LOGIN, name="olga", password=PASSWORD, code="")
    assert (back.status, back.path.partition("?")[0], "淘宝" in back.text) == (200, ISSUE, False)
    assert Card.select().count() == 0


def test_any_form_says_that_nothing_was_done(service: Service) -> None:
    add_operator("olga")
    stranger = Browser(service)
    # The last is longer than nginx takes as the log-in's address.
    for path, onward in (("/admin/token?name=shop", None), ("/admin/cards/export?q=" + "x" * 3_000, "/admin/")):
        ended = stranger.follow(stranger.post(path, csrf=""))
        assert NOTHING_DONE in ended.words, path
        assert dict(ended.form(LOGIN).fields)["next"] == (onward or path)
    assert stranger.post("/admin/logout", csrf="").headers["location"] == LOGIN, "a log-out says nothing"
