"""How often operators log in and change accounts within a day: without a bound they would fill the journal."""

from datetime import timedelta

import pytest

from app.domain.codes import EventKind
from app.domain.operators import MAX_ACCOUNT_CHANGES_PER_DAY, MAX_LOG_INS_PER_DAY, Role
from app.domain.texts import RefusedError
from app.services.credentials import LoginThrottledError
from app.services.operators import Operators
from app.storage import journal
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.models import Event, OperatorDevice, OperatorSession
from tests.support.console import PASSWORD as CONSOLE_PASSWORD
from tests.support.console import Browser, add_operator
from tests.support.log_ins import HOME, LogIns
from tests.support.passwords import OTHER, PASSWORD
from tests.support.second_factors import FACTORS
from tests.support.service import Service


def journalled(log_ins: LogIns, kind: EventKind, times: int, actor: str = "console:alice") -> None:
    log_ins.clock.advance(timedelta(seconds=1))
    journal.append([Entry(log_ins.clock.now, kind, ip=HOME, actor=actor)] * times)


def test_an_operator_logs_in_so_often_within_a_day(log_ins: LogIns) -> None:
    journalled(log_ins, EventKind.LOGGED_IN, MAX_LOG_INS_PER_DAY - 1)
    log_ins.clock.advance(timedelta(hours=1))
    log_ins.log_in()
    before = OperatorSession.select().count(), OperatorDevice.select().count(), Event.select().count()
    with pytest.raises(LoginThrottledError) as refusal:
        log_ins.log_in()
    assert refusal.value.text.en.startswith(f"at most {MAX_LOG_INS_PER_DAY} log-ins within 24 hours")
    assert refusal.value.retry_after == timedelta(hours=23).total_seconds()
    assert (OperatorSession.select().count(), OperatorDevice.select().count(), Event.select().count()) == before
    log_ins.clock.advance(timedelta(hours=23, microseconds=1))
    log_ins.log_in()


def test_the_log_ins_of_others_do_not_count(log_ins: LogIns) -> None:
    log_ins.operators.add("bob", Role.SELLER, OTHER)
    journalled(log_ins, EventKind.LOGGED_IN, MAX_LOG_INS_PER_DAY, actor="console:bob")
    log_ins.log_in()


def test_a_new_password_lets_an_operator_in_at_once(log_ins: LogIns) -> None:
    """Whoever has the old one must not keep the operator out for a day."""
    journalled(log_ins, EventKind.LOGGED_IN, MAX_LOG_INS_PER_DAY)
    log_ins.clock.advance(timedelta(seconds=1))
    with pytest.raises(LoginThrottledError):
        log_ins.log_in()
    log_ins.operators.set_password("alice", OTHER)
    log_ins.log_in(OTHER)


def test_a_refused_log_in_uses_no_code_up(log_ins: LogIns) -> None:
    app = log_ins.with_totp()
    journalled(log_ins, EventKind.LOGGED_IN, MAX_LOG_INS_PER_DAY)
    code = app.at(log_ins.clock.now)
    with pytest.raises(LoginThrottledError):
        log_ins.log_in(code=code)
    log_ins.clock.advance(timedelta(seconds=1))
    log_ins.operators.set_password("alice", OTHER)
    log_ins.log_in(OTHER, code=code)


def test_accounts_are_changed_so_often_within_a_day_in_the_console(log_ins: LogIns, database: Database) -> None:
    in_console = Operators(database, "console:alice", log_ins.clock, FACTORS, log_ins.passwords)
    journalled(log_ins, EventKind.OPERATOR_CHANGED, MAX_ACCOUNT_CHANGES_PER_DAY - 1)
    in_console.set_password("alice", OTHER)
    with pytest.raises(RefusedError, match=f"at most {MAX_ACCOUNT_CHANGES_PER_DAY} changes of accounts"):
        in_console.set_password("alice", PASSWORD)
    log_ins.operators.set_password("alice", PASSWORD)  # the command line's actor has another name
    log_ins.clock.advance(timedelta(days=1, microseconds=1))
    in_console.set_password("alice", OTHER)


def test_the_log_in_page_says_when_it_is_too_often(service: Service, database: Database, log_ins: LogIns) -> None:
    add_operator("mallory", Role.SELLER)
    database.execute_sql(
        "INSERT INTO event (at, kind, actor, ip) SELECT now(), 'logged_in', 'console:mallory', '198.51.100.1'"
        " FROM generate_series(1, %s)",
        (MAX_LOG_INS_PER_DAY,),
    )
    browser = Browser(service, language="en")
    page = browser.get("/admin/login")
    answer = browser.submit(page, "/admin/login", name="mallory", password=CONSOLE_PASSWORD)
    assert answer.status == 429
    assert 86_300 < int(answer.headers["retry-after"]) <= 86_400
    assert f"at most {MAX_LOG_INS_PER_DAY} log-ins within 24 hours" in answer.words
