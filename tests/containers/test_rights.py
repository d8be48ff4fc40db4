"""Three roles and no more rights than each needs: the owner migrates, the service serves, the backup reads."""

import re
import subprocess

import pytest

from tests.support.hosts.servers import ExternalDatabase
from tests.support.hosts.stack import Stack, run
from tests.support.services.service import ROOT, wait_for

pytestmark = pytest.mark.xdist_group("serving")

# What there is to the eye of a role that may see all; a password set again is a new hash of the same.
STATE = """
SELECT rolname, rolsuper, rolcreatedb, rolcreaterole, rolcanlogin, rolreplication, rolbypassrls, rolconfig
    FROM pg_roles WHERE rolname LIKE 'kadun%' ORDER BY 1;
SELECT roleid::regrole, member::regrole, admin_option FROM pg_auth_members
    WHERE member::regrole::text LIKE 'kadun%' ORDER BY 1, 2;
SELECT datname, datdba::regrole, encoding, datacl FROM pg_database ORDER BY 1;
SELECT relname, relowner::regrole, relacl FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1;
SELECT * FROM pg_default_acl ORDER BY oid;
"""
RIGHTS = """
SELECT has_table_privilege('{table}', kind)
    FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS kind
"""
DENIED = "42501"  # insufficient_privilege
NOBODY_CAN = (
    "CREATE TABLE mine ()", "CREATE TEMPORARY TABLE mine ()", "CREATE SCHEMA mine", "CREATE DATABASE mine",
    "CREATE ROLE mine", "ALTER ROLE kadun_owner PASSWORD 'x'", "SET ROLE kadun_owner",
    "ALTER TABLE event DISABLE TRIGGER ALL", "ALTER DATABASE kadun RENAME TO mine", "UPDATE event SET kind = kind",
    "CREATE OR REPLACE FUNCTION event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
    "SET session_replication_role = replica", "COPY card TO PROGRAM 'cat'", "SELECT pg_read_file('PG_VERSION')",
    "SELECT rolpassword FROM pg_authid",
)  # fmt: skip
"""The rights on each table: tests/integration/system/test_database.py."""
BACKUP_CANNOT = (*NOBODY_CAN, "DELETE FROM event", "SELECT nextval('event_id_seq')", "SET ROLE kadun_app")
INITDB = "chown postgres $PGDATA && setpriv --reuid=postgres --clear-groups -- initdb --username=postgres"


def answers(stack: Stack, role: str, statements: tuple[str, ...]) -> dict[str, str]:
    text = "".join(f"{statement};\n\\echo :SQLSTATE\n" for statement in statements)
    states = stack.as_role(role, "psql", "-X", "-q", "-t", "-A", "-o", "/dev/null", text=text).stdout.split()
    return dict(zip(statements, states, strict=True))


def administer(stack: Stack, text: str) -> str:
    """What the administrator's psql prints, over the server's own socket."""
    psql = ("psql", "-X", "-q", "-U", "postgres", "-d", "postgres", "-v", "ON_ERROR_STOP=1")
    return stack.execute("database", *psql, user="postgres", text=text).stdout


def test_the_roles_of_the_service_and_of_the_backup_can_make_change_and_drop_nothing(stack: Stack) -> None:
    for role, statements in (("app", NOBODY_CAN), ("backup", BACKUP_CANNOT)):
        assert answers(stack, role, statements) == dict.fromkeys(statements, DENIED)


def test_tables_that_are_made_later_have_the_grants_by_themselves_also_in_a_restored_database(stack: Stack) -> None:
    stack.sql("owner", "CREATE TABLE later (id bigint GENERATED ALWAYS AS IDENTITY, serial bigserial)")
    stack.sql("owner", "CREATE DATABASE restored TEMPLATE template0")
    try:
        dump = stack.as_role("backup", "pg_dump").stdout
        stack.sql("owner", dump, "restored")
        stack.sql("owner", "CREATE TABLE later_still ()", "restored")
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        assert {"later_still", "schema_migration"} <= set(stack.sql("backup", tables, "restored").split())
        for database, table in (("kadun", "later"), ("restored", "later"), ("restored", "later_still")):
            rights = RIGHTS.format(table=table)
            assert stack.sql("app", rights, database).split() == ["t", "t", "t", "t", "f"]
            assert stack.sql("backup", rights, database).split() == ["t", "f", "f", "f", "f"]
        stack.sql("app", "INSERT INTO later DEFAULT VALUES", "restored")
        assert stack.sql("app", "SELECT has_table_privilege('event', 'UPDATE')", "restored") == "f"
    finally:
        stack.sql("owner", "DROP DATABASE restored WITH (FORCE)")
        stack.sql("owner", "DROP TABLE later")


def test_the_service_may_not_migrate_nor_is_the_administrator_let_in_over_the_network(stack: Stack) -> None:
    direct = stack.execute("app", "python", "-m", "app", "migrate", check=False)
    assert (direct.returncode, direct.stderr.count("\n")) == (1, 1)
    assert "permission denied" in direct.stderr
    assert "schema is " in stack.script("cardctl", "migrate").stderr, "as the owner"
    login = ("database", "psql", "postgresql://postgres:x@database/kadun", "-c", "SELECT 1")
    assert "no pg_hba.conf entry" in stack.execute(*login, check=False).stderr


def test_roles_run_again_as_the_guide_says_are_as_they_were_whatever_was_changed(stack: Stack) -> None:
    line = "scripts/database-roles.sh | docker compose exec -T -u postgres database psql"
    assert line in (ROOT / "docs/operations.md").read_text().replace("\\|", "|")
    before = administer(stack, f"\\c kadun\n{STATE}")
    assert before.count("kadun_owner") > 10
    for changed in (False, True):
        if changed:
            stack.sql("app", "ALTER ROLE kadun_app SET default_transaction_read_only = on")  # as an intruder may
            administer(stack, "ALTER ROLE kadun_app PASSWORD 'x'; ALTER ROLE kadun_owner NOLOGIN;")
        try:
            migrated = stack.compose("run", "--rm", "-T", "migrate", check=not changed).stderr
            assert ("is not permitted to log in" if changed else "schema is") in migrated
        finally:
            assert run("bash", "-c", f"set -o pipefail; {line}", cwd=stack.folder).returncode == 0
        assert administer(stack, f"\\c kadun\n{STATE}") == before
        for role in ("owner", "backup", "app"):
            assert stack.sql(role, "SELECT current_user") == f"kadun_{role}"


def test_an_administrator_who_is_no_superuser_can_make_the_roles_on_another_server(stack: Stack) -> None:
    server = ExternalDatabase()
    try:
        server.start()
        server.administer("CREATE ROLE admin LOGIN CREATEROLE CREATEDB")
        for _ in range(2):
            assert server.administer(run(stack.folder / "scripts/database-roles.sh").stdout, "admin") == ""
        owner = "SELECT datdba::regrole FROM pg_database WHERE datname = 'kadun'"
        assert server.administer(owner) == "kadun_owner\n"
        roles = "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname IN"
        assert server.administer(f"{roles} ('kadun_app', 'kadun_backup')") == "f|f|f\nf|f|f\n"
    finally:
        server.remove()


def test_a_terminal_is_shown_no_passwords(stack: Stack) -> None:
    script = ("script", "--quiet", "--return", "--command", "scripts/database-roles.sh", "/dev/null")
    shown = run(*script, check=False, cwd=stack.folder)
    assert (shown.returncode, "pipe it into psql" in shown.stdout, "kadun_owner" in shown.stdout) == (1, True, False)


def test_no_password_stands_on_a_command_line_or_in_the_servers_log(stack: Stack) -> None:
    passwords = [
        re.sub(r".*:([0-9a-f]{48})@.*", r"\1", (stack.folder / "secrets" / name).read_text().strip())
        for name in ("owner_url", "backup_url", "database_url")
    ]
    shown: list[str] = []

    def is_listed() -> bool:
        shown.append(run("ps", "-ww", "-eo", "args").stdout)
        return "--dbname=postgresql://kadun_owner@database:5432/kadun" in shown[-1]

    command = ("docker", "compose", "exec", "-T", "database", "as-role", "owner", "psql")
    with subprocess.Popen(command, cwd=stack.folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL):
        wait_for(is_listed)  # and then its input ends
    shown.append(stack.compose("logs", "--no-color").stdout)
    assert [password for password in passwords if len(password) != 48 or password in "".join(shown)] == []


def test_the_remains_of_an_interrupted_first_start_are_cleared_and_no_cluster_that_nobody_marked(stack: Stack) -> None:
    def found(initdb: str) -> str:
        elsewhere = f"export PGDATA=/tmp/cluster; mkdir -m 700 $PGDATA; {initdb} >/dev/null"
        start = "/usr/local/lib/kadun/entrypoint.sh find $PGDATA -name PG_VERSION -path $PGDATA/PG_VERSION"
        service = ("run", "--rm", "--no-deps", "-T", "--entrypoint", "bash", "database")
        return stack.compose(*service, "-euc", f"{elsewhere}; {start}").stdout

    assert not (stack.folder / "data/postgres/.first-start").exists()
    assert found(INITDB) == "/tmp/cluster/PG_VERSION\n"
    assert found(f"PATH=/usr/local/lib/kadun:$PATH; {INITDB}") == "", "the mark of the initdb there"
