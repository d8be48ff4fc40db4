"""Log-ins, second factors and sessions: what opens one, how long it lasts, what ends it, and the confirmation."""
# Owns login-sessions, login-second-factor, sealing-key.

import logging
import threading
import unicodedata
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from typing import Literal

import pyotp
import pytest
from argon2 import PasswordHasher

from app.domain.operators.operators import FREE_FAILURES, MAX_PASSWORD, MAX_SESSIONS, Role
from app.domain.texts import RefusedError
from app.services.keys import sealed_secrets
from app.services.operators.operators import LoggedOutError
from app.services.operators.passwords import Passwords
from app.services.operators.sessions import LoginRefusedError, LoginThrottledError, Sessions, WantsCodeError
from app.storage.database import Database
from app.storage.models import Event, LoginFailure, Operator, OperatorSession
from app.tokens.sealing_key import SealingKey
from tests.conftest import Clock
from tests.support.concurrency import outcomes_at_once
from tests.support.console.log_ins import HOME, LogIns
from tests.support.secrets import OTHER, PASSWORD, SEALING, CheapPasswords


def are_valid(log_ins: LogIns, *tokens: str) -> list[bool]:
    return [log_ins.sessions.identify(token) is not None for token in tokens]


def test_name_and_password_open_a_session_also_as_phones_type_them(log_ins: LogIns) -> None:
    assert log_ins.sessions.identify(log_ins.log_in()) == log_ins.alice
    entry = Event.get(Event.kind == "logged_in")
    assert (entry.actor, entry.ip, entry.details) == ("console:alice", HOME, None)
    log_ins.log_in(name=" alice ", password="ｃｏｒｒｅｃｔ horse battery")


def test_every_wrong_name_or_password_gets_the_same_answer_and_no_unknown_name_is_journalled(log_ins: LogIns) -> None:
    longest = (PASSWORD * 20)[:MAX_PASSWORD]
    log_ins.operators.set_password("alice", longest)
    assert log_ins.log_in(longest)
    OperatorSession.delete().execute()
    passwords = ["", "a\0b", "\ud800", PASSWORD, longest + "!", longest.upper()]
    names = ["bob", "", "a\0", "\ud800", "x" * 10_000]
    for name, password in [*(("alice", each) for each in passwords), *((each, longest) for each in names)]:
        log_ins.clock.advance(timedelta(hours=1))  # or one would have to wait
        with pytest.raises(LoginRefusedError) as refusal:
            log_ins.log_in(password, name=name)
        assert (type(refusal.value), refusal.value.text) == (LoginRefusedError, LoginRefusedError().text), name
        entry = Event.select().where(Event.kind == "login_refused").order_by(Event.id.desc()).get()
        actor = "console:alice" if name == "alice" else None
        assert (entry.actor, entry.ip, entry.details) == (actor, HOME, {"wrong": "password"}), (name, password)
    assert OperatorSession.select().count() == 0


def test_long_texts_are_cut_before_normalisation(log_ins: LogIns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Normalising marks that combine takes time by the square of their number, and lets no other thread run."""
    lengths: list[int] = []
    normalize = unicodedata.normalize

    def noting(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
        lengths.append(len(text))
        return normalize(form, text[:MAX_PASSWORD])

    log_ins.with_totp()
    monkeypatch.setattr(unicodedata, "normalize", noting)
    marks = "\u0301\u0316" * 60_000
    for name, password, code in (("alice", marks, None), ("nobody", marks, None), ("alice", PASSWORD, marks)):
        log_ins.refuse(LoginRefusedError, password, name=name, code=code)
    assert len(log_ins.passwords.checked) == 3, "each of them at the cost of a hash"
    assert (len(lengths) >= 3, max(lengths) <= MAX_PASSWORD) == (True, True)


def test_an_unknown_name_costs_a_hash_with_the_same_parameters(log_ins: LogIns) -> None:
    for name in ("alice", "bob"):
        log_ins.attempt_wrongly(name=name)
    assert log_ins.passwords.checked == [Operator.get().password_hash, None]

    class Seeing(PasswordHasher):
        """Notes what it is to compare with."""

        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002  # its name there
            seen.append(str(hash))
            return super().verify(hash, password)

    seen: list[str] = []
    passwords = Passwords(Seeing(time_cost=1, memory_cost=64, parallelism=1))
    assert not passwords.matches(None, OTHER)
    assert [part.split("$")[:4] for part in seen] == [passwords.hash(OTHER).split("$")[:4]]


def test_hashes_are_those_of_rfc_9106_and_older_ones_replaced_at_a_log_in(log_ins: LogIns, database: Database) -> None:
    assert Passwords().hash(PASSWORD).startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    stronger = Sessions(database, log_ins.clock, SEALING, CheapPasswords(time_cost=2))
    first = stronger.log_in("alice", PASSWORD, None, HOME)
    assert ",t=2," in Operator.get().password_hash
    stronger.log_in("alice", PASSWORD, None, HOME)
    assert stronger.identify(first)


def test_a_session_lasts_seven_days_where_it_is_used_and_twelve_hours_where_not(log_ins: LogIns) -> None:
    used, begun = log_ins.log_in(), log_ins.clock.now
    for seconds, touched_at in ((59, begun), (1, begun + timedelta(minutes=1))):
        log_ins.clock.advance(timedelta(seconds=seconds))
        log_ins.sessions.identify(used)
        assert OperatorSession.get().last_seen_at == touched_at, "it is touched at most once a minute"
    for _ in range(15):
        log_ins.clock.advance(timedelta(hours=11, minutes=-1))
        assert log_ins.sessions.identify(used)
    log_ins.clock.advance(begun + timedelta(days=7) - log_ins.clock.now)
    assert log_ins.sessions.identify(used) is None
    unused = log_ins.log_in()
    log_ins.clock.advance(timedelta(hours=12))
    assert log_ins.sessions.identify(unused) is None


def test_logging_out_ends_this_session_alone_and_the_others_can_be_ended_from_one(log_ins: LogIns) -> None:
    log_ins.operators.add("bob", Role.SELLER, OTHER)
    bobs = log_ins.log_in(OTHER, name="bob")
    here, there = log_ins.log_in(), log_ins.log_in()
    assert len(log_ins.sessions.others(log_ins.alice.id, here)) == 1
    for _ in range(2):  # the second time there are none
        log_ins.sessions.end_others(log_ins.alice, here)
    assert are_valid(log_ins, here, there, bobs) == [True, False, True]
    there = log_ins.log_in()
    log_ins.sessions.end(log_ins.alice, here)
    for token in ["nobody's", "", "a\0", "\ud800", "g" * 10_000]:
        log_ins.sessions.end(log_ins.alice, token)
        assert log_ins.sessions.identify(token) is None
    assert are_valid(log_ins, here, there) == [False, True]
    entries = Event.select(Event.actor, Event.details).where(Event.kind == "logged_out")
    assert list(entries.tuples()) == [("console:alice", {"sessions": 1})] * 2


def test_a_log_in_fails_if_the_password_changes_meanwhile(log_ins: LogIns, database: Database) -> None:
    class Slow(CheapPasswords):
        """The password changes while the old one is checked."""

        def matches(self, password_hash: str | None, password: str) -> bool:
            is_right = super().matches(password_hash, password)
            log_ins.operators.set_password("alice", OTHER)
            return is_right

    with pytest.raises(LoginRefusedError):
        Sessions(database, log_ins.clock, SEALING, Slow()).log_in("alice", PASSWORD, None, HOME)
    assert OperatorSession.select().count() == 0


def test_a_confirmation_takes_the_password_and_a_code_once_and_is_throttled(log_ins: LogIns) -> None:
    """It comes before changes that a stolen session must not make."""
    log_ins.sessions.confirm(log_ins.identify(), PASSWORD, address=HOME)
    app = log_ins.with_totp()
    code = app.at(log_ins.clock.now)
    for password, wrong in ((OTHER, code), (PASSWORD, "000000"), (PASSWORD, ""), (PASSWORD, None)):
        with pytest.raises(LoginRefusedError):
            log_ins.sessions.confirm(log_ins.alice, password, wrong, address=HOME)
    log_ins.sessions.confirm(log_ins.alice, PASSWORD, code, address=HOME)
    for error in (*[LoginRefusedError] * FREE_FAILURES, LoginThrottledError):
        with pytest.raises(error):
            log_ins.sessions.confirm(log_ins.alice, PASSWORD, code, address=HOME)


def test_a_change_of_password_ends_all_sessions_and_begins_one_unless_another_came_after_it(log_ins: LogIns) -> None:
    token = log_ins.log_in()
    changed_at = log_ins.operators.set_password("alice", OTHER)
    assert are_valid(log_ins, token, log_ins.sessions.renew(log_ins.alice, changed_at)) == [False, True]
    log_ins.refuse(LoginRefusedError)
    log_ins.clock.advance(timedelta(milliseconds=1))
    log_ins.operators.set_password("alice", PASSWORD)
    with pytest.raises(LoggedOutError):
        log_ins.sessions.renew(log_ins.alice, changed_at)


def test_a_change_that_waited_while_its_session_was_ended_is_not_made(log_ins: LogIns) -> None:
    """A thief has shown the old password; before the change is written, the owner resets it."""
    app = log_ins.with_totp()
    token = log_ins.log_in(code=app.at(log_ins.clock.now))
    log_ins.operators.set_password("alice", OTHER)
    operators = log_ins.operators
    for change in (
        partial(operators.set_password, "alice", PASSWORD, session_token=token),
        partial(log_ins.two_step.disable, "alice", session_token=token),
        partial(log_ins.two_step.enable, "alice", pyotp.random_base32(), "000000", token),
    ):
        with pytest.raises(LoggedOutError):
            change()
    log_ins.clock.advance(timedelta(minutes=1))
    assert log_ins.log_in(OTHER, code=app.at(log_ins.clock.now))


def test_an_operator_has_so_many_sessions_at_once_and_those_used_last(log_ins: LogIns) -> None:
    """Each has a row on the operator's own page, which a seller could make so long that the service has no memory."""
    log_ins.operators.add("bob", Role.SELLER, OTHER)
    bobs = log_ins.log_in(OTHER, name="bob")
    first, second = (log_ins.log_in() for _ in range(2))
    for _ in range(MAX_SESSIONS - 2):
        log_ins.clock.advance(timedelta(minutes=2))
        last = log_ins.log_in()
    log_ins.clock.advance(timedelta(minutes=2))
    log_ins.sessions.identify(first)
    newest = log_ins.log_in()
    assert are_valid(log_ins, first, second, last, newest) == [True, False, True, True]
    assert OperatorSession.select().count() == MAX_SESSIONS + 1
    assert are_valid(log_ins, bobs) == [True], "the sessions of others stay"


def test_a_code_is_asked_for_only_once_the_password_is_right_and_to_a_limit(log_ins: LogIns) -> None:
    app = log_ins.with_totp()
    log_ins.attempt_wrongly()
    for code in (None, ""):
        log_ins.refuse(WantsCodeError, code=code)
    refused = Event.select(Event.actor, Event.ip, Event.details).where(Event.kind == "login_refused").order_by(Event.id)
    assert [details for *_, details in refused.tuples()] == [{"wrong": "password"}, *[{"wrong": "no code"}] * 2]
    assert {(actor, ip) for actor, ip, _ in refused.tuples()} == {("console:alice", HOME)}
    assert log_ins.log_in(code=app.at(log_ins.clock.now))
    for _ in range(FREE_FAILURES):
        log_ins.refuse(WantsCodeError)
    log_ins.refuse(LoginThrottledError)


def test_codes_of_half_a_minute_before_and_after_are_accepted_once_and_none_older_after_them(log_ins: LogIns) -> None:
    app = log_ins.with_totp()
    for steps in (-100, -2, -1, 0, 1, 2):
        log_ins.clock.advance(timedelta(minutes=5))
        code = app.at(log_ins.clock.now, counter_offset=steps)
        with nullcontext() if abs(steps) <= 1 else pytest.raises(LoginRefusedError):
            assert log_ins.identify(code=f"{code[:3]} {code[3:]}"), steps
            for used in (code, app.at(log_ins.clock.now, counter_offset=steps - 1)):
                log_ins.refuse(LoginRefusedError, code=used)


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
    log_ins.refuse(LoginRefusedError, code=code)
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

    def attempt() -> None:
        # Each as in a process of its own: what they share is the database.
        sessions = Sessions(database, log_ins.clock, SEALING, Meeting())
        if how == "confirming":
            sessions.confirm(log_ins.alice, PASSWORD, code, address=HOME)
        else:
            sessions.log_in("alice", PASSWORD, code, HOME)

    assert outcomes_at_once(database, [attempt] * 4, LoginRefusedError).count(None) == 1
    assert OperatorSession.select().count() == (0 if how == "confirming" else 1)


def test_wrong_codes_are_throttled_across_networks(log_ins: LogIns) -> None:
    app = log_ins.with_totp()
    identity = log_ins.identify(code=app.at(log_ins.clock.now))
    log_ins.clock.advance(timedelta(minutes=1))
    for host in range(FREE_FAILURES):
        log_ins.refuse(LoginRefusedError, code="000000", address=f"203.0.113.{host}")
    log_ins.refuse(LoginThrottledError, code=app.at(log_ins.clock.now), address="203.0.113.200")
    right = app.at(log_ins.clock.now)
    with pytest.raises(LoginThrottledError):
        log_ins.sessions.confirm(identity, PASSWORD, right, address=HOME)
    log_ins.clock.advance(timedelta(seconds=1))
    log_ins.sessions.confirm(identity, PASSWORD, right, address=HOME)
    assert LoginFailure.get_or_none(LoginFailure.bucket.startswith("code:")) is None, "a success forgets them"


def test_a_start_seals_what_was_in_clear(log_ins: LogIns, database: Database, caplog: pytest.LogCaptureFixture) -> None:
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
    other = Sessions(database, clock, SealingKey("00" * 32), CheapPasswords())
    with pytest.raises(LoginRefusedError):
        other.log_in("alice", PASSWORD, app.at(clock.now), HOME)
    assert "a second factor does not open" in caplog.text
    mallory = pyotp.TOTP(pyotp.random_base32())
    Operator.update(totp_secret=SEALING.seal("operator", Operator.get().id + 1, mallory.secret)).execute()
    log_ins.refuse(LoginRefusedError, code=mallory.at(clock.now))
