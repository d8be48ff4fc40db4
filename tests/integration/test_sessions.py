"""Sessions: their lifetime, their end, and the confirmation by password."""

from datetime import timedelta
from functools import partial

import pytest

from app.domain.operators import FREE_FAILURES, MAX_SESSIONS, Role
from app.services.credentials import LoginRefusedError, LoginThrottledError
from app.services.operators import LoggedOutError, OperatorNotFoundError
from app.services.sessions import Sessions
from app.services.two_step import new_secret
from app.storage.database import Database
from app.storage.models import Event, OperatorSession
from tests.support.log_ins import HOME, LogIns
from tests.support.passwords import OTHER, PASSWORD, CheapPasswords
from tests.support.sealing import SEALING


def logged_out() -> list[tuple[str, dict[str, int]]]:
    return [(entry.actor, entry.details) for entry in Event.select().where(Event.kind == "logged_out")]


def test_a_used_session_lasts_seven_days(log_ins: LogIns) -> None:
    token = log_ins.log_in()
    for _ in range(15):
        log_ins.clock.advance(timedelta(hours=11))
        assert log_ins.sessions.identify(token)
    log_ins.clock.advance(timedelta(hours=3))
    assert log_ins.sessions.identify(token) is None


def test_an_unused_session_ends_after_twelve_hours(log_ins: LogIns) -> None:
    token = log_ins.log_in()
    log_ins.clock.advance(timedelta(hours=11, minutes=59))
    assert log_ins.sessions.identify(token)
    log_ins.clock.advance(timedelta(hours=12))
    assert log_ins.sessions.identify(token) is None


def test_a_session_is_touched_at_most_once_a_minute(log_ins: LogIns) -> None:
    token, begun = log_ins.log_in(), log_ins.clock.now
    log_ins.clock.advance(timedelta(seconds=59))
    log_ins.sessions.identify(token)
    assert OperatorSession.get().last_seen_at == begun
    log_ins.clock.advance(timedelta(seconds=1))
    log_ins.sessions.identify(token)
    assert OperatorSession.get().last_seen_at == log_ins.clock.now


def test_logging_out_ends_this_session_alone_and_the_others_can_be_ended_from_one(log_ins: LogIns) -> None:
    log_ins.operators.add("bob", Role.SELLER, OTHER)
    bobs = log_ins.log_in(OTHER, name="bob")
    here, there = log_ins.log_in(), log_ins.log_in()
    for _ in range(2):  # the second time there are none
        log_ins.sessions.end_others(log_ins.alice, here)
    assert [log_ins.sessions.identify(token) is not None for token in (here, there, bobs)] == [True, False, True]
    there = log_ins.log_in()
    log_ins.sessions.end(log_ins.alice, here)
    log_ins.sessions.end(log_ins.alice, "nobody's")
    assert [log_ins.sessions.identify(token) is not None for token in (here, there)] == [False, True]
    assert logged_out() == [("console:alice", {"sessions": 1})] * 2


def test_unknown_session_tokens_identify_nobody(log_ins: LogIns) -> None:
    for token in ["", "x", "a\0", "\ud800", "g" * 10_000]:
        log_ins.log_in()
        assert log_ins.sessions.identify(token) is None


def test_a_new_password_ends_all_sessions(log_ins: LogIns) -> None:
    token = log_ins.log_in()
    log_ins.operators.set_password("alice", OTHER)
    assert log_ins.sessions.identify(token) is None
    with pytest.raises(LoginRefusedError):
        log_ins.log_in()
    assert log_ins.log_in(OTHER)


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


# Confirmation by password, before changes that a stolen session must not make.


def test_a_session_can_be_confirmed_by_the_password(log_ins: LogIns) -> None:
    identity = log_ins.identify()
    log_ins.sessions.confirm(identity, PASSWORD, address=HOME)
    for _ in range(FREE_FAILURES):
        with pytest.raises(LoginRefusedError):
            log_ins.sessions.confirm(identity, OTHER, address=HOME)
    with pytest.raises(LoginThrottledError):
        log_ins.sessions.confirm(identity, PASSWORD, address=HOME)


def test_a_session_can_be_confirmed_by_password_and_code_each_code_once(log_ins: LogIns) -> None:
    app = log_ins.with_totp()
    identity = log_ins.identify(code=app.at(log_ins.clock.now))
    log_ins.clock.advance(timedelta(seconds=30))
    code = app.at(log_ins.clock.now)
    for password, wrong in ((OTHER, code), (PASSWORD, "000000"), (PASSWORD, ""), (PASSWORD, None)):
        with pytest.raises(LoginRefusedError):
            log_ins.sessions.confirm(identity, password, wrong, address=HOME)
    log_ins.sessions.confirm(identity, PASSWORD, code, address=HOME)
    with pytest.raises(LoginRefusedError):
        log_ins.sessions.confirm(identity, PASSWORD, code, address=HOME)


def test_a_change_of_password_begins_a_new_session(log_ins: LogIns) -> None:
    log_ins.log_in()
    changed_at = log_ins.operators.set_password("alice", OTHER)
    anew = log_ins.sessions.renew(log_ins.alice, changed_at)
    assert log_ins.sessions.identify(anew)


def test_no_new_session_begins_after_another_change_of_the_password_or_a_removal(log_ins: LogIns) -> None:
    changed_at = log_ins.operators.set_password("alice", OTHER)
    log_ins.clock.advance(timedelta(milliseconds=1))
    log_ins.operators.set_password("alice", PASSWORD)
    with pytest.raises(LoggedOutError):
        log_ins.sessions.renew(log_ins.alice, changed_at)
    log_ins.operators.remove("alice", force=True)
    with pytest.raises(OperatorNotFoundError):
        log_ins.sessions.renew(log_ins.alice, changed_at)


def test_a_change_that_waited_while_its_session_was_ended_is_not_made(log_ins: LogIns) -> None:
    """A thief has shown the old password; before the change is written, the owner resets it."""
    app = log_ins.with_totp()
    token = log_ins.log_in(code=app.at(log_ins.clock.now))
    log_ins.operators.set_password("alice", OTHER)
    operators = log_ins.operators
    for change in (
        partial(operators.set_password, "alice", PASSWORD, session_token=token),
        partial(log_ins.two_step.renew_recovery_codes, "alice", token),
        partial(log_ins.two_step.disable, "alice", session_token=token),
        partial(log_ins.two_step.enable, "alice", new_secret(), "000000", token),
    ):
        with pytest.raises(LoggedOutError):
            change()
    log_ins.clock.advance(timedelta(minutes=1))
    assert log_ins.log_in(OTHER, code=app.at(log_ins.clock.now))


def test_other_valid_sessions_are_listed_without_their_tokens(log_ins: LogIns) -> None:
    log_ins.log_in()
    log_ins.clock.advance(timedelta(hours=13))
    there, here = log_ins.log_in(), log_ins.log_in()
    begun = log_ins.clock.now
    log_ins.clock.advance(timedelta(hours=1))
    log_ins.sessions.identify(there)
    (other,) = log_ins.sessions.others(log_ins.alice.id, here)
    assert (other.created_at, other.last_seen_at) == (begun, log_ins.clock.now)


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
    is_there = [log_ins.sessions.identify(token) is not None for token in (first, second, last, newest)]
    assert is_there == [True, False, True, True]
    assert OperatorSession.select().count() == MAX_SESSIONS + 1
    assert log_ins.sessions.identify(bobs), "the sessions of others stay"
