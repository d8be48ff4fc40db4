"""What speed depends on: the number of statements of a request, and their plans."""
# Owns database-plans.

import re
import threading
from datetime import timedelta

import pytest

from app.domain.codes import Code, EventKind
from app.domain.licence.policy import VerificationRequest
from app.services.cards.issuing import Issuing
from app.services.licence.verification import Verification
from app.storage import journal
from app.storage.database import Database
from app.storage.models import Client
from app.storage.statements import NEW_CLIENT
from app.storage.touches import MAX_CARDS, SESSION
from tests.conftest import START, Clock
from tests.support.query_plans import nodes, plan, rows_looked_at, statements

MANY = 10_000
_MANY_CARDS = """
SET session_replication_role = replica;
INSERT INTO card (id, validity, is_activated, activated_at, expires_at, created_at)
SELECT lpad(i::text, 32, '0'), '30 days', true, %(at)s, %(at)s + interval '30 days', %(at)s
FROM generate_series(1, %(many)s) AS i;
INSERT INTO client (id, card_id, hardware, hardware_sha256, ip, requested_at, function)
SELECT id, id, id, encode(sha256(convert_to(id, 'UTF8')), 'hex'), '198.51.100.1', %(at)s, 'f' FROM card;
INSERT INTO usage (card_id, day, function, count, last_at) SELECT id, %(day)s, 'f', 1, %(at)s FROM card;
SET session_replication_role = DEFAULT;
"""
"""Bound cards, written without the checks of foreign keys, which would take most of the time."""


def test_recent_refusals_are_counted_by_index(database: Database) -> None:
    entry = journal.Entry(at=Clock().now, kind=EventKind.REJECTED, code=Code.CARD_NOT_FOUND, ip="198.51.100.1")
    # So many of this moment that only the address tells them apart; what other tests left is no guide to the planner.
    database.execute_sql(
        """INSERT INTO event (at, kind, code, ip, ip_network)
           SELECT %s, 'rejected', code, '203.0.113.' || i, '203.0.113.' || i
           FROM generate_series(1, 250) AS i, unnest(%s) AS code, generate_series(1, 4)""",
        (entry.at, [str(code) for code in Code if code is not Code.OK]),
    )
    database.execute_sql("ANALYZE event")
    database.execute_sql("SET enable_seqscan = off")
    told = plan(database, journal.recent_refusals(entry).sql())
    assert re.search("Index Scan (using|on) event_network", told)
    assert "Filter" not in told


def test_the_stock_of_refusals_is_read_by_an_index_of_its_own(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "STOCK", 100)
    database.execute_sql(
        """INSERT INTO event (at, kind, code) SELECT %s + i * interval '1 second', 'rejected', code
           FROM generate_series(1, 2000) AS i, unnest(%s) AS code""",
        (START, [str(code) for code in Code if code is not Code.OK]),
    )
    database.execute_sql("ANALYZE event")
    with statements(database) as ran:
        oldest = journal.beginning_of_stock()
        assert oldest == START + timedelta(seconds=1951)
        journal.prune_strangers(oldest)
    beginning, pruning = ran
    assert rows_looked_at(database, beginning) == 100
    assert "event_strangers" in plan(database, pruning)


@pytest.fixture
def ran(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """This thread's statements from now on: prepared ones by name, all others as they are."""
    ran: list[str] = []
    run_prepared, execute_sql, here = database.run_prepared, database.execute_sql, threading.get_ident()

    def note(statement: str) -> None:
        if threading.get_ident() == here:  # others read the terms again every second
            ran.append(statement)

    def noting(name: str, *arguments: object) -> list[tuple[object, ...]]:
        note(name)
        return run_prepared(name, *arguments)

    monkeypatch.setattr(database, "run_prepared", noting)
    monkeypatch.setattr(database, "execute_sql", lambda *a, **k: (note(str(a[0])), execute_sql(*a, **k))[1])
    return ran


def without_sequential_scans(database: Database) -> None:
    """Have statements planned anew: a table of one row is read whole otherwise, also by a plan of the tests before."""
    database.execute_sql("SET enable_seqscan = off")
    database.execute_sql("DISCARD PLANS")


def test_a_first_activation_is_written_by_one_statement_by_index(
    database: Database, verification: Verification, issuing: Issuing, ran: list[str]
) -> None:
    card_id = issuing.issue(1_000, None).cards[0].id  # of a few rows any index is as good
    database.execute_sql("ANALYZE card")
    ran.clear()
    verification.verify(VerificationRequest.from_fields(card_id, "h", "f", "n" * 20, "198.51.100.1"))
    assert ran == ["touch", "read_facts", "create_client"]
    values = ", ".join("NULL" if name != "card" else f"'{card_id}'" for name in NEW_CLIENT)
    without_sequential_scans(database)
    told = plan(database, (f"EXECUTE create_client({values})", None))
    assert ("Index Scan using card_pkey" in told, "Seq Scan" in told) == (True, False)


def test_a_verification_of_a_bound_card_is_one_statement_by_index(
    database: Database, verification: Verification, card_id: str, ran: list[str]
) -> None:
    question = VerificationRequest.from_fields(card_id, "h", "f", "n" * 20, "198.51.100.1")
    verification.verify(question)
    ran.clear()
    verification.verify(question)
    assert ran == ["touch"]
    without_sequential_scans(database)
    digest = question.hardware_sha256
    touch = f"'{{{card_id}}}', '{{{digest}}}', '{{198.51.100.1}}', '{{f}}', '{{1}}', '2026-03-01', now()"
    for call in (f"EXECUTE read_facts('{card_id}', '{digest}')", f"EXECUTE touch({touch})"):
        told = plan(database, (call, None))
        assert ("Index Scan" in told, "Seq Scan" in told) == (True, False)


def test_touching_cards_reads_by_index_these_cards_only_and_locks_them_in_order(database: Database) -> None:
    database.execute_sql("SET statement_timeout = 0")  # a busy machine may take long to write them
    database.execute_sql(_MANY_CARDS, {"at": START, "day": START.date(), "many": MANY})
    for name, value in SESSION.items():
        database.execute_sql(f"SET {name} = '{value}'")
    found = list(Client.select(Client.card, Client.hardware_sha256).order_by(Client.card).limit(MAX_CARDS).tuples())
    # Without statistics, or with those that other tests left, the planner may begin with the day's usage.
    database.execute_sql("ANALYZE card, client, usage")
    for cards in (1, MAX_CARDS):
        ids, digests = (list(column) for column in zip(*found[:cards], strict=True))
        arrays = (ids, digests, ["198.51.100.1"] * cards, ["f"] * cards, [1] * cards)
        values = (*arrays, START.date(), START)
        statement = ("EXECUTE touch(%s, %s, %s, %s, %s, %s, %s)", values)
        steps = nodes(database, statement)
        assert {step["Node Type"] for step in steps if "Relation Name" in step} == {"ModifyTable", "Index Scan"}
        assert not {"Hash Join", "Merge Join"} & {step["Node Type"] for step in steps}
        assert rows_looked_at(database, statement) < 20 * cards
        assert [row[0] for row in database.run_prepared("touch", *values)] == ids
