"""Operators and shops' tokens in the console: owners manage them with their own password."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyotp
import pytest

from app.domain.operators.operators import Role, Scope
from app.services.shop.shop_tokens import ShopTokens
from app.storage.database import Database
from app.storage.models import Ceiling, Event, LoginFailure, Operator
from tests.integration.conftest import with_keys
from tests.support.console.console import OWN, PASSWORD, Browser, add_operator
from tests.support.services.service import Service, wait_for

NEW = "a rather long new password"


@pytest.fixture
def owner(service: Service, database: Database) -> Browser:
    add_operator("olga")
    add_operator("sam", Role.SELLER)
    return Browser(service, language="en").log_in("olga")


def told(kind: str) -> list[tuple[str, dict[str, object]]]:
    return list(Event.select(Event.actor, Event.details).where(Event.kind == kind).order_by(Event.id).tuples())


def role_of(name: str) -> str:
    return str(Operator.get(Operator.name == name).role)


def test_an_owner_without_two_step_verification_is_reminded(owner: Browser, service: Service) -> None:
    reminder = "Your account has no two-step verification"
    assert reminder in owner.get("/admin/").words
    assert reminder not in Browser(service, language="en").walk_in("sam").get("/admin/").words
    Operator.update(totp_secret=pyotp.random_base32()).where(Operator.name == "olga").execute()
    assert reminder not in owner.get("/admin/").words
    page = owner.get("/admin/operators").words
    assert ("olga (you) owner on" in page, "sam seller off" in page) == (True, True)


def test_a_session_and_the_password_without_a_code_change_nothing(owner: Browser, database: Database) -> None:
    ShopTokens(database, "tester", lambda: datetime.now(UTC)).add("shop", [Scope.CARDS_READ])
    app = pyotp.TOTP(pyotp.random_base32())
    new = {"new_password": NEW, "new_password_again": NEW}
    forms = {
        "/admin/operators": {"name": "thief", "role": "owner", **new},
        "/admin/operator/role": {"name": "sam", "role": "owner"},
        "/admin/operator/ceilings": {"name": "sam", "cards_per_day": "1000000"},
        "/admin/operator/password": {"name": "sam", **new},
        "/admin/operator/two-step": {"name": "sam"},
        "/admin/operator/remove": {"name": "sam"},
        "/admin/token": {"name": "shop"},
        "/admin/account/password": new,
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
    fields = {"name": "thief", "role": "owner", "own_password": PASSWORD, **new}
    page = owner.submit(page, "/admin/operators", fields, own_code=app.at(datetime.now(UTC)))
    assert page.path == "/admin/operators?done=added"


def test_owners_set_up_two_step_verification_before_anything_else_where_they_must(
    database: Database, database_url: str, tmp_path: Path
) -> None:
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


def test_an_invalid_new_operator_is_refused_with_a_reason(owner: Browser) -> None:
    fields = {"name": "new<b>", "role": "owner", "new_password": NEW, "new_password_again": NEW, **OWN}
    for changed, why in (
        ({"new_password_again": "something else"}, "differently the second time"),
        ({"own_password": "wrong"}, "your own password is wrong"),
        ({"name": "sam"}, "the name sam is taken"),
        ({"role": "king"}, "no such role"),
    ):
        page = owner.submit(owner.get("/admin/operators"), "/admin/operators", {**fields, **changed})
        assert (page.status, why in page.words, NEW in page.text) == (400, True, False), why
        assert 'value="new&lt;b&gt;"' in page.text or {*changed} & {"name", "role"}, "what was typed stands there still"
    assert Operator.select().count() == 2


def test_an_owner_sets_ceilings_with_the_own_password(owner: Browser, service: Service) -> None:
    page = owner.get("/admin/operator?name=sam")
    wanted = {"cards_per_day": "20", "longest_validity": "月卡", "changes_per_day": "5"}
    for typed in (
        {"own_password": "guess"},
        *({name: "x", **OWN} for name in wanted),
        {"changes_per_day": "-1", **OWN},
    ):
        refused = owner.submit(page, "/admin/operator/ceilings", {**wanted, **typed})
        assert refused.status == 400, typed
    assert Ceiling.select().count() == 0
    page = owner.submit(refused, "/admin/operator/ceilings", wanted | OWN)
    assert "20 cards per day, valid for at most 30 days" in page.words
    shown = dict(owner.get("/admin/operator?name=sam").form("/admin/operator/ceilings").fields)
    assert (shown["cards_per_day"], shown["longest_validity"]) == ("20", "30d")
    assert "changes_per_day" not in owner.get("/admin/operator?name=olga").text, "an owner needs no leave"
    assert told("operator_changed") == [
        ("console:olga", {"operator": "sam", "cards_per_day": 20, "longest_validity": "30d", "changes_per_day": 5}),
    ]


def test_nobody_changes_their_own_account_there(owner: Browser) -> None:
    assert "/admin/operator/" not in owner.get("/admin/operator?name=olga").text
    new = {"new_password": NEW, "new_password_again": NEW}
    fields = {"name": "olga", "role": "seller", "cards_per_day": "1000000", "own_password": PASSWORD, **new}
    for action in ["role", "ceilings", "password", "two-step", "remove"]:
        page = owner.post(f"/admin/operator/{action}", fields)
        assert (page.status, "your own account is not changed here" in page.words) == (400, True), action
    assert role_of("olga") == "owner"


def test_two_simultaneous_revocations_of_a_token_both_succeed(
    service: Service, owner: Browser, database: Database
) -> None:
    ShopTokens(database, "tester", lambda: datetime.now(UTC)).add("shop", [Scope.CARDS_READ])
    add_operator("otto")
    both = [owner, Browser(service).walk_in("otto")]
    fields = {"name": "shop", "own_password": PASSWORD}
    tokens = [browser.csrf() for browser in both]

    def are_held_up() -> bool:  # in a transaction, which would see pg_stat_activity as it was at the first look
        return bool(database.execute_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0] == 2)

    with ThreadPoolExecutor(2) as pool:
        with database.atomic() as held:  # both have seen that it holds before either can revoke it
            database.execute_sql("SELECT FROM api_token FOR UPDATE")
            answers = [
                pool.submit(browser.post, "/admin/token", fields, csrf=token)
                for browser, token in zip(both, tokens, strict=True)
            ]
            wait_for(are_held_up)
            held.rollback()
        assert [answer.result(20).status for answer in answers] == [303, 303]
    assert len(told("token_revoked")) == 1


def test_an_unknown_operator_or_token_is_a_404_page(owner: Browser) -> None:
    for path in ["/admin/operator", "/admin/token"]:
        for name in ("", "nobody", "%3Cscript%3E", "%E2%80%AE", "a/b"):
            assert owner.get(f"{path}?name={name}").status == 404
