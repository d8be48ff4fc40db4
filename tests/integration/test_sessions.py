"""Sessions: how long they hold, what ends them, and the password once more within one."""

from datetime import timedelta

import pytest

from app.domain.operators import FREE_FAILURES, Role
from app.services.credentials import LoginRefusedError, LoginThrottledError
from app.services.operators import OperatorNotFoundError
from app.services.sessions import Sessions
from app.storage.database import Database
from app.storage.models import Event, OperatorSession
from tests.support.log_ins import HOME, Door
from tests.support.passwords import OTHER, PASSWORD, CheapPasswords


def logged_out() -> list[tuple[str, dict[str, int]]]:
    return [(entry.actor, entry.details) for entry in Event.select().where(Event.kind == "logged_out")]


def test_a_session_that_is_used_holds_for_seven_days(door: Door) -> None:
    token = door.log_in().session_token
    for _ in range(15):
        door.clock.advance(timedelta(hours=11))
        assert door.sessions.identify(token)
    door.clock.advance(timedelta(hours=3))
    assert door.sessions.identify(token) is None


def test_a_session_that_nobody_uses_ends_after_twelve_hours(door: Door) -> None:
    token = door.log_in().session_token
    door.clock.advance(timedelta(hours=11, minutes=59))
    assert door.sessions.identify(token)
    door.clock.advance(timedelta(hours=12))
    assert door.sessions.identify(token) is None


def test_a_session_is_touched_at_most_once_a_minute(door: Door) -> None:
    token, begun = door.log_in().session_token, door.clock.now
    door.clock.advance(timedelta(seconds=59))
    door.sessions.identify(token)
    assert OperatorSession.get().last_seen_at == begun
    door.clock.advance(timedelta(seconds=1))
    door.sessions.identify(token)
    assert OperatorSession.get().last_seen_at == door.clock.now


def test_logging_out_ends_this_session_alone(door: Door) -> None:
    here, there = door.log_in().session_token, door.log_in().session_token
    door.sessions.end(door.alice, here)
    door.sessions.end(door.alice, "nobody's")
    assert door.sessions.identify(here) is None
    assert door.sessions.identify(there)
    assert logged_out() == [("console:alice", {"sessions": 1})]


def test_the_other_sessions_can_be_ended_from_one(door: Door) -> None:
    door.operators.add("bob", Role.SELLER, OTHER)
    bobs = door.log_in(OTHER, name="bob").session_token
    here, there = door.log_in().session_token, door.log_in().session_token
    for _ in range(2):  # the second time there are none
        door.sessions.end_others(door.alice, here)
    assert [door.sessions.identify(token) is not None for token in (here, there, bobs)] == [True, False, True]
    assert logged_out() == [("console:alice", {"sessions": 1})]


@pytest.mark.parametrize("token", ["", "x", "a\0", "\ud800", "g" * 10_000])
def test_what_is_no_session_is_nobodys(door: Door, token: str) -> None:
    door.log_in()
    assert door.sessions.identify(token) is None


def test_a_new_password_ends_all_sessions_and_forgets_all_browsers(door: Door) -> None:
    logged_in = door.log_in()
    door.operators.set_password("alice", OTHER)
    assert door.sessions.identify(logged_in.session_token) is None
    with pytest.raises(LoginRefusedError):
        door.log_in(device=logged_in.device_token)
    assert door.log_in(OTHER, device=logged_in.device_token).device_token != logged_in.device_token


def test_a_removed_operators_sessions_end(door: Door) -> None:
    door.operators.add("bob", Role.SELLER, OTHER)
    token = door.log_in(OTHER, name="bob").session_token
    door.operators.remove("bob")
    assert door.sessions.identify(token) is None


def test_a_role_counts_from_the_next_request_on(door: Door) -> None:
    door.operators.add("bob", Role.SELLER, OTHER)
    token = door.log_in(OTHER, name="bob").session_token
    door.operators.set_role("bob", Role.OWNER)
    identity = door.sessions.identify(token)
    assert identity is not None
    assert identity.role is Role.OWNER


def test_a_password_that_changes_while_somebody_logs_in_with_the_old_one_lets_nobody_in(
    door: Door, database: Database
) -> None:
    class Slow(CheapPasswords):
        """The password changes while the old one is checked."""

        def matches(self, password_hash: str | None, password: str) -> bool:
            is_right = super().matches(password_hash, password)
            door.operators.set_password("alice", OTHER)
            return is_right

    with pytest.raises(LoginRefusedError):
        Sessions(database, door.clock, Slow()).log_in("alice", PASSWORD, None, address=HOME, device=None)
    assert OperatorSession.select().count() == 0


def test_the_console_knows_whether_there_is_anybody(door: Door) -> None:
    assert door.sessions.operators_exist()
    door.operators.remove("alice", force=True)
    assert not door.sessions.operators_exist()


# The password once more, before what a thief of the session must not do.


def test_a_session_can_be_confirmed_by_the_password(door: Door) -> None:
    identity = door.sessions.identify(door.log_in().session_token)
    assert identity is not None
    door.sessions.confirm(identity, PASSWORD, address=HOME)
    for _ in range(FREE_FAILURES):
        with pytest.raises(LoginRefusedError):
            door.sessions.confirm(identity, OTHER, address=HOME)
    with pytest.raises(LoginThrottledError):
        door.sessions.confirm(identity, PASSWORD, address=HOME)


def test_a_session_can_be_confirmed_by_password_and_code_each_code_once(door: Door) -> None:
    app = door.with_totp()
    identity = door.sessions.identify(door.log_in(code=app.at(door.clock.now)).session_token)
    assert identity is not None
    door.clock.advance(timedelta(seconds=30))
    code = app.at(door.clock.now)
    for password, wrong in ((OTHER, code), (PASSWORD, "000000"), (PASSWORD, "")):
        with pytest.raises(LoginRefusedError):
            door.sessions.confirm_with_code(identity, password, wrong, address=HOME)
    door.sessions.confirm_with_code(identity, PASSWORD, code, address=HOME)
    with pytest.raises(LoginRefusedError):
        door.sessions.confirm_with_code(identity, PASSWORD, code, address=HOME)


def test_strangers_behind_the_same_address_keep_nobody_from_confirming(door: Door) -> None:
    identity = door.sessions.identify(door.log_in().session_token)
    assert identity is not None
    door.fail(40)
    door.sessions.confirm(identity, PASSWORD, address=HOME)


def test_who_changed_their_password_goes_on_in_a_new_session(door: Door) -> None:
    door.log_in()
    door.operators.set_password("alice", OTHER)
    anew = door.sessions.begin_anew(door.alice)
    assert door.sessions.identify(anew.session_token)
    assert door.log_in(OTHER, device=anew.device_token).device_token == anew.device_token


def test_who_is_removed_at_that_moment_goes_on_in_none(door: Door) -> None:
    door.operators.remove("alice", force=True)
    with pytest.raises(OperatorNotFoundError):
        door.sessions.begin_anew(door.alice)


def test_the_other_sessions_are_shown_without_their_tokens_those_that_are_over_are_not(door: Door) -> None:
    door.log_in()
    door.clock.advance(timedelta(hours=13))
    there, here = door.log_in(), door.log_in()
    begun = door.clock.now
    door.clock.advance(timedelta(hours=1))
    door.sessions.identify(there.session_token)
    assert door.sessions.others(door.alice.id, here.session_token) == [(begun, door.clock.now)]
