"""Second factors: codes of an app, and their secrets in the database."""
# Owns sealing-key, login-second-factor.

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import timedelta

import pyotp
import pytest

from app.domain.operators.operators import FREE_FAILURES, Role
from app.domain.texts import RefusedError
from app.services.keys import sealed_secrets
from app.services.operators.sessions import LoginRefusedError, LoginThrottledError, Sessions, WantsCodeError
from app.storage.database import Database
from app.storage.models import Event, LoginFailure, Operator, OperatorSession
from app.tokens.sealing_key import SealingKey
from tests.conftest import Clock
from tests.support.console.log_ins import HOME, LogIns
from tests.support.console.passwords import PASSWORD, CheapPasswords
from tests.support.sealing import SEALING


def test_a_code_is_asked_for_only_once_the_password_is_right_and_to_a_limit(log_ins: LogIns) -> None:
    app = log_ins.with_totp()
    log_ins.attempt_wrongly()
    for code in (None, ""):
        with pytest.raises(WantsCodeError):
            log_ins.log_in(code=code)
    refused = Event.select(Event.actor, Event.ip, Event.details).where(Event.kind == "login_refused").order_by(Event.id)
    assert [details for *_, details in refused.tuples()] == [{"wrong": "password"}, *[{"wrong": "no code"}] * 2]
    assert {(actor, ip) for actor, ip, _ in refused.tuples()} == {("console:alice", HOME)}
    assert log_ins.log_in(code=app.at(log_ins.clock.now))
    for _ in range(FREE_FAILURES):
        with pytest.raises(WantsCodeError):
            log_ins.log_in()
    with pytest.raises(LoginThrottledError):
        log_ins.log_in()


def test_codes_of_half_a_minute_before_and_after_are_accepted_once_and_none_older_after_them(log_ins: LogIns) -> None:
    app = log_ins.with_totp()
    for steps in (-100, -2, -1, 0, 1, 2):
        log_ins.clock.advance(timedelta(minutes=5))
        code = app.at(log_ins.clock.now, counter_offset=steps)
        with nullcontext() if abs(steps) <= 1 else pytest.raises(LoginRefusedError):
            assert log_ins.identify(code=f"{code[:3]} {code[3:]}"), steps
            for used in (code, app.at(log_ins.clock.now, counter_offset=steps - 1)):
                with pytest.raises(LoginRefusedError):
                    log_ins.log_in(code=used)


def test_wrong_codes_get_the_answer_of_a_wrong_password(log_ins: LogIns) -> None:
    log_ins.with_totp()
    for code in ("000000", "12345", "1234567", "abcdef", "\0", "\ud800", "9" * 10_000):
        log_ins.clock.advance(timedelta(hours=1))  # or one would have to wait
        with pytest.raises(LoginRefusedError) as refusal:
            log_ins.log_in(code=code)
        refused = Event.select().where(Event.kind == "login_refused").order_by(Event.id.desc()).get()
        assert (refusal.value.text, refused.details) == (LoginRefusedError().text, {"wrong": "code"}), code


def test_enabling_totp_takes_its_first_code_and_ends_the_sessions_that_began_without_one(log_ins: LogIns) -> None:
    here, there = log_ins.log_in(), log_ins.log_in()
    secret, short = pyotp.random_base32(), "A" * 24
    code = pyotp.TOTP(secret).at(log_ins.clock.now)
    for wrong in ((secret, "000000"), (secret, ""), (short, pyotp.TOTP(short).at(log_ins.clock.now)), ("no!", code)):
        with pytest.raises(RefusedError):
            log_ins.two_step.enable("alice", *wrong, here)
    assert log_ins.sessions.identify(there)
    log_ins.two_step.enable("alice", secret, code, here)
    assert [log_ins.sessions.identify(token) is not None for token in (here, there)] == [True, False]
    ended = Event.select(Event.kind, Event.details).order_by(Event.id.desc()).limit(2)
    assert dict(ended.tuples()) == {
        "logged_out": {"sessions": 1},
        "operator_changed": {"operator": "alice", "totp": True},
    }
    with pytest.raises(LoginRefusedError):
        log_ins.log_in(code=code)
    second = pyotp.random_base32()
    with pytest.raises(RefusedError):
        log_ins.two_step.enable("alice", second, pyotp.TOTP(second).at(log_ins.clock.now), "")
    operator = Operator.get()
    assert SEALING.open("operator", operator.id, operator.totp_secret) == secret
    log_ins.two_step.disable("alice", log_out=True)  # the phone is lost
    assert log_ins.sessions.identify(here) is None
    assert log_ins.log_in()


@pytest.mark.parametrize("how", ["logging in", "confirming"])
def test_a_code_used_by_several_at_once_is_accepted_once(log_ins: LogIns, database: Database, how: str) -> None:
    app = log_ins.with_totp()
    code = app.at(log_ins.clock.now)
    all_checked = threading.Barrier(4, timeout=60)

    class Meeting(CheapPasswords):
        """All have looked at the operator and their password before any goes on."""

        def matches(self, password_hash: str | None, password: str) -> bool:
            is_right = super().matches(password_hash, password)
            all_checked.wait()
            return is_right

    def attempt(_: int) -> bool:
        try:
            # Each as in a process of its own: what they share is the database.
            sessions = Sessions(database, log_ins.clock, SEALING, Meeting())
            if how == "confirming":
                sessions.confirm(log_ins.alice, PASSWORD, code, address=HOME)
            else:
                sessions.log_in("alice", PASSWORD, code, HOME)
        except LoginRefusedError:
            return False
        finally:
            database.close()
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(attempt, range(4))) == [False, False, False, True]
    assert OperatorSession.select().count() == (0 if how == "confirming" else 1)


def test_wrong_codes_are_throttled_across_networks(log_ins: LogIns) -> None:
    app = log_ins.with_totp()
    identity = log_ins.identify(code=app.at(log_ins.clock.now))
    log_ins.clock.advance(timedelta(minutes=1))
    for host in range(FREE_FAILURES):
        with pytest.raises(LoginRefusedError):
            log_ins.log_in(code="000000", address=f"203.0.113.{host}")
    with pytest.raises(LoginThrottledError):
        log_ins.log_in(code=app.at(log_ins.clock.now), address="203.0.113.200")
    right = app.at(log_ins.clock.now)
    with pytest.raises(LoginThrottledError):
        log_ins.sessions.confirm(identity, PASSWORD, right, address=HOME)
    log_ins.clock.advance(timedelta(seconds=1))
    log_ins.sessions.confirm(identity, PASSWORD, right, address=HOME)
    assert LoginFailure.get_or_none(LoginFailure.bucket.startswith("code:")) is None, "a success forgets them"


def test_a_start_seals_what_was_kept_in_clear(
    log_ins: LogIns, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    app = pyotp.TOTP(pyotp.random_base32())
    caplog.set_level(logging.INFO)
    log_ins.operators.add("bob", Role.OWNER, PASSWORD)
    Operator.update(totp_secret=app.secret).where(Operator.name == "alice").execute()
    for _ in range(2):
        sealed_secrets.seal_all(database, SEALING)
    sealed, without = Operator.get(Operator.name == "alice"), Operator.get(Operator.name == "bob")
    assert SEALING.opens("operator", sealed.id, sealed.totp_secret)
    assert without.totp_secret is None
    assert [record.message for record in caplog.records].count("secrets sealed") == 1
    assert log_ins.log_in(code=app.at(log_ins.clock.now))


def test_a_secret_that_changes_while_it_is_sealed_stays(log_ins: LogIns) -> None:
    Operator.update(totp_secret=pyotp.random_base32()).execute()
    ((table, row),) = sealed_secrets.every()
    Operator.update(totp_secret="another").execute()
    assert not sealed_secrets.replace(table, row, SEALING.seal(table, row.id, row.sealed))
    assert Operator.get().totp_secret == "another"


def test_a_start_without_the_database_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    sealed_secrets.seal_all(Database("postgresql://nobody@127.0.0.1:1/nowhere"), SEALING)
    assert "secrets could not be sealed" in caplog.text


def test_no_secret_of_another_operator_and_no_other_key_lets_anybody_in(
    log_ins: LogIns, database: Database, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    app = log_ins.with_totp()
    for other in (SealingKey("00" * 32), SealingKey(None)):
        with pytest.raises(LoginRefusedError):
            Sessions(database, clock, other, CheapPasswords()).log_in("alice", PASSWORD, app.at(clock.now), HOME)
    assert "a second factor does not open" in caplog.text
    mallory = pyotp.TOTP(pyotp.random_base32())
    Operator.update(totp_secret=SEALING.seal("operator", Operator.get().id + 1, mallory.secret)).execute()
    with pytest.raises(LoginRefusedError):
        log_ins.log_in(code=mallory.at(clock.now))
