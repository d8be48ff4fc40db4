"""What speed depends on: the number of statements of a request, and their plans."""

import re

from app.domain.codes import Code, EventKind
from app.domain.policy import VerificationRequest
from app.services.issuing import Issuing
from app.services.verification import Verification
from app.storage import journal
from app.storage.database import Database
from app.storage.models import Card, Client
from tests.conftest import Clock


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
    sql, values = journal.recent_refusals(entry).sql()
    database.execute_sql("SET enable_seqscan = off")
    plan = "\n".join(row[0] for row in database.execute_sql(f"EXPLAIN {sql}", values).fetchall())
    assert re.search("Index Scan (using|on) event_network", plan)
    assert "Filter" not in plan


def test_a_verification_of_a_bound_card_is_one_statement_by_index(
    database: Database, verification: Verification, issuing: Issuing
) -> None:
    card_id = issuing.issue(1, None).cards[0].id
    question = VerificationRequest.from_fields(card_id, "h", "f", "n" * 20, "198.51.100.1")
    verification.verify(question)
    ran: list[str] = []
    run_prepared, execute_sql = database.run_prepared, database.execute_sql

    def noting(name: str, *arguments: object) -> list[tuple[object, ...]]:
        ran.append(name)
        return run_prepared(name, *arguments)

    database.run_prepared = noting
    database.execute_sql = lambda *a, **k: (ran.append(str(a[0])), execute_sql(*a, **k))[1]
    verification.verify(question)
    assert ran == ["touch"]
    client = Client.get()
    database.execute_sql("SET enable_seqscan = off")  # a table of one row is read whole otherwise
    digest = client.hardware_sha256
    touch = f"'{{{card_id}}}', '{{{digest}}}', '{{198.51.100.1}}', '{{f}}', '{{1}}', '2026-03-01', now()"
    for call in (f"EXECUTE read_facts('{card_id}', '{digest}')", f"EXECUTE touch({touch})"):
        plan = "\n".join(row[0] for row in execute_sql(f"EXPLAIN {call}").fetchall())
        assert "Index Scan" in plan
        assert "Seq Scan" not in plan
    assert Card.select().count() == 1
