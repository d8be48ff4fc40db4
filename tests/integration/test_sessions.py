"""Log-ins: who comes in, for how long, and who must wait."""

import contextlib
import threading
import time
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Literal

import pyotp
import pytest
from argon2 import PasswordHasher

from app.domain.operators import FREE_FAILURES, MAX_PASSWORD, Role
from app.services.credentials import LoginRefusedError, LoginThrottledError, WantsCodeError
from app.services.operators import OperatorNotFoundError, Operators
from app.services.passwords import STRANGERS, LoginBusyError, Passwords
from app.services.sessions import Identity, LoggedIn, Sessions
from app.storage.database import Database
from app.storage.models import Event, LoginFailure, Operator, OperatorDevice, OperatorSession
from tests.conftest import Clock
from tests.passwords import OTHER, PASSWORD, CheapPasswords

HOME, CAFE = "198.51.100.1", "2001:db8:1:2::3"


class Door:
    """The console's door, and the vendor in front of it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.clock = clock
        self.passwords = CheapPasswords()
        self.sessions = Sessions(database, clock, self.passwords)
        self.operators = Operators(database, "tester", clock, self.passwords)
        self.operators.add("alice", Role.OWNER, PASSWORD)
        self.alice = Identity(Operator.get().id, "alice", Role.OWNER, has_totp=False)

    def log_in(
        self,
        password: str = PASSWORD,
        name: str = "alice",
        code: str | None = None,
        address: str = HOME,
        device: str | None = None,
    ) -> LoggedIn:
        return self.sessions.log_in(name, password, code, address=address, device=device)

    def fail(self, times: int = 1, **how: str | None) -> None:
        """Fail so often, waiting as long as is asked for."""
        for _ in range(times):
            try:
                self.attempt_wrongly(**how)
            except LoginThrottledError as error:
                self.clock.advance(timedelta(seconds=error.retry_after))
                self.attempt_wrongly(**how)

    def attempt_wrongly(self, **how: str | None) -> None:
        with pytest.raises(LoginRefusedError):
            self.log_in(OTHER, **how)  # type: ignore[arg-type]

    def with_totp(self) -> pyotp.TOTP:
        secret = self.operators.begin_totp()
        app = pyotp.TOTP(secret)
        self.operators.enable_totp("alice", secret, app.at(self.clock.now))
        self.clock.advance(timedelta(seconds=30))
        return app


@pytest.fixture
def door(database: Database, clock: Clock) -> Door:
    return Door(database, clock)


def test_name_and_password_open_a_session(door: Door) -> None:
    assert door.sessions.identify(door.log_in().session_token) == door.alice
    entry = Event.get(Event.kind == "logged_in")
    assert (entry.actor, entry.ip, entry.details) == ("console:alice", HOME, None)


def test_what_a_phones_keyboard_adds_does_no_harm(door: Door) -> None:
    door.log_in(name=" alice ", password="ｃｏｒｒｅｃｔ horse battery")


@pytest.mark.parametrize("name", ["alice", "bob", "", "a\0", "\ud800", "x" * 10_000])
def test_wrong_ones_are_refused_in_the_same_words(door: Door, name: str) -> None:
    with pytest.raises(LoginRefusedError) as refusal:
        door.log_in(OTHER, name=name)
    assert type(refusal.value) is LoginRefusedError
    assert refusal.value.text == LoginRefusedError().text
    assert OperatorSession.select().count() == 0


@pytest.mark.parametrize("password", ["", "a\0b", "\ud800", PASSWORD + " ", PASSWORD.upper()])
def test_odd_passwords_are_wrong_ones(door: Door, password: str) -> None:
    with pytest.raises(LoginRefusedError):
        door.log_in(password)


def test_the_longest_password_is_one_and_nothing_that_begins_with_it(door: Door) -> None:
    longest = (PASSWORD * 20)[:MAX_PASSWORD]
    door.operators.set_password("alice", longest)
    door.log_in(longest)
    with pytest.raises(LoginRefusedError):
        door.log_in(longest + "!")


def test_what_is_typed_is_not_normalised_at_any_length(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Normalising marks that combine takes time by the square of their number, and lets no other thread run."""
    lengths: list[int] = []
    normalize = unicodedata.normalize

    def noting(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
        lengths.append(len(text))
        return normalize(form, text[:MAX_PASSWORD])

    door.with_totp()
    monkeypatch.setattr(unicodedata, "normalize", noting)
    marks = "\u0301\u0316" * 60_000
    for name, password, code in (("alice", marks, None), ("nobody", marks, None), ("alice", PASSWORD, marks)):
        with pytest.raises(LoginRefusedError):
            door.log_in(password, name=name, code=code)
    assert len(door.passwords.checked) == 3, "each of them at the cost of a hash"
    assert len(lengths) >= 3
    assert max(lengths) <= MAX_PASSWORD


def test_an_unknown_name_costs_a_hash_with_the_same_parameters(door: Door) -> None:
    for name in ("alice", "bob"):
        with pytest.raises(LoginRefusedError):
            door.log_in(OTHER, name=name)
    assert door.passwords.checked == [Operator.get().password_hash, None]

    class Seeing(PasswordHasher):
        """Notes what it is to compare with."""

        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002  # its name there
            seen.append(str(hash))
            return super().verify(hash, password)

    seen: list[str] = []
    passwords = Passwords(Seeing(time_cost=1, memory_cost=64, parallelism=1))
    assert not passwords.matches(None, OTHER)
    assert [part.split("$")[:4] for part in seen] == [passwords.hash(OTHER).split("$")[:4]]


def test_a_refusal_is_journalled_without_what_was_typed_where_nobody_has_that_name(door: Door) -> None:
    for name in ("alice", OTHER):
        with pytest.raises(LoginRefusedError):
            door.log_in(OTHER, name=name)
    entries = Event.select().where(Event.kind == "login_refused").order_by(Event.id)
    assert [(e.actor, e.ip, e.details) for e in entries] == [
        ("console:alice", HOME, {"wrong": "password"}),
        (None, HOME, {"wrong": "password"}),
    ]


def test_nothing_that_a_thief_could_use_is_stored(door: Door, database: Database) -> None:
    logged_in = door.log_in()
    with pytest.raises(LoginRefusedError):
        door.log_in(OTHER, name=OTHER)
    for table in ("operator", "operator_session", "operator_device", "login_failure", "event"):
        stored = str(database.execute_sql(f"SELECT * FROM {table}").fetchall())  # noqa: S608  # from the line above
        assert not [secret for secret in (*logged_in, PASSWORD, OTHER) if secret in stored]


def test_hashes_are_argon2id_as_rfc_9106_recommends_for_little_memory() -> None:
    assert Passwords().hash(PASSWORD).startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_a_hash_with_old_parameters_is_made_anew_at_the_next_log_in(door: Door, database: Database) -> None:
    stronger = Sessions(database, door.clock, CheapPasswords(time_cost=2))
    first = stronger.log_in("alice", PASSWORD, None, address=HOME, device=None)
    assert ",t=2," in Operator.get().password_hash
    stronger.log_in("alice", PASSWORD, None, address=HOME, device=None)
    assert stronger.identify(first.session_token)


# How long a session holds.


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
    door.sessions.end(here)
    door.sessions.end("nobody's")
    assert door.sessions.identify(here) is None
    assert door.sessions.identify(there)


def test_the_other_sessions_can_be_ended_from_one(door: Door) -> None:
    door.operators.add("bob", Role.SELLER, OTHER)
    bobs = door.log_in(OTHER, name="bob").session_token
    here, there = door.log_in().session_token, door.log_in().session_token
    door.sessions.end_others(door.alice.id, here)
    assert [door.sessions.identify(token) is not None for token in (here, there, bobs)] == [True, False, True]


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


# How often somebody may fail.


def test_who_keeps_failing_must_wait_ever_longer(door: Door) -> None:
    door.fail(FREE_FAILURES)
    waits = []
    for _ in range(4):
        with pytest.raises(LoginThrottledError) as refusal:
            door.log_in()
        waits.append(refusal.value.retry_after)
        door.fail()
    assert waits == [1, 2, 4, 8]


def test_a_throttled_attempt_costs_no_hash_and_no_line_in_the_journal(door: Door) -> None:
    door.fail(FREE_FAILURES)
    before = len(door.passwords.checked), Event.select().count()
    for _ in range(3):
        with pytest.raises(LoginThrottledError):
            door.log_in()
    assert (len(door.passwords.checked), Event.select().count()) == before


def test_success_forgets_the_failures_of_the_name_there(door: Door) -> None:
    door.fail(FREE_FAILURES - 1)
    door.log_in()
    assert [row.bucket for row in LoginFailure.select()] == [f"network:{HOME}"]


def test_who_can_log_in_wins_no_more_guesses_for_their_network(door: Door) -> None:
    door.operators.add("bob", Role.SELLER, OTHER)
    for attempt in range(4 * FREE_FAILURES):
        if attempt % 4 == 0:
            door.log_in(OTHER, name="bob")
        door.attempt_wrongly(name=f"name{attempt}")
    with pytest.raises(LoginThrottledError):
        door.attempt_wrongly()


def test_failures_are_forgotten_after_an_hour(door: Door) -> None:
    door.fail(FREE_FAILURES + 8)
    door.clock.advance(timedelta(hours=1))
    door.fail(FREE_FAILURES)
    with pytest.raises(LoginThrottledError, match="1"):
        door.log_in()


def test_a_network_may_fail_four_times_as_often_however_many_names_it_tries(door: Door) -> None:
    for attempt in range(4 * FREE_FAILURES):
        door.attempt_wrongly(name=f"name{attempt}")
    with pytest.raises(LoginThrottledError):
        door.log_in()


def test_addresses_of_one_ipv6_network_count_as_one(door: Door) -> None:
    for host in range(FREE_FAILURES):
        door.attempt_wrongly(address=f"2001:db8:1:2::{host:x}")
    with pytest.raises(LoginThrottledError):
        door.log_in(address=CAFE)
    door.log_in(address="2001:db8:1:3::3")


def test_an_attacker_elsewhere_locks_nobody_out(door: Door) -> None:
    for host in range(100):
        door.fail(FREE_FAILURES, address=f"203.0.113.{host}")
    door.log_in()


def test_an_attacker_behind_the_same_address_does_not_lock_out_a_browser_that_is_known(door: Door) -> None:
    device = door.log_in().device_token
    door.fail(40)
    with pytest.raises(LoginThrottledError):
        door.log_in()
    with pytest.raises(LoginThrottledError):
        door.log_in(device="made up")
    assert door.log_in(device=device).device_token == device


def test_a_known_browser_cannot_guess_for_ever_either(door: Door) -> None:
    device = door.log_in().device_token
    door.fail(FREE_FAILURES, device=device)
    with pytest.raises(LoginThrottledError):
        door.log_in(device=device)
    door.log_in()


def test_a_browser_that_one_operator_is_known_by_is_a_stranger_for_the_others(door: Door) -> None:
    door.operators.add("bob", Role.SELLER, OTHER)
    device = door.log_in(OTHER, name="bob").device_token
    door.fail(FREE_FAILURES, device=device)
    with pytest.raises(LoginThrottledError):
        door.log_in(device=device)
    assert {row.operator.name for row in OperatorDevice.select()} == {"bob"}


def test_attempts_side_by_side_are_counted_one_by_one(door: Door, database: Database) -> None:
    device = door.log_in().device_token  # strangers would be turned away for coming all at once

    class Slow(CheapPasswords):
        """Leaves the others time to be let through, too."""

        def matches(self, password_hash: str | None, password: str) -> bool:
            time.sleep(0.02)
            return super().matches(password_hash, password)

    sessions = Sessions(database, door.clock, Slow())

    def attempt(_: int) -> type[Exception]:
        try:
            while True:
                with contextlib.suppress(LoginBusyError):  # one of them at a time
                    sessions.log_in("alice", OTHER, None, address=HOME, device=device)
        except (LoginRefusedError, LoginThrottledError) as error:
            return type(error)
        finally:
            database.close()

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(attempt, range(16)))
    assert outcomes.count(LoginRefusedError) == FREE_FAILURES


def test_however_many_strangers_come_a_known_browser_gets_its_turn(door: Door) -> None:
    device = door.log_in().device_token
    inside, leave = threading.Semaphore(0), threading.Event()

    def dawdle() -> None:
        with door.passwords.turn(None):
            inside.release()
            leave.wait(20)

    with ThreadPoolExecutor(STRANGERS + 1) as pool:
        strangers = [pool.submit(dawdle) for _ in range(STRANGERS)]
        assert inside.acquire(timeout=20)
        with pytest.raises(LoginBusyError):
            door.log_in()
        vendor = pool.submit(door.log_in, device=device)
        leave.set()
        assert vendor.result(20).device_token == device
        assert [stranger.result(20) for stranger in strangers] == [None] * STRANGERS


def test_who_waits_too_long_for_a_turn_is_told_so(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.passwords.WAIT_SECONDS", 0.0)
    inside, leave = threading.Event(), threading.Event()

    def dawdle() -> None:
        with door.passwords.turn("console:bob"):
            inside.set()
            leave.wait(20)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(dawdle)
        assert inside.wait(20)
        with pytest.raises(LoginBusyError):
            door.log_in()
        leave.set()
    door.log_in()


class Dawdler:
    """Somebody whose password is being checked, for as long as the test wants."""

    def __init__(self, passwords: Passwords, known: str) -> None:
        self._inside, self._leave = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._done = self._pool.submit(self._dawdle, passwords, known)
        assert self._inside.wait(20)

    def _dawdle(self, passwords: Passwords, known: str) -> None:
        with passwords.turn(known):
            self._inside.set()
            self._leave.wait(20)

    def leave(self) -> None:
        self._leave.set()
        self._done.result(20)
        self._pool.shutdown()


def test_whoever_is_known_takes_one_place_and_leaves_the_others_theirs(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.passwords.WAIT_SECONDS", 60.0)  # who is refused at once has not waited
    door.operators.add("bob", Role.SELLER, OTHER)
    identity = door.sessions.identify(door.log_in(OTHER, name="bob").session_token)
    device = door.log_in().device_token
    assert identity is not None
    seller = Dawdler(door.passwords, "console:bob")
    for _ in range(3):
        with pytest.raises(LoginBusyError):
            door.sessions.confirm(identity, OTHER, address=HOME)
    with ThreadPoolExecutor(1) as pool:
        vendor = pool.submit(door.log_in, device=device)
        seller.leave()
        assert vendor.result(20).device_token == device
    door.sessions.confirm(identity, OTHER, address=HOME)


def test_who_must_wait_anyway_takes_no_place_in_the_queue(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.passwords.WAIT_SECONDS", 0.0)
    identity = door.sessions.identify(door.log_in().session_token)
    assert identity is not None
    for _ in range(FREE_FAILURES):
        with pytest.raises(LoginRefusedError):
            door.sessions.confirm(identity, OTHER, address=HOME)
    door.fail(FREE_FAILURES, address=CAFE)
    somebody = Dawdler(door.passwords, "console:bob")
    with pytest.raises(LoginThrottledError):
        door.log_in(address=CAFE)
    with pytest.raises(LoginThrottledError):
        door.sessions.confirm(identity, PASSWORD, address=HOME)
    somebody.leave()


def test_failures_while_somebody_waits_for_their_turn_count(door: Door, database: Database) -> None:
    waiting = threading.Event()

    class Telling(CheapPasswords):
        """Says when somebody has come so far as to want a turn."""

        @contextlib.contextmanager
        def turn(self, known: str | None) -> Iterator[None]:
            waiting.set()
            with super().turn(known):
                yield

    passwords = Telling()
    sessions = Sessions(database, door.clock, passwords)
    somebody = Dawdler(passwords, "console:bob")
    waiting.clear()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(sessions.log_in, "alice", PASSWORD, None, address=HOME, device=None)
        assert waiting.wait(20)
        door.fail(FREE_FAILURES)  # as in another process
        somebody.leave()
        with pytest.raises(LoginThrottledError):
            waits.result(20)


# The second factor.


def test_a_code_is_asked_for_only_once_the_password_is_right(door: Door) -> None:
    app = door.with_totp()
    door.attempt_wrongly()
    for code in (None, ""):
        with pytest.raises(WantsCodeError):
            door.log_in(code=code)
    refused = Event.select(Event.actor, Event.ip, Event.details).where(Event.kind == "login_refused").order_by(Event.id)
    assert [details for *_, details in refused.tuples()] == [{"wrong": "password"}, *[{"wrong": "no code"}] * 2]
    assert {(actor, ip) for actor, ip, _ in refused.tuples()} == {("console:alice", HOME)}
    device = door.log_in(code=app.at(door.clock.now)).device_token
    with pytest.raises(WantsCodeError):
        door.log_in(device=device)
    assert refused.count() == 3, "in a browser that is known nobody wonders"


def test_who_has_the_password_and_no_code_cannot_fill_the_journal(door: Door) -> None:
    door.with_totp()
    for _ in range(FREE_FAILURES):
        with pytest.raises(WantsCodeError):
            door.log_in()
    with pytest.raises(LoginThrottledError):
        door.log_in()


@pytest.mark.parametrize("steps", [-1, 0, 1])
def test_codes_of_half_a_minute_before_and_after_are_taken(door: Door, steps: int) -> None:
    app = door.with_totp()
    door.clock.advance(timedelta(minutes=5))
    code = app.at(door.clock.now, counter_offset=steps)
    assert door.sessions.identify(door.log_in(code=f"{code[:3]} {code[3:]}").session_token)


@pytest.mark.parametrize("code", ["000000", "12345", "1234567", "abcdef", "\0", "\ud800", "9" * 10_000])
def test_wrong_codes_are_refused_in_the_words_for_a_wrong_password(door: Door, code: str) -> None:
    door.with_totp()
    with pytest.raises(LoginRefusedError) as refusal:
        door.log_in(code=code)
    assert refusal.value.text == LoginRefusedError().text
    assert Event.get(Event.kind == "login_refused").details == {"wrong": "code"}


@pytest.mark.parametrize("steps", [-2, 2, 100])
def test_other_codes_of_the_same_secret_are_wrong(door: Door, steps: int) -> None:
    app = door.with_totp()
    door.clock.advance(timedelta(minutes=5))
    with pytest.raises(LoginRefusedError):
        door.log_in(code=app.at(door.clock.now, counter_offset=steps))


def test_no_code_is_taken_twice_nor_an_older_one_after_it(door: Door) -> None:
    app = door.with_totp()
    door.clock.advance(timedelta(minutes=5))
    code, older = app.at(door.clock.now), app.at(door.clock.now, counter_offset=-1)
    door.log_in(code=code)
    for used in (code, older):
        with pytest.raises(LoginRefusedError):
            door.log_in(code=used)


def test_the_code_that_enabled_it_is_not_taken_again(door: Door) -> None:
    secret = door.operators.begin_totp()
    code = pyotp.TOTP(secret).at(door.clock.now)
    door.operators.enable_totp("alice", secret, code)
    with pytest.raises(LoginRefusedError):
        door.log_in(code=code)


def test_a_code_that_two_use_at_once_lets_one_in(door: Door, database: Database) -> None:
    app = door.with_totp()
    both_checked = threading.Barrier(2, timeout=20)

    class Meeting(CheapPasswords):
        """Both have looked at the operator and their password before either goes on."""

        def matches(self, password_hash: str | None, password: str) -> bool:
            is_right = super().matches(password_hash, password)
            both_checked.wait()
            return is_right

    def attempt(_: int) -> bool:
        try:
            # Each as in a process of its own: what they share is the database.
            sessions = Sessions(database, door.clock, Meeting())
            sessions.log_in("alice", PASSWORD, app.at(door.clock.now), address=HOME, device=None)
        except LoginRefusedError:
            return False
        finally:
            database.close()
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(attempt, range(2))) == [False, True]
    assert OperatorSession.select().count() == 1


def test_who_has_the_password_cannot_try_codes_from_everywhere(door: Door) -> None:
    app = door.with_totp()
    device = door.log_in(code=app.at(door.clock.now)).device_token
    door.clock.advance(timedelta(minutes=1))
    for host in range(FREE_FAILURES):
        with pytest.raises(LoginRefusedError):
            door.log_in(code="000000", address=f"203.0.113.{host}")
    with pytest.raises(LoginThrottledError):
        door.log_in(code="000000", address="203.0.113.200")
    door.log_in(code=app.at(door.clock.now), device=device)


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
