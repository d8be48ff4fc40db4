"""`cardctl doctor` names the rights that the database roles have above or below what they need."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from app.storage.database import Database
from tests.support.doctor_results import UNKNOWN_SCHEMA, differing, results
from tests.support.service import Service
from tests.support.tables import for_each

LEAST = (
    "GRANT USAGE ON SCHEMA public TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
    "REVOKE UPDATE ON event FROM {role}",
)


@contextmanager
def a_role(database: Database) -> Iterator[str]:
    """A database role that may only log in."""
    name = f"doctor_{uuid4().hex[:8]}"
    database.execute_sql(f"CREATE ROLE {name} LOGIN PASSWORD 'of-a-test'")
    try:
        yield name
    finally:
        database.execute_sql(f"DROP OWNED BY {name}")
        database.execute_sql(f"DROP ROLE {name}")


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    with a_role(database) as name:
        yield name


def served_as(service: Service, role: str) -> Service:
    url = urlsplit(service.environment["DATABASE_URL"])
    service.environment["DATABASE_URL"] = url._replace(
        netloc=f"{role}:of-a-test@{url.netloc.rpartition('@')[2]}"
    ).geturl()
    service.environment["KADUN_BEHIND_PROXY"] = "true"
    return service


def test_a_role_with_the_least_rights_is_ok(keyed: Service, database: Database, role: str) -> None:
    for grant in LEAST:
        database.execute_sql(grant.format(role=role))
    assert differing(results(served_as(keyed, role))) == {}


@for_each(
    "grant, problem",
    [
        ("ALTER ROLE {role} SUPERUSER", "SUPERUSER"),
        ("ALTER ROLE {role} CREATEDB", "CREATEDB"),
        ("ALTER ROLE {role} CREATEROLE", "CREATEROLE"),
        ("GRANT CREATE ON SCHEMA public TO {role}", "CREATE in schema public"),
        ("GRANT UPDATE ON event TO {role}", "UPDATE of the journal"),
        ("GRANT TRUNCATE ON event TO {role}", "TRUNCATE of the journal"),
        ("GRANT {owner} TO {role}", "owns tables"),
    ],
)
def test_a_role_with_more_rights_is_found(keyed: Service, database: Database, grant: str, problem: str) -> None:
    (owner,) = database.execute_sql("SELECT current_user").fetchone()
    with a_role(database) as role:
        for statement in (*LEAST, grant):
            database.execute_sql(statement.format(role=role, owner=owner))
        found = results(served_as(keyed, role))
    assert differing(found) == {"roles": "FAIL"}
    assert f"{role}: " in found["roles"]["message_en"]
    assert problem in found["roles"]["message_en"]


@for_each(
    "revoke, listed, others",
    [
        ("REVOKE SELECT ON card FROM {role}", "SELECT on card", {}),
        ("REVOKE DELETE ON event FROM {role}", "DELETE on event", {}),
        ("REVOKE SELECT ON file FROM {role}", "SELECT on file", {"files": "WARN", "file-digests": "WARN"}),
        ("REVOKE SELECT ON schema_migration FROM {role}", "SELECT on schema_migration", UNKNOWN_SCHEMA),
        (
            "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}",
            "DELETE on block, DELETE on card, DELETE on client",
            UNKNOWN_SCHEMA,
        ),
        ("REVOKE USAGE ON SCHEMA public FROM {role}, PUBLIC", "USAGE of schema public", UNKNOWN_SCHEMA),
    ],
)
def test_revoked_rights_are_named(
    keyed: Service, database: Database, revoke: str, listed: str, others: dict[str, str]
) -> None:
    with a_role(database) as role:
        for statement in (*LEAST, revoke):
            database.execute_sql(statement.format(role=role))
        try:
            found = results(served_as(keyed, role))
        finally:
            database.execute_sql("GRANT USAGE ON SCHEMA public TO PUBLIC")
    assert differing(found) == {"rights": "FAIL"} | others
    assert f"{role}: {listed}" in found["rights"]["message_en"]


def test_a_role_that_may_not_connect_is_told_apart_from_a_database_that_is_away(
    keyed: Service, database: Database, role: str
) -> None:
    database.execute_sql(f"ALTER ROLE {role} NOLOGIN")
    found = results(served_as(keyed, role))["database"]
    assert (found["status"], "is not permitted to log in" in found["message_en"]) == ("FAIL", True)
    assert "unavailable" not in found["message_en"]


def test_rights_that_the_backup_lacks_are_named(keyed: Service, database: Database) -> None:
    database.execute_sql("CREATE ROLE kadun_backup LOGIN")
    try:
        for grant in LEAST[:2]:
            database.execute_sql(grant.format(role="kadun_backup").replace(", INSERT, UPDATE, DELETE", ""))
        database.execute_sql("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO kadun_backup")
        assert differing(results(keyed)) == {"roles": "WARN"}
        database.execute_sql("REVOKE SELECT ON usage, event_id_seq FROM kadun_backup")
        found = results(keyed)
    finally:
        database.execute_sql("DROP OWNED BY kadun_backup")
        database.execute_sql("DROP ROLE kadun_backup")
    assert differing(found) == {"roles": "WARN", "rights": "FAIL"}
    assert "kadun_backup: SELECT on event_id_seq, SELECT on usage" in found["rights"]["message_en"]
