"""The visitor's own account in the console: password, second factor, other sessions."""

import re
from datetime import UTC, datetime

import pyotp
import pytest

from app.domain.operators import Role
from app.storage.database import Database
from app.storage.models import Operator, OperatorDevice, OperatorSession
from tests.support.console import PASSWORD, Browser, Seen, add_operator
from tests.support.second_factors import FACTORS
from tests.support.service import Service

NEW = "a rather long new password"


@pytest.fixture
def sam(service: Service, database: Database) -> Browser:
    """A seller, in a browser: one's own account is everybody's."""
    add_operator("sam", Role.SELLER)
    return Browser(service, language="en").log_in("sam")


class Phone:
    """An authenticator: `code` is the one of when it took up the secret, `next_code` the one after, valid as well."""

    def __init__(self, secret: str) -> None:
        now = datetime.now(UTC)
        self.secret = secret
        self.code, self.next_code = (pyotp.TOTP(secret).at(now, counter_offset=step) for step in (0, 1))


def secret_of(page: Seen) -> str:
    return dict(page.form("/admin/account/two-step").fields)["secret"]


def set_up(browser: Browser) -> Phone:
    page = browser.get("/admin/account/two-step")
    phone = Phone(secret_of(page))
    page = browser.submit(page, "/admin/account/two-step", code=phone.code, own_password=PASSWORD)
    assert page.path == "/admin/account/two-step"
    assert page.status == 200
    return phone


def test_a_new_password_begins_a_new_session_in_this_browser_alone(sam: Browser, service: Service) -> None:
    before = sam.cookie("kadun_session"), sam.cookie("kadun_device")
    Browser(service).log_in("sam")
    fields = {"own_password": PASSWORD, "new_password": NEW, "new_password_again": NEW}
    page = sam.submit(sam.get("/admin/account"), "/admin/account/password", fields)
    assert (page.status, page.path) == (200, "/admin/account?done=password")
    assert "Password changed" in page.words
    after = sam.cookie("kadun_session"), sam.cookie("kadun_device")
    assert not {*before} & {*after}, "a stolen token is worth nothing now"
    assert OperatorSession.select().count() == OperatorDevice.select().count() == 1
    Browser(service).log_in("sam", NEW)


def test_an_invalid_password_changes_nothing(sam: Browser) -> None:
    for changed, why in [
        ({"own_password": "wrong"}, "your own password is wrong"),
        ({"own_password": ""}, "your own password is wrong"),
        ({"new_password_again": "something else"}, "differently the second time"),
        ({"new_password": "sam is my name", "new_password_again": "sam is my name"}, "too easy"),
    ]:
        before = sam.cookie("kadun_session")
        fields = {"own_password": PASSWORD, "new_password": NEW, "new_password_again": NEW, **changed}
        page = sam.submit(sam.get("/admin/account"), "/admin/account/password", fields)
        assert page.status == 400, (changed, why)
        assert why in page.words
        assert sam.cookie("kadun_session") == before, (changed, why)
        assert sam.get("/admin/account").status == 200, (changed, why)


def test_a_new_password_takes_a_code_but_no_new_log_in_in_this_browser(sam: Browser) -> None:
    phone = set_up(sam)
    fields = {"own_password": PASSWORD, "new_password": NEW, "new_password_again": NEW}
    assert sam.submit(sam.get("/admin/account"), "/admin/account/password", fields).status == 400
    fields["own_code"] = phone.next_code
    assert sam.submit(sam.get("/admin/account"), "/admin/account/password", fields).status == 200
    assert Operator.get().totp_secret is not None
    assert sam.get("/admin/account").status == 200


def test_disabling_the_second_factor_takes_password_and_code(sam: Browser) -> None:
    phone = set_up(sam)
    page = sam.get("/admin/account")
    wrong = "wrong password or code; each code works once"
    for password, typed, why in (
        (PASSWORD, "000000", wrong),
        ("wrong", phone.next_code, wrong),
        (PASSWORD, "", "enter the code of your authenticator app"),
    ):
        refused = sam.submit(page, "/admin/account/two-step/remove", own_password=password, own_code=typed)
        assert refused.status == 400
        assert why in refused.words
    taken = sam.submit(page, "/admin/account/two-step/remove", own_password=PASSWORD, own_code=phone.code)
    assert taken.status == 400, "the code that set it up is used up"
    operator = Operator.get()
    assert FACTORS.open(operator.id, operator.totp_secret) == phone.secret
    done = sam.submit(page, "/admin/account/two-step/remove", own_password=PASSWORD, own_code=phone.next_code)
    assert done.path == "/admin/account?done=two-step-off"
    assert Operator.get().totp_secret is None
    again = sam.post("/admin/account/two-step/remove", {"own_password": PASSWORD, "own_code": "1"})
    assert again.status == 400
    assert "not enabled" in again.words


def test_recovery_codes_are_shown_once_and_made_anew_for_the_password(sam: Browser, service: Service) -> None:
    page = sam.get("/admin/account/two-step")
    phone = Phone(secret_of(page))
    page = sam.submit(page, "/admin/account/two-step", code=phone.code, own_password=PASSWORD)
    codes = re.findall(r"\b[0-9A-Z]{5}(?:-[0-9A-Z]{5}){3}\b", page.text)
    assert len(codes) == 10
    assert page.headers["cache-control"] == "no-store"
    account = sam.get("/admin/account")
    assert "Recovery codes · 10 left" in account.words
    assert not [code for code in codes if code in account.text]
    Browser(service).log_in("sam", code=codes[0].lower())
    assert "Recovery codes · 9 left" in sam.get("/admin/account").words
    path = "/admin/account/two-step/codes"
    for wrong in ({"own_password": "wrong", "own_code": phone.next_code}, {"own_password": PASSWORD, "own_code": ""}):
        assert sam.submit(account, path, wrong).status == 400
    page = sam.submit(account, path, own_password=PASSWORD, own_code=codes[1])
    new = re.findall(r"\b[0-9A-Z]{5}(?:-[0-9A-Z]{5}){3}\b", page.text)
    assert len(new) == 10
    assert not {*new} & {*codes}
    assert sam.get(path).headers["location"] == "/admin/account"


def test_a_secret_of_another_form_is_refused(sam: Browser) -> None:
    for secret in ("", "A", "a" * 32, "<script>", "=" * 32, "A" * 33):
        fields = {"secret": secret, "code": "000000", "own_password": PASSWORD}
        page = sam.post("/admin/account/two-step", fields)
        assert page.status == 400
        assert re.fullmatch("[A-Z2-7]{32}", secret_of(page)), "another one is offered"
    assert Operator.get().totp_secret is None


def test_other_sessions_are_shown_and_ended(sam: Browser, service: Service) -> None:
    assert "you are logged in on this browser only" in sam.get("/admin/account").words
    elsewhere = [Browser(service).log_in("sam") for _ in range(2)]
    page = sam.get("/admin/account")
    assert page.words.count("last active") == 2
    page = sam.submit(page, "/admin/account/sessions")
    assert "You have been logged out everywhere else" in page.words
    assert [browser.get("/admin/account").status for browser in elsewhere] == [303, 303]
