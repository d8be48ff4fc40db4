"""Accounts in the console: operators, tokens, passwords, sessions, cookies, and no secret that is told."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import pyotp
import pytest

from app.domain.operators.operators import Role, Scope
from app.services.random_tokens import digest, new_token
from app.services.shop.shop_tokens import ShopTokens
from app.storage.database import Database
from app.storage.models import Card, Ceiling, Event, LoginFailure, Operator, OperatorSession
from tests.integration.conftest import with_keys
from tests.support.console.console import OWN, PASSWORD, Browser, Seen, add_operator
from tests.support.console.console_scene import NEW_PASSWORD, Scene, address_of, csrf_of, furnish, paths
from tests.support.secrets import SEALING
from tests.support.services.service import Service, question, wait_for_waiting
from tests.support.shop import Shop

NEW = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}


@pytest.fixture
def owner(service: Service, database: Database) -> Browser:
    add_operator("olga")
    add_operator("sam", Role.SELLER)
    return Browser(service, language="en").log_in("olga")


def told(kind: str) -> list[tuple[str, dict[str, object]]]:
    return list(Event.select(Event.actor, Event.details).where(Event.kind == kind).order_by(Event.id).tuples())


def role_of(name: str) -> str:
    return str(Operator.get(Operator.name == name).role)


def test_a_session_and_the_password_without_a_code_change_nothing(owner: Browser, database: Database) -> None:
    ShopTokens(database, "tester", lambda: datetime.now(UTC)).add("shop", [Scope.CARDS_READ])
    app = pyotp.TOTP(pyotp.random_base32())
    forms = {
        "/admin/operators": {"name": "thief", "role": "owner", **NEW},
        "/admin/operator/role": {"name": "sam", "role": "owner"},
        "/admin/operator/ceilings": {"name": "sam", "cards_per_day": "1000000"},
        "/admin/operator/password": {"name": "sam", **NEW},
        "/admin/operator/two-step": {"name": "sam"},
        "/admin/operator/remove": {"name": "sam"},
        "/admin/token": {"name": "shop"},
        "/admin/account/password": NEW,
        "/admin/account/two-step/remove": {},
    }
    Operator.update(totp_secret=app.secret).where(Operator.name == "olga").execute()
    for path, fields in forms.items():
        for given in ({}, {"own_code": "000000"}, {"own_password": "guess", "own_code": "000000"}):
            refused = owner.post(path, {**fields, "own_password": PASSWORD, **given})
            assert refused.status == 400, path
        LoginFailure.delete().execute()
    kinds = {"operator_added", "operator_changed", "operator_removed", "token_revoked"}
    assert not Event.select().where(Event.kind.in_(kinds)).exists()
    page = owner.get("/admin/operators")
    fields = {"name": "thief", "role": "owner", "own_password": PASSWORD, **NEW}
    page = owner.submit(page, "/admin/operators", fields, own_code=app.at(datetime.now(UTC)))
    assert page.path == "/admin/operators?done=added"


def test_owners_begin_with_two_step_where_they_must(database: Database, database_url: str, tmp_path: Path) -> None:
    add_operator("olga")
    add_operator("sam", Role.SELLER)
    with Service(with_keys(tmp_path), database_url, KADUN_OWNERS_NEED_TOTP="true", KADUN_CONFIRM_CARDS="0") as strict:
        owner = Browser(strict, language="en")
        page = owner.submit(owner.get("/admin/login"), "/admin/login", name="olga", password=PASSWORD)
        assert page.path == "/admin/account/two-step"
        assert "Owners need two-step verification" in page.words
        for path in ("/admin/", "/admin/cards", "/admin/account", "/admin/operators"):
            assert owner.get(path).headers["location"] == "/admin/account/two-step", path
        fields = {"name": "sam", "role": "owner", "own_password": PASSWORD}
        csrf = dict(page.form("/admin/logout").fields)["csrf"]
        assert owner.post("/admin/operator/role", fields, csrf=csrf).headers["location"] == "/admin/account/two-step"
        assert role_of("sam") == Role.SELLER
        secret = dict(page.form("/admin/account/two-step").fields)["secret"]
        code = pyotp.TOTP(secret).at(datetime.now(UTC))
        page = owner.submit(page, "/admin/account/two-step", code=code, own_password=PASSWORD)
        assert "Two-step verification is on" in page.words
        assert owner.get("/admin/operators").status == 200
        sam = Browser(strict, language="en").log_in("sam")
        assert sam.get("/admin/cards").status == 200, "sellers are free to choose"
        issue = "/admin/cards/issue"
        assert "More than 0 cards at once" in sam.submit(sam.get(issue), issue, count="1").words


def test_two_revocations_of_a_token_at_once_both_succeed(service: Service, owner: Browser, database: Database) -> None:
    ShopTokens(database, "tester", lambda: datetime.now(UTC)).add("shop", [Scope.CARDS_READ])
    add_operator("otto")
    fields = {"name": "shop", "own_password": PASSWORD}
    tokens = [(browser, browser.csrf()) for browser in (owner, Browser(service).walk_in("otto"))]
    with ThreadPoolExecutor(2) as pool:
        with database.atomic() as held:  # both have seen that it holds before either can revoke it
            database.execute_sql("SELECT FROM api_token FOR UPDATE")
            answers = [pool.submit(each.post, "/admin/token", fields, csrf=csrf) for each, csrf in tokens]
            wait_for_waiting(database, 2)
            held.rollback()
        assert [answer.result(20).status for answer in answers] == [303, 303]
    assert len(told("token_revoked")) == 1


def test_ceilings_take_the_own_password_and_nobody_changes_their_own_account_there(owner: Browser) -> None:
    wanted = {"name": "sam", "cards_per_day": "20", "longest_validity": "月卡", "changes_per_day": "5"}
    for typed in ({"own_password": "guess"}, {"changes_per_day": "-1", **OWN}):
        assert owner.post("/admin/operator/ceilings", {**wanted, **typed}).status == 400, typed
    assert Ceiling.select().count() == 0
    assert owner.post("/admin/operator/ceilings", wanted | OWN).status == 303
    changed = {"operator": "sam", "cards_per_day": 20, "longest_validity": "30d", "changes_per_day": 5}
    assert told("operator_changed") == [("console:olga", changed)]
    for action in ("role", "ceilings", "password", "two-step", "remove"):
        page = owner.post(f"/admin/operator/{action}", wanted | {"name": "olga", "role": "seller"} | NEW | OWN)
        assert (page.status, "your own account is not changed here" in page.words) == (400, True), action
    assert role_of("olga") == "owner"


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
    assert browser.cookie("__Host-kadun_session") is None


def test_nginx_is_told_whether_a_request_has_a_session(scene: Scene, service: Service) -> None:
    seller, outsider = (Browser(service, foreseen=False) for _ in range(2))
    seller.walk_in("sam")
    assert seller.get("/admin/session").status == 204
    assert outsider.get("/admin/session").status == 401
    outsider.set_cookie("kadun_session", "planted")
    seen = outsider.get("/admin/session")
    assert (seen.status, seen.text) == (401, "")


def test_no_secret_is_left_in_the_log_or_the_database(database_url: str, database: Database, tmp_path: Path) -> None:
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
    assert olga.follow(olga.post("/admin/logout")).path == LOGIN, "a log-out says nothing"
