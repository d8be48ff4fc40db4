"""Log-ins with a code."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import timedelta

import pyotp
import pytest

from app.domain.operators import FREE_FAILURES
from app.domain.texts import RefusedError
from app.services import totp
from app.services.credentials import LoginRefusedError, LoginThrottledError, WantsCodeError
from app.services.sessions import Sessions
from app.storage.database import Database
from app.storage.models import Event, OperatorSession
from tests.support.log_ins import HOME, LogIns
from tests.support.passwords import PASSWORD, CheapPasswords
from tests.support.second_factors import FACTORS


def test_a_code_is_asked_for_only_once_the_password_is_right(log_ins: LogIns) -> None:
    app = log_ins.with_totp()
    log_ins.attempt_wrongly()
    for code in (None, ""):
        with pytest.raises(WantsCodeError):
            log_ins.log_in(code=code)
    refused = Event.select(Event.actor, Event.ip, Event.details).where(Event.kind == "login_refused").order_by(Event.id)
    assert [details for *_, details in refused.tuples()] == [{"wrong": "password"}, *[{"wrong": "no code"}] * 2]
    assert {(actor, ip) for actor, ip, _ in refused.tuples()} == {("console:alice", HOME)}
    device = log_ins.log_in(code=app.at(log_ins.clock.now)).device_token
    with pytest.raises(WantsCodeError):
        log_ins.log_in(device=device)
    assert refused.count() == 3, "in a browser that is known nobody wonders"


def test_attempts_without_a_code_are_throttled(log_ins: LogIns) -> None:
    log_ins.with_totp()
    for _ in range(FREE_FAILURES):
        with pytest.raises(WantsCodeError):
            log_ins.log_in()
    with pytest.raises(LoginThrottledError):
        log_ins.log_in()


@pytest.mark.parametrize("steps", [-100, -2, -1, 0, 1, 2])
def test_codes_of_half_a_minute_before_and_after_are_accepted(log_ins: LogIns, steps: int) -> None:
    app = log_ins.with_totp()
    log_ins.clock.advance(timedelta(minutes=5))
    code = app.at(log_ins.clock.now, counter_offset=steps)
    with nullcontext() if abs(steps) <= 1 else pytest.raises(LoginRefusedError):
        assert log_ins.identify(code=f"{code[:3]} {code[3:]}")


@pytest.mark.parametrize("code", ["000000", "12345", "1234567", "abcdef", "\0", "\ud800", "9" * 10_000])
def test_wrong_codes_get_the_answer_of_a_wrong_password(log_ins: LogIns, code: str) -> None:
    log_ins.with_totp()
    with pytest.raises(LoginRefusedError) as refusal:
        log_ins.log_in(code=code)
    assert refusal.value.text == LoginRefusedError().text
    assert Event.get(Event.kind == "login_refused").details == {"wrong": "code"}


def test_no_code_is_taken_twice_nor_an_older_one_after_it(log_ins: LogIns) -> None:
    app = log_ins.with_totp()
    log_ins.clock.advance(timedelta(minutes=5))
    code, older = app.at(log_ins.clock.now), app.at(log_ins.clock.now, counter_offset=-1)
    log_ins.log_in(code=code)
    for used in (code, older):
        with pytest.raises(LoginRefusedError):
            log_ins.log_in(code=used)


def test_the_code_that_enabled_totp_is_not_accepted_again(log_ins: LogIns) -> None:
    secret = totp.new_secret()
    code = pyotp.TOTP(secret).at(log_ins.clock.now)
    log_ins.operators.enable_totp("alice", secret, code, "")
    with pytest.raises(LoginRefusedError):
        log_ins.log_in(code=code)


def test_enabling_totp_ends_the_sessions_that_began_without_a_code(log_ins: LogIns) -> None:
    here, there = log_ins.log_in().session_token, log_ins.log_in().session_token
    secret = totp.new_secret()
    with pytest.raises(RefusedError):
        log_ins.operators.enable_totp("alice", secret, "000000", here)
    assert log_ins.sessions.identify(there)
    log_ins.operators.enable_totp("alice", secret, pyotp.TOTP(secret).at(log_ins.clock.now), here)
    assert [log_ins.sessions.identify(token) is not None for token in (here, there)] == [True, False]
    ended = (
        Event.select(Event.kind, Event.details).where(Event.at == log_ins.clock.now).order_by(Event.id.desc()).limit(2)
    )
    assert dict(ended.tuples()) == {
        "logged_out": {"sessions": 1},
        "operator_changed": {"operator": "alice", "totp": True},
    }


def test_whoever_has_a_session_and_the_password_needs_a_code_too(log_ins: LogIns) -> None:
    identity = log_ins.identify()
    log_ins.sessions.confirm(identity, PASSWORD, address=HOME)
    app = log_ins.with_totp()
    with pytest.raises(WantsCodeError):
        log_ins.sessions.confirm(identity, PASSWORD, address=HOME)
    log_ins.sessions.confirm(identity, PASSWORD, app.at(log_ins.clock.now), address=HOME)


def test_a_code_used_twice_at_once_is_accepted_once(log_ins: LogIns, database: Database) -> None:
    app = log_ins.with_totp()
    both_checked = threading.Barrier(2, timeout=60)

    class Meeting(CheapPasswords):
        """Both have looked at the operator and their password before either goes on."""

        def matches(self, password_hash: str | None, password: str) -> bool:
            is_right = super().matches(password_hash, password)
            both_checked.wait()
            return is_right

    def attempt(_: int) -> bool:
        try:
            # Each as in a process of its own: what they share is the database.
            sessions = Sessions(database, log_ins.clock, FACTORS, Meeting())
            sessions.log_in("alice", PASSWORD, app.at(log_ins.clock.now), address=HOME, device=None)
        except LoginRefusedError:
            return False
        finally:
            database.close()
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(attempt, range(2))) == [False, True]
    assert OperatorSession.select().count() == 1


def test_wrong_codes_are_throttled_across_networks_but_not_for_known_browsers_and_sessions(log_ins: LogIns) -> None:
    app = log_ins.with_totp()
    logged_in = log_ins.log_in(code=app.at(log_ins.clock.now))
    identity = log_ins.sessions.identify(logged_in.session_token)
    assert identity is not None
    log_ins.clock.advance(timedelta(minutes=1))
    for host in range(FREE_FAILURES):
        with pytest.raises(LoginRefusedError):
            log_ins.log_in(code="000000", address=f"203.0.113.{host}")
    with pytest.raises(LoginThrottledError):
        log_ins.log_in(code="000000", address="203.0.113.200")
    log_ins.log_in(code=app.at(log_ins.clock.now), device=logged_in.device_token)
    log_ins.clock.advance(timedelta(minutes=1))
    log_ins.sessions.confirm(identity, PASSWORD, app.at(log_ins.clock.now), address=HOME)
    for _ in range(FREE_FAILURES):
        with pytest.raises(LoginRefusedError):
            log_ins.sessions.confirm(identity, PASSWORD, "000000", address=HOME)
    with pytest.raises(LoginThrottledError):
        log_ins.sessions.confirm(identity, PASSWORD, "000000", address=HOME)
