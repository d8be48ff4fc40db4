"""Operators' accounts: what owners and the command line do to them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta

import psycopg2
import pyotp
import pytest

from app.domain.errors import DatabaseUnavailableError
from app.domain.operators.ceilings import OPERATOR_DEFAULTS, described
from app.domain.operators.operators import Role
from app.domain.texts import RefusedError
from app.services.operators import operators as operators_module
from app.services.operators.operators import LastOwnerError, OperatorNotFoundError, Operators
from app.services.operators.sessions import Sessions
from app.services.operators.two_step import TwoStep
from app.storage.database import Database
from app.storage.models import Card, Event, Operator
from tests.conftest import START, Clock
from tests.support.console.passwords import OTHER, PASSWORD
from tests.support.sealing import SEALING
from tests.support.tables import for_each

HOME = "198.51.100.1"


@pytest.fixture
def operators(operators: Operators) -> Operators:
    operators.add("alice", Role.OWNER, PASSWORD)
    return operators


def journalled() -> list[tuple[str, str, dict[str, object]]]:
    return [(e.kind, e.actor, e.details) for e in Event.select().order_by(Event.id)]


def test_changes_of_operators_are_journalled_without_secrets_and_others_not(operators: Operators, clock: Clock) -> None:
    operators.add("小王", Role.SELLER, PASSWORD)
    operators.set_password("小王", OTHER)
    for _ in range(2):  # the second time nothing changes
        operators.set_role("小王", Role.OWNER)
    secret = pyotp.random_base32()
    TwoStep(operators, SEALING).enable("小王", secret, pyotp.TOTP(secret).at(clock.now), "")
    for log_out in (False, False, True):
        TwoStep(operators, SEALING).disable("小王", log_out=log_out)
    operators.remove("小王")
    owner, seller = (described(OPERATOR_DEFAULTS[role]) for role in (Role.OWNER, Role.SELLER))
    assert journalled() == [
        ("operator_added", "tester", {"operator": "alice", "role": "owner", **owner}),
        ("operator_added", "tester", {"operator": "小王", "role": "seller", **seller}),
        ("operator_changed", "tester", {"operator": "小王", "changed": "password"}),
        ("operator_changed", "tester", {"operator": "小王", "role": "owner"}),
        ("operator_changed", "tester", {"operator": "小王", "totp": True}),
        ("operator_changed", "tester", {"operator": "小王", "totp": False}),
        ("operator_removed", "tester", {"operator": "小王", "role": "owner"}),
    ]


def test_operators_are_listed_by_name_with_when_they_were_seen(
    operators: Operators, sessions: Sessions, clock: Clock
) -> None:
    operators.add("aaron", Role.SELLER, PASSWORD)
    clock.advance(timedelta(hours=1))
    for _ in range(2):
        token = sessions.log_in("aaron", PASSWORD, None, HOME)
    aaron, alice = operators.list()
    assert (alice.name, alice.role, alice.has_totp, alice.last_seen_at) == ("alice", Role.OWNER, False, None)
    assert (aaron.name, aaron.role, aaron.last_seen_at) == ("aaron", Role.SELLER, clock.now)
    assert not [row for row in (alice, aaron) if row.password_hash or row.totp_secret], "no secret is read"
    identity = sessions.identify(token)
    assert identity is not None
    sessions.end_others(identity, token)
    sessions.end(identity, token)
    assert operators.list()[0].last_seen_at is None, "as the headings say: of who is logged in"


def test_taken_and_invalid_names_and_invalid_passwords_are_refused(operators: Operators) -> None:
    for name, password in [("", PASSWORD), ("a\0", PASSWORD), ("bob", "short"), ("alice", OTHER), ("alice", "short")]:
        before = list(Operator.select().dicts())
        with pytest.raises(RefusedError, match="taken" if (name, password) == ("alice", OTHER) else None):
            operators.add(name, Role.SELLER, password)
        if password == "short":
            with pytest.raises(RefusedError):
                operators.set_password("alice", password)
        assert list(Operator.select().dicts()) == before, (name, password)


@for_each("name", ["bob", "", "a\0", "\ud800", "Alice"])
def test_an_unknown_operator_cannot_be_changed(operators: Operators, name: str) -> None:
    actions = [
        lambda: operators.set_password(name, PASSWORD),
        lambda: operators.set_role(name, Role.SELLER),
        lambda: operators.remove(name),
        lambda: operators.remove("alice", name, force=True),
        lambda: TwoStep(operators, SEALING).enable(name, pyotp.random_base32(), "123456", ""),
        lambda: TwoStep(operators, SEALING).disable(name),
        lambda: TwoStep(operators, SEALING).disable(name, log_out=True),
    ]
    for action in actions:
        with pytest.raises(OperatorNotFoundError):
            action()
    assert [account.name for account in operators.list()] == ["alice"]


def test_the_cards_of_a_removed_operator_are_nobodys_and_are_left_page_by_page(
    operators: Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators_module, "PAGE_ROWS", 2)
    operators.add("bob", Role.SELLER, PASSWORD)
    ids = {row.name: row.id for row in Operator.select()}
    rows = [{"id": f"{number:032}", "created_at": START, "operator_id": ids["bob"]} for number in range(5)]
    Card.insert_many([*rows, {**rows[0], "id": "A" * 32, "operator_id": ids["alice"]}]).execute()
    with pytest.raises(LastOwnerError):
        operators.remove("bob", "alice")
    assert Card.select().where(Card.operator_id == ids["bob"]).count() == 5, "nothing was done"
    monkeypatch.setattr(Operator, "delete_instance", lambda _row: None)  # whose foreign key would leave the rest
    operators.remove("bob")
    assert {row.id for row in Card.select().where(~Card.operator_id.is_null())} == {"A" * 32}


def test_the_last_owner_can_be_neither_removed_nor_demoted(operators: Operators) -> None:
    operators.add("bob", Role.SELLER, PASSWORD)
    for action in (lambda: operators.remove("alice"), lambda: operators.set_role("alice", Role.SELLER)):
        with pytest.raises(LastOwnerError):
            action()
    operators.set_role("bob", Role.OWNER)
    with pytest.raises(LastOwnerError):
        operators.remove("alice", "bob")
    operators.set_role("alice", Role.SELLER)
    operators.remove("alice")
    assert [(account.name, account.role) for account in operators.list()] == [("bob", Role.OWNER)]


def test_two_owners_who_remove_each_other_leave_one(
    operators: Operators, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    operators.add("bob", Role.OWNER, PASSWORD)
    both = threading.Barrier(2, timeout=60)
    lock_owners = operators_module.lock_owners

    def meet_and_lock() -> list[str]:
        both.wait()
        return lock_owners()

    monkeypatch.setattr(operators_module, "lock_owners", meet_and_lock)

    def attempt(name: str) -> bool:
        try:
            operators.remove(name)
        except LastOwnerError:
            return False
        finally:
            database.close()
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(attempt, ["alice", "bob"])) == [False, True]
    assert len(operators.list()) == 1


def test_a_long_import_blocks_no_log_in_but_the_removal_of_its_operator(
    operators: Operators, sessions: Sessions, database: Database, database_url: str
) -> None:
    operators.add("bob", Role.OWNER, PASSWORD)
    database.execute_sql("SET lock_timeout = '200ms'")
    with closing(psycopg2.connect(database_url)) as importing, importing.cursor() as form:
        form.execute(
            "INSERT INTO idempotency_record (operator_id, key, request_sha256, status, body, created_at) "
            "SELECT id, 'k', repeat('0', 64), 0, '', now() FROM operator WHERE name = 'alice'"
        )
        sessions.log_in("alice", PASSWORD, None, HOME)
        operators.set_role("bob", Role.SELLER)
        operators.set_password("alice", OTHER)
        operators.set_role("bob", Role.OWNER)
        with pytest.raises(DatabaseUnavailableError):
            operators.remove("alice")
    assert [account.name for account in operators.list()] == ["alice", "bob"]
    operators.remove("alice")
    assert [account.name for account in operators.list()] == ["bob"]
