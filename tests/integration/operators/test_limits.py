"""Limits of operators and shops: cards issued and changed, failed log-ins, and the queue for hashing passwords."""
# Owns action-ceilings, login-throttling.

import os
import threading
import time
from datetime import datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import pytest
from argon2 import PasswordHasher

from app.domain.cards.card_actions import Action
from app.domain.operators.ceilings import CeilingExceededError, Ceilings
from app.domain.operators.operators import FREE_FAILURES, Role, Scope
from app.services.cards.card_actions import CardActions
from app.services.cards.issuing import Issuing
from app.services.operators.ceilings import OwnerLimits, ceilings_of, set_ceilings
from app.services.operators.operators import Operators
from app.services.operators.passwords import LoginBusyError, Passwords
from app.services.operators.sessions import LoginRefusedError, LoginThrottledError, Sessions
from app.services.shop.idempotency import Owner
from app.services.shop.shop_tokens import ShopTokens
from app.storage.cards import NewCard
from app.storage.database import Database
from app.storage.models import ApiToken, Card, Ceiling, Event, File, FileBatch, LoginFailure, Operator
from tests.conftest import Clock
from tests.support.concurrency import outcomes_at_once
from tests.support.console.log_ins import CAFE, HOME, LogIns
from tests.support.secrets import OTHER, PASSWORD, SEALING, CheapPasswords

SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY = timedelta(days=1)
MONTH = 30 * DAY


@pytest.fixture(params=["operator", "shop"])
def owner(request: pytest.FixtureRequest, operators: Operators, tokens: ShopTokens) -> Owner:
    """An operator, or a shop: ten cards a day of at most 30 days."""
    ceilings = Ceilings(10, MONTH)
    if request.param == "operator":
        operators.add("sam", Role.SELLER, PASSWORD, ceilings._replace(changes_per_day=10))
        return Owner(operator_id=Operator.get().id)
    tokens.add("taobao", list(Scope))
    tokens.set_limits("taobao", tokens.limits("taobao")._replace(**ceilings.given()))
    return Owner(token_id=ApiToken.get().id)


@pytest.fixture
def limits(database: Database, owner: Owner) -> OwnerLimits:
    return OwnerLimits(owner, SHANGHAI)


@pytest.fixture
def limited(database: Database, clock: Clock, limits: OwnerLimits) -> Issuing:
    return Issuing(database, "tester", clock, limits)


def test_no_more_cards_are_issued_or_imported_than_allowed(limited: Issuing, limits: OwnerLimits, clock: Clock) -> None:
    limited.issue(7, MONTH)
    for count, validity, said in ((4, MONTH, "3 are left today"), (3, MONTH + DAY, "longest validity")):
        with pytest.raises(CeilingExceededError, match=said):
            limited.issue(count, validity)
    with pytest.raises(CeilingExceededError, match="longest validity"):
        limited.import_cards([NewCard("9" * 32, DAY, None, None, clock.now, clock.now + 31 * DAY)])
    assert (Card.select().count(), limits.issued_today(clock.now)) == (7, 7), "what was refused is not counted"
    begun = clock.now - 300 * DAY, clock.now + MONTH  # what is left of it counts
    limited.import_cards([NewCard("1" * 32, DAY, None, None), NewCard("2" * 32, 365 * DAY, None, None, *begun)])
    assert Card.select().where(Card.operator_id.is_null() & Card.token_id.is_null()).count() == 2, "nobody issued them"
    with limited.database.atomic():
        set_ceilings(limits.owner, Ceilings(10, MONTH))
    with pytest.raises(CeilingExceededError, match="1 are left today"):
        limited.issue(2, DAY)


def test_cards_that_get_a_file_are_issued_or_imported_by_owners(limited: Issuing, owner: Owner, clock: Clock) -> None:
    File.insert(name="a", size=1, sha256="0" * 64, added_at=clock.now).execute()
    FileBatch.insert_many([{"file_name": "a", "batch": batch} for batch in ("pro", "studio")]).execute()
    imported = [NewCard("0" * 32, DAY, None, None), NewCard("1" * 32, DAY, "studio", None)]
    for add in (lambda: limited.issue(1, DAY, "pro"), lambda: limited.import_cards(imported)):
        with pytest.raises(CeilingExceededError, match="ask an owner") as refused:
            add()
        assert refused.value.field == "batch"
    limited.issue(1, DAY, "Pro")
    limited.issue(1, DAY)
    if owner.operator_id is not None:
        Operator.update(role=Role.OWNER.value).execute()
        limited.issue(1, DAY, "pro")
    assert Card.select().where(Card.batch == "pro").count() == (owner.operator_id is not None)


def test_the_day_is_the_vendors(limited: Issuing, limits: OwnerLimits, clock: Clock) -> None:
    clock.now = datetime(2026, 3, 1, 23, 59, 59, tzinfo=SHANGHAI)
    limited.issue(10, DAY)
    clock.advance(timedelta(seconds=1))
    assert limits.issued_today(clock.now) == 0
    limited.issue(9, DAY)
    clock.advance(timedelta(seconds=-1))  # another host's clock: its cards count for the new day
    with pytest.raises(CeilingExceededError, match="1 are left today"):
        limited.issue(2, DAY)
    limited.issue(1, DAY)
    clock.advance(timedelta(seconds=1))
    assert (Ceiling.select().count(), limits.issued_today(clock.now)) == (1, 10)


def test_no_card_outlasts_the_ceiling(database: Database, clock: Clock, issuing: Issuing, limits: OwnerLimits) -> None:
    (unused,) = (card.id for card in issuing.issue(1, 25 * DAY).cards)
    actions = CardActions(database, "tester", clock, limits)
    ((_card, reason),) = actions.preview(Action.EXTEND, [unused], 6 * DAY).refused
    assert "ceiling of 30d" in reason.en
    with pytest.raises(CeilingExceededError, match="longer than the ceiling of 30d"):
        actions.apply(Action.EXTEND, [unused], 6 * DAY)
    actions.apply(Action.EXTEND, [unused], 5 * DAY)


@pytest.fixture
def few_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop makes ten changes a day, as `owner` lets the operator make ten."""
    monkeypatch.setattr("app.domain.operators.ceilings.MAX_CHANGES_PER_DAY", 10)


@pytest.mark.usefixtures("few_changes")
def test_changes_of_a_day_have_a_limit(database: Database, clock: Clock, issuing: Issuing, limits: OwnerLimits) -> None:
    ids = [card.id for card in issuing.issue(6, DAY).cards]
    actions = CardActions(database, "tester", clock, limits)
    assert len(actions.apply(Action.FREEZE, ids).changed) == 6
    assert actions.apply(Action.FREEZE, ids).changed == (), "what changes nothing is not counted"
    journalled = Event.select().count()
    with pytest.raises(CeilingExceededError, match="10 cards a day may be changed, and 4 are left today") as refused:
        actions.apply(Action.UNFREEZE, ids)
    assert refused.value.field == "ids"
    assert Card.select().where(Card.frozen_at.is_null()).count() == 0, "all or nothing"
    actions.apply(Action.EXTEND, ids[:3], DAY)
    actions.apply(Action.DELETE, ids[:1])
    assert Event.select().count() == journalled + 4
    assert len(Issuing(database, "tester", clock, limits).issue(10, DAY).cards) == 10, "issues are counted apart"
    assert (Ceiling.get().cards, Ceiling.get().changed) == (10, 10)
    assert len(CardActions(database, "cardctl:root", clock).apply(Action.UNFREEZE, ids[1:]).changed) == 5
    clock.advance(DAY)
    assert len(actions.apply(Action.FREEZE, ids[1:]).changed) == 5


@pytest.mark.usefixtures("few_changes")
def test_limits_hold_at_the_same_time(database: Database, clock: Clock, issuing: Issuing, limits: OwnerLimits) -> None:
    issue = partial(Issuing(database, "tester", clock, limits).issue, 3, DAY)
    assert outcomes_at_once(database, [issue] * 8, CeilingExceededError).count(None) == 3
    assert Card.select().count() == Ceiling.get().cards == 9
    ids = [card.id for card in issuing.issue(24, DAY).cards]
    actions = CardActions(database, "tester", clock, limits)
    freezing = [partial(actions.apply, Action.FREEZE, ids[number : number + 3]) for number in range(0, 24, 3)]
    assert outcomes_at_once(database, freezing, CeilingExceededError).count(None) == 3
    assert Card.select().where(Card.frozen_at.is_null(is_null=False)).count() == Ceiling.get().changed == 9


def test_accounts_without_ceilings_issue_as_before(database: Database, clock: Clock, limits: OwnerLimits) -> None:
    Ceiling.delete().execute()
    assert ceilings_of(limits.owner)[:2] == (None, None)
    Issuing(database, "tester", clock, limits).issue(11, None)
    assert limits.issued_today(clock.now) == 11, "a ceiling that is set now counts the whole day"


def test_repeated_failures_wait_ever_longer_and_cost_neither_a_hash_nor_a_journal_entry(log_ins: LogIns) -> None:
    log_ins.fail(FREE_FAILURES)
    before = len(log_ins.passwords.checked), Event.select().count()
    for _ in range(3):
        log_ins.refuse(LoginThrottledError)
    assert (len(log_ins.passwords.checked), Event.select().count()) == before
    waits = []
    for _ in range(4):
        with pytest.raises(LoginThrottledError) as refusal:
            log_ins.log_in()
        waits.append(refusal.value.retry_after)
        log_ins.fail()
    assert waits == [1, 2, 4, 8]


def test_a_network_may_fail_four_times_as_often_by_any_names_and_locks_no_other_out(log_ins: LogIns) -> None:
    for host in range(20):
        log_ins.fail(FREE_FAILURES, address=f"203.0.113.{host}")
    log_ins.log_in()
    log_ins.operators.add("bob", Role.SELLER, OTHER)
    for attempt in range(4 * FREE_FAILURES):
        if attempt % 4 == 0:
            log_ins.log_in(OTHER, name="bob")
        log_ins.attempt_wrongly(name=f"name{attempt}")
    log_ins.refuse(LoginThrottledError)


def test_failures_are_forgotten_after_an_hour_and_those_of_the_name_there_by_success(log_ins: LogIns) -> None:
    log_ins.fail(FREE_FAILURES - 1)
    log_ins.log_in()
    assert [row.bucket for row in LoginFailure.select()] == [f"network:{HOME}"]
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
        log_ins.refuse(LoginThrottledError, address=CAFE)
        log_ins.log_in(address=elsewhere)
        LoginFailure.delete().execute()


def test_parallel_attempts_are_counted_one_by_one(log_ins: LogIns, database: Database) -> None:
    class Slow(CheapPasswords):
        """Leaves the others time to be let through, too."""

        def matches(self, password_hash: str | None, password: str) -> bool:
            time.sleep(0.02)
            return super().matches(password_hash, password)

    sessions = Sessions(database, log_ins.clock, SEALING, Slow())
    attempts = [partial(sessions.log_in, "alice", OTHER, None, HOME)] * 10  # as many may wait
    outcomes = outcomes_at_once(database, attempts, LoginRefusedError, LoginThrottledError)
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


def test_a_long_wait_is_refused_and_who_is_throttled_has_none(log_ins: LogIns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.operators.passwords.WAIT_SECONDS", 0.0)
    identity = log_ins.identify()
    with log_ins.passwords.turn(), pytest.raises(LoginBusyError):
        log_ins.log_in()
    log_ins.fail(FREE_FAILURES)
    with log_ins.passwords.turn():
        log_ins.refuse(LoginThrottledError)
        with pytest.raises(LoginThrottledError):
            log_ins.sessions.confirm(identity, PASSWORD, address=HOME)
