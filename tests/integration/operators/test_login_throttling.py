"""Throttling of log-ins, and the queue for hashing passwords."""
# Owns login-throttling.

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count

import pytest
from argon2 import PasswordHasher

from app.domain.operators.operators import FREE_FAILURES, Role
from app.services.operators.passwords import LoginBusyError, Passwords
from app.services.operators.sessions import LoginRefusedError, LoginThrottledError, Sessions
from app.storage.database import Database
from app.storage.models import Event, LoginFailure
from tests.support.console.console import Browser, add_operator
from tests.support.console.log_ins import CAFE, HOME, LogIns
from tests.support.secrets import OTHER, PASSWORD, SEALING, CheapPasswords
from tests.support.services.service import Service, wait_for


class Dawdler:
    """Somebody whose password is being checked, for as long as the test wants."""

    def __init__(self, passwords: Passwords) -> None:
        self._inside, self._leave = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._done = self._pool.submit(self._dawdle, passwords)
        assert self._inside.wait(60)

    def _dawdle(self, passwords: Passwords) -> None:
        with passwords.turn():
            self._inside.set()
            self._leave.wait(60)

    def close(self) -> None:
        self._leave.set()
        self._done.result(60)
        self._pool.shutdown()


def test_repeated_failures_wait_ever_longer_and_cost_neither_a_hash_nor_a_journal_entry(log_ins: LogIns) -> None:
    log_ins.fail(FREE_FAILURES)
    before = len(log_ins.passwords.checked), Event.select().count()
    for _ in range(3):
        with pytest.raises(LoginThrottledError):
            log_ins.log_in()
    assert (len(log_ins.passwords.checked), Event.select().count()) == before
    waits = []
    for _ in range(4):
        with pytest.raises(LoginThrottledError) as refusal:
            log_ins.log_in()
        waits.append(refusal.value.retry_after)
        log_ins.fail()
    assert waits == [1, 2, 4, 8]


def test_success_forgets_the_failures_of_the_name_there(log_ins: LogIns) -> None:
    log_ins.fail(FREE_FAILURES - 1)
    log_ins.log_in()
    assert [row.bucket for row in LoginFailure.select()] == [f"network:{HOME}"]


def test_a_network_may_fail_four_times_as_often_whatever_names_it_tries_and_if_one_succeeds(log_ins: LogIns) -> None:
    log_ins.operators.add("bob", Role.SELLER, OTHER)
    for attempt in range(4 * FREE_FAILURES):
        if attempt % 4 == 0:
            log_ins.log_in(OTHER, name="bob")
        log_ins.attempt_wrongly(name=f"name{attempt}")
    with pytest.raises(LoginThrottledError):
        log_ins.log_in()


def test_failures_are_forgotten_after_an_hour(log_ins: LogIns) -> None:
    log_ins.fail(FREE_FAILURES + 8)
    log_ins.clock.advance(timedelta(hours=1))
    log_ins.fail(FREE_FAILURES)
    with pytest.raises(LoginThrottledError, match="1"):
        log_ins.log_in()


def test_addresses_of_an_ipv6_network_count_as_one_and_a_site_may_fail_five_times_as_often(log_ins: LogIns) -> None:
    site = [(f"name{network}", f"2001:db8:1:{network + 16:x}::1") for network in range(5 * 4 * FREE_FAILURES)]
    network = [("alice", f"2001:db8:1:2::{host:x}") for host in range(FREE_FAILURES)]
    for failing, elsewhere in ((network, "2001:db8:1:3::3"), (site, "2001:db8:2::1")):
        for name, address in failing:
            log_ins.attempt_wrongly(name=name, address=address)
        with pytest.raises(LoginThrottledError):
            log_ins.log_in(address=CAFE)
        log_ins.log_in(address=elsewhere)
        LoginFailure.delete().execute()


def test_an_attacker_elsewhere_locks_nobody_out(log_ins: LogIns) -> None:
    for host in range(20):
        log_ins.fail(FREE_FAILURES, address=f"203.0.113.{host}")
    log_ins.log_in()


def test_parallel_attempts_are_counted_one_by_one(log_ins: LogIns, database: Database) -> None:
    class Slow(CheapPasswords):
        """Leaves the others time to be let through, too."""

        def matches(self, password_hash: str | None, password: str) -> bool:
            time.sleep(0.02)
            return super().matches(password_hash, password)

    sessions = Sessions(database, log_ins.clock, SEALING, Slow())

    def attempt(_: int) -> type[Exception] | None:
        try:
            sessions.log_in("alice", OTHER, None, HOME)
        except (LoginRefusedError, LoginThrottledError) as error:
            return type(error)
        finally:
            database.close()
        return None

    with ThreadPoolExecutor(10) as pool:  # as many may wait
        outcomes = list(pool.map(attempt, range(10)))
    assert outcomes.count(LoginRefusedError) == FREE_FAILURES


def test_hashes_are_computed_by_a_thread_that_gives_way_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    class Hasher(PasswordHasher):
        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            return super().hash(password, salt=salt)

    niceness: list[int] = []
    passwords = Passwords(Hasher(time_cost=1, memory_cost=64, parallelism=1))
    hashed = passwords.hash(PASSWORD)
    assert niceness == [19]
    assert not passwords.matches(hashed, OTHER)
    assert capfd.readouterr().err == "", "a thread's exceptions are printed"
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) < niceness[0]


def test_waiting_too_long_for_a_turn_is_refused_and_who_is_throttled_takes_none(
    log_ins: LogIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.operators.passwords.WAIT_SECONDS", 0.0)
    identity = log_ins.identify()
    with contextlib.closing(Dawdler(log_ins.passwords)), pytest.raises(LoginBusyError):
        log_ins.log_in()
    log_ins.fail(FREE_FAILURES)
    with contextlib.closing(Dawdler(log_ins.passwords)):
        with pytest.raises(LoginThrottledError):
            log_ins.log_in()
        with pytest.raises(LoginThrottledError):
            log_ins.sessions.confirm(identity, PASSWORD, address=HOME)


def test_failures_count_while_another_attempt_waits(log_ins: LogIns, database: Database) -> None:
    waiting = threading.Event()

    class Telling(CheapPasswords):
        """Says when somebody has come so far as to want a turn."""

        @contextlib.contextmanager
        def turn(self) -> Iterator[None]:
            waiting.set()
            with super().turn():
                yield

    passwords = Telling()
    sessions = Sessions(database, log_ins.clock, SEALING, passwords)
    somebody = Dawdler(passwords)
    waiting.clear()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(sessions.log_in, "alice", PASSWORD, None, HOME)
        assert waiting.wait(60)
        log_ins.fail(FREE_FAILURES)  # as in another process
        somebody.close()
        with pytest.raises(LoginThrottledError):
            waits.result(60)


def test_an_owner_gets_in_through_a_flood_of_wrong_log_ins_from_many_addresses(one_worker: Service) -> None:
    add_operator("olga")
    numbers, answers, is_over = count(), [], threading.Event()

    def attack() -> None:
        while not is_over.is_set():
            browser = Browser(one_worker, address=f"2001:db8:{next(numbers):x}::1")
            answers.append(browser.post("/admin/login", {"name": "olga", "password": "wrong"}, csrf="").status)

    with ThreadPoolExecutor(5) as pool:
        attacks = [pool.submit(attack) for _ in range(5)]
        try:
            wait_for(lambda: len(answers) > len(attacks))
            for number in range(3):
                Browser(one_worker, address=f"198.51.100.{number}").log_in("olga")
        finally:
            is_over.set()
        assert [attack.result(60) for attack in attacks] == [None] * len(attacks)
    assert set(answers) <= {403, 429}  # of a busy machine, some do not get their turn in time
