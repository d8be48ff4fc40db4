"""Three roles and no more rights than each needs: the owner migrates, the service serves, the backup reads."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.service import ROOT
from tests.support.stack import Stack, run

pytestmark = pytest.mark.containers

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
RAISED = "P0001"  # by a trigger
APP_CANNOT = (
    "CREATE TABLE mine ()", "CREATE TEMPORARY TABLE mine ()", "CREATE SCHEMA mine", "CREATE DATABASE mine",
    "CREATE ROLE mine", "CREATE INDEX ON card (note)",
    "CREATE OR REPLACE FUNCTION event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
    "DROP TABLE event", "DROP TRIGGER event_no_update ON event", "DROP SCHEMA public CASCADE",
    "ALTER TABLE card ADD COLUMN mine int", "ALTER TABLE event DISABLE TRIGGER ALL",
    "ALTER TABLE card OWNER TO kadun_app", "ALTER DATABASE kadun RENAME TO mine",
    "ALTER ROLE kadun_app CREATEDB", "ALTER ROLE kadun_backup PASSWORD 'x'", "SET ROLE kadun_owner",
    "TRUNCATE card CASCADE", "TRUNCATE event", "TRUNCATE usage",
    "UPDATE event SET kind = kind", "UPDATE schema_migration SET name = name", "DELETE FROM schema_migration",
    "DELETE FROM api_token",
    "SET session_replication_role = replica", "COPY card TO PROGRAM 'cat'", "SELECT pg_read_file('PG_VERSION')",
    "SELECT rolpassword FROM pg_authid",
)  # fmt: skip
BACKUP_CANNOT = (
    "INSERT INTO card (id, created_at) VALUES (repeat('1', 32), now())", "UPDATE card SET note = ''",
    "DELETE FROM event", "TRUNCATE event", "DROP TABLE event", "CREATE TABLE mine ()", "CREATE DATABASE mine",
    "CREATE TEMPORARY TABLE mine ()", "SELECT nextval('event_id_seq')", "SET ROLE kadun_app",
    "SET ROLE kadun_owner",
)  # fmt: skip


INITDB = "chown postgres $PGDATA && setpriv --reuid=postgres --clear-groups -- initdb --username=postgres"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        stack.init_anew("kadun.test")
        half_made(stack)
        stack.up()
        card = stack.new_card()
        assert stack.verify(card, "pc")["code"] == "OK"
        assert stack.verify("0" * 32, "pc")["code"] == "CARD_NOT_FOUND"
        yield stack


def half_made(stack: Stack) -> None:
    """Leaves what a first start leaves that was killed when the cluster was made and the roles were not."""
    bash(stack, f"PATH=/usr/local/lib/kadun:$PATH; {INITDB}")
    assert (stack.folder / "data/postgres/PG_VERSION").exists()


def bash(stack: Stack, code: str) -> str:
    """Runs it in a container of the database's of its own; returns what it printed."""
    return stack.compose("run", "--rm", "--no-deps", "-T", "--entrypoint", "bash", "database", "-euc", code).stdout


def answers(stack: Stack, role: str, statements: tuple[str, ...]) -> dict[str, str]:
    """The SQLSTATE with which the database answers each statement."""
    text = "".join(f"{statement};\n\\echo :SQLSTATE\n" for statement in statements)
    states = stack.as_role(role, "psql", "-X", "-q", "-t", "-A", "-o", "/dev/null", text=text).stdout.split()
    return dict(zip(statements, states, strict=True))


def test_a_first_start_that_was_interrupted_has_begun_again(stack: Stack) -> None:
    assert "the first start was interrupted: starting over" in stack.compose("logs", "database").stdout
    stack.compose("restart", "database")
    stack.up()
    assert stack.compose("logs", "database").stdout.count("starting over") == 1
    assert stack.sql("app", "SELECT count(*) FROM card") == "1"


def test_a_cluster_that_nobody_marked_is_never_deleted_however_empty(stack: Stack) -> None:
    assert not (stack.folder / "data/postgres/.first-start").exists()
    elsewhere = f"export PGDATA=/tmp/cluster; mkdir -m 700 $PGDATA; {INITDB}"
    start = "/usr/local/lib/kadun/entrypoint.sh find $PGDATA -name PG_VERSION -path $PGDATA/PG_VERSION"
    assert bash(stack, f"{elsewhere} >/dev/null; {start}") == "/tmp/cluster/PG_VERSION\n"
    assert bash(stack, f"PATH=/usr/local/lib/kadun:$PATH; {elsewhere} >/dev/null; {start}") == ""


def test_the_services_role_can_make_change_and_drop_nothing_and_rewrite_no_history(stack: Stack) -> None:
    assert answers(stack, "app", APP_CANNOT) == dict.fromkeys(APP_CANNOT, DENIED)


def test_the_services_role_deletes_rejections_and_nothing_else_of_the_journal(stack: Stack) -> None:
    history = "DELETE FROM event WHERE kind = 'activated'"
    assert answers(stack, "app", (history,)) == {history: RAISED}
    deleted = "WITH gone AS (DELETE FROM event WHERE kind = 'rejected' RETURNING 1) SELECT count(*) FROM gone"
    assert stack.sql("app", deleted) == "1"


def test_the_backups_role_can_write_nothing(stack: Stack) -> None:
    assert answers(stack, "backup", BACKUP_CANNOT) == dict.fromkeys(BACKUP_CANNOT, DENIED)


def test_the_backups_role_dumps_all_there_is(stack: Stack) -> None:
    dumped = stack.as_role("backup", "pg_dump").stdout
    assert dumped.count("\nCOPY public.") == int(
        stack.sql("owner", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    )
    assert stack.sql("owner", "SELECT id FROM card") in dumped


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


def test_the_owner_owns_everything_and_ends_the_others_sessions(stack: Stack) -> None:
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert stack.sql("owner", owners) == "kadun_owner"
    assert stack.verify(stack.new_card(), "a pc")["code"] == "OK", "so that there is a session"
    end = "SELECT bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'kadun_app'"
    assert stack.sql("owner", end) == "t"
    assert stack.verify(stack.new_card(), "another pc")["code"] == "OK"


def test_the_service_may_not_migrate_and_says_so_in_a_line_while_cardctl_does_it_as_the_owner(stack: Stack) -> None:
    direct = stack.compose("exec", "-T", "app", "python", "-m", "app", "migrate", check=False)
    assert (direct.returncode, direct.stderr.count("\n")) == (1, 1)
    assert "permission denied" in direct.stderr
    assert "schema is " in run(stack.folder / "scripts/cardctl", "migrate", cwd="/").stderr


def test_the_administrator_is_not_let_in_over_the_network(stack: Stack) -> None:
    login = ("exec", "-T", "database", "psql", "postgresql://postgres:x@database/kadun", "-c", "SELECT 1")
    assert "no pg_hba.conf entry" in stack.compose(*login, check=False).stderr


def test_roles_run_again_change_nothing(stack: Stack) -> None:
    def administer(text: str) -> str:
        psql = ("psql", "-X", "-q", "-U", "postgres", "-d", "postgres", "-v", "ON_ERROR_STOP=1")
        return run(
            "docker", "compose", "exec", "-T", "-u", "postgres", "database", *psql, cwd=stack.folder, input=text
        ).stdout

    before = administer(f"\\c kadun\n{STATE}")
    assert before.count("kadun_owner") > 10
    sql = run(stack.folder / "scripts/database-roles.sh").stdout
    assert administer(sql) == ""
    assert administer(f"\\c kadun\n{STATE}") == before
    assert "schema is" in stack.compose("run", "--rm", "-T", "migrate").stderr
    assert administer(f"\\c kadun\n{STATE}") == before
    for role in ("owner", "backup", "app"):
        assert stack.sql(role, "SELECT current_user") == f"kadun_{role}"


def test_changed_passwords_and_log_ins_of_the_roles_are_restored_as_the_guide_says(stack: Stack) -> None:
    psql = ("exec", "-T", "-u", "postgres", "database", "psql", "-q")
    stack.sql("app", "ALTER ROLE kadun_app SET default_transaction_read_only = on")  # as an intruder may
    stack.compose(*psql, "-c", "ALTER ROLE kadun_app PASSWORD 'x'; ALTER ROLE kadun_owner NOLOGIN")
    assert "is not permitted to log in" in stack.compose("run", "--rm", "-T", "migrate", check=False).stderr
    line = "scripts/database-roles.sh | docker compose exec -T -u postgres database psql"
    assert line in (ROOT / "docs/operations.md").read_text().replace("\\|", "|")
    assert run("bash", "-c", f"set -o pipefail; {line}", cwd=stack.folder).returncode == 0
    for role in ("owner", "app"):
        assert stack.sql(role, "SELECT current_user") == f"kadun_{role}"
    assert stack.sql("app", "SHOW transaction_read_only") == "off"
    stack.up()


def test_no_password_stands_on_a_command_line_or_in_the_servers_log(stack: Stack) -> None:
    passwords = [
        re.sub(r".*:([0-9a-f]{48})@.*", r"\1", (stack.folder / "secrets" / name).read_text().strip())
        for name in ("owner_url", "backup_url", "database_url")
    ]
    sleeper = subprocess.Popen(
        ["docker", "compose", "exec", "-T", "database", "as-role", "owner", "psql", "-c", "SELECT pg_sleep(3)"],
        cwd=stack.folder, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    shown = ""
    while sleeper.poll() is None:
        shown += run("ps", "-ww", "-eo", "args").stdout
    assert "--dbname=postgresql://kadun_owner@database:5432/kadun" in shown
    shown += stack.compose("logs", "--no-color").stdout
    assert [password for password in passwords if len(password) != 48 or password in shown] == []
