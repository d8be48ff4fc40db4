"""PostgreSQL outside the stack: on the host, or elsewhere, with a second host that takes over."""

import json
import os
import re
import time
from collections.abc import Iterator
from uuid import uuid4

import pyrage
import pytest

from tests.support.http_exchange import quiet_port
from tests.support.service import wait_for
from tests.support.stack import Stack, run

pytestmark = pytest.mark.containers

IDENTITY = pyrage.x25519.Identity.generate()
RECIPIENT = str(IDENTITY.to_public())
# Planted faults: an older version, on a machine whose clock is five seconds fast.
OLDER_AND_FAST = """
USER root
RUN sed -i 's/__version__ = .*/__version__ = "0.9.0"/' client/src/kadun/version.py \\
 && sed -i 's/return datetime.now(UTC)/return datetime.fromtimestamp(datetime.now().timestamp() + 5, UTC)/' app/clock.py
USER kadun
"""
CLIENTS = ("app", "database", "migrate")


class Server:
    """A PostgreSQL that nobody prepared for Kadun, as a distribution sets it up: on 127.0.0.1, roles by password."""

    def __init__(self) -> None:
        self.name = f"kadun-test-server-{uuid4().hex[:8]}"
        self.port = quiet_port()

    def start(self) -> None:
        settings = ("--env", "POSTGRES_PASSWORD=administrator", "--publish", f"127.0.0.1:{self.port}:5432")
        run("docker", "run", "--detach", "--name", self.name, *settings, "postgres:17-trixie")
        ready = ("docker", "exec", self.name, "pg_isready", "--quiet", "--host=127.0.0.1")
        wait_for(lambda: run(*ready, check=False).returncode == 0, 60)

    def administer(self, sql: str, user: str = "postgres", *, check: bool = True) -> str:
        """What the administrator's psql prints, over the server's own socket."""
        options = ("-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-d", "postgres")
        done = run("docker", "exec", "-i", self.name, "psql", "-U", user, *options, input=sql, check=check)
        return done.stdout + done.stderr

    def remove(self) -> None:
        run("docker", "rm", "--force", "--volumes", self.name, check=False)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        ports = ("--http-port", str(stack.http_port), "--https-port", str(stack.https_port))
        hosts = f"127.0.0.1:{quiet_port()},127.0.0.1:{server.port}"  # nobody is at the first
        stack.init("--project", stack.project, *ports, "--database-host", hosts)
        early = stack.compose("up", "--detach", "--wait", check=False)
        assert early.returncode != 0, "there are no roles yet"
        assert 'authentication failed for user "kadun_owner"' in stack.compose("logs", "migrate").stdout
        server.administer(run(stack.folder / "scripts/database-roles.sh").stdout)
        stack.up()
        yield stack


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, stack: Stack) -> Iterator[Stack]:
    """Join a second machine: another checkout, which has the first one's bundle and nothing else of it."""
    refused = stack.script("export.sh", "--join", "--recipient", RECIPIENT, check=False)
    assert (refused.returncode, "KADUN_KEYS must be database" in refused.stderr) == (1, True)
    stack.script("cardctl", "key", "store", "database")
    with (stack.folder / ".env").open("a") as env:
        env.write("KADUN_KEYS=database\nKADUN_OFFLINE_GRACE=12h\n")
    stack.up()
    (stack.folder / "data/keys/keyring.json").unlink()
    folder = tmp_path_factory.mktemp("bundle")
    bundle, identity = folder / "join.tar.age", folder / "identity"
    identity.write_text(f"{IDENTITY}\n")
    exported = stack.script("export.sh", "--join", "-o", bundle, "--recipient", RECIPIENT)
    key = exported.stdout.partition("--fingerprint ")[2].split()[0]
    with Stack(tmp_path_factory.mktemp("second")) as second:
        ports = ("--http-port", str(second.http_port), "--https-port", str(second.https_port))
        join = ("--join", str(bundle), "--identity", str(identity), "--fingerprint", key)
        options = ("--project", second.project, *ports)
        namesake = second.init(*join, *options, check=False)
        assert "give this machine another name with --host NAME" in namesake.stderr
        assert namesake.returncode == 1
        assert not (second.folder / "data").exists()
        assert not (second.folder / "secrets").exists()
        done = second.init(*join, *options, "--host", "second")
        assert "docker compose up -d --wait" in done.stdout
        flawed = f"FROM {stack.project}-app\n{OLDER_AND_FAST}"
        run("docker", "build", "--quiet", "--tag", f"{second.project}-app", "-", input=flawed)
        (second.folder / "data/functions/more.py").write_text("")
        second.up()
        yield second


def test_cards_are_issued_and_verified_though_the_first_host_is_dead(stack: Stack) -> None:
    card = stack.new_card()
    assert stack.verify(card, f"pc of {card}")["code"] == "OK"
    assert stack.verify(card, f"pc of {card}")["code"] == "OK"
    assert stack.bound_client(card)["hardware"] == f"pc of {card}"
    assert not (stack.folder / "data/postgres").exists()


def test_the_stack_comes_back_when_the_server_does(stack: Stack, server: Server) -> None:
    card = stack.new_card()
    run("docker", "restart", server.name)
    healthcheck = ("exec", "-T", "app", "python", "-m", "app", "healthcheck")
    wait_for(lambda: stack.compose(*healthcheck, check=False).returncode == 0, 60)
    # One worker is back; the other has up to a second to go until it tries again.
    for _ in range(5):
        code = stack.verify(card, f"pc of {card}")["code"]
        if code == "OK":
            break
        time.sleep(1)
    assert code == "OK"


def test_the_tools_work_as_if_the_database_were_in_its_container(stack: Stack) -> None:
    stack.new_card()
    for role in ("owner", "backup", "app"):
        assert stack.sql(role, "SELECT current_user") == f"kadun_{role}"
    stack.sql("owner", "CREATE DATABASE restored TEMPLATE template0")
    stack.sql("owner", stack.as_role("backup", "pg_dump").stdout, "restored")
    count = "SELECT count(*) FROM card"
    assert stack.sql("backup", count, "restored") == stack.sql("app", count) != "0"
    stack.sql("owner", "DROP DATABASE restored")


def test_it_is_backed_up_restored_and_upgraded_as_if_it_were_in_its_container(stack: Stack) -> None:
    there, later = stack.new_card(), "SELECT count(*) FROM card"
    stack.verify(there, f"pc of {there}")
    count = stack.sql("app", later)
    stack.script("backup.sh")
    (backup,) = (stack.folder / "data/backups").glob("kadun-2*.tar.age")
    stack.new_card()
    stack.script("restore.sh", backup)
    assert stack.sql("app", later) == count
    assert stack.verify(there, f"pc of {there}")["code"] == "OK"
    assert "kadun_before_restore_" in stack.script("restore.sh", "--drop-old").stdout
    done = stack.script("upgrade.sh", "--no-pull")
    assert "Upgraded" in done.stdout
    run("docker", "image", "rm", "--force", f"{stack.project}-app:previous", check=False)
    assert stack.verify(there, f"pc of {there}")["code"] == "OK"


def test_rights_are_as_in_the_container(stack: Stack) -> None:
    options = ("-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=sqlstate")
    for role, statement in (
        ("app", "DROP TABLE card"), ("app", "UPDATE event SET kind = kind"), ("app", "CREATE TABLE mine ()"),
        ("backup", "DELETE FROM card"), ("owner", "CREATE ROLE mine"),
    ):  # fmt: skip
        assert "42501" in stack.as_role(role, "psql", *options, text=statement, check=False).stderr


def test_the_roles_made_again_change_nothing(stack: Stack, server: Server) -> None:
    state = "SELECT * FROM pg_roles; SELECT * FROM pg_auth_members; SELECT * FROM pg_database;"
    before = server.administer(state)
    sql = run(stack.folder / "scripts/database-roles.sh").stdout
    assert server.administer(sql) == ""
    assert server.administer(state) == before


def test_an_administrator_who_is_no_superuser_can_make_the_roles(stack: Stack) -> None:
    cloud = Server()
    try:
        cloud.start()
        cloud.administer("CREATE ROLE admin LOGIN CREATEROLE CREATEDB")
        sql = run(stack.folder / "scripts/database-roles.sh").stdout
        for _ in range(2):
            assert cloud.administer(sql, "admin") == ""
        owner = "SELECT datdba::regrole FROM pg_database WHERE datname = 'kadun'"
        assert cloud.administer(owner).strip() == "kadun_owner"
    finally:
        cloud.remove()


def test_the_sql_alone_says_where_it_comes_from(stack: Stack, server: Server) -> None:
    sql = (stack.folder / "postgres/roles.sql").read_text()
    assert "run this by scripts/database-roles.sh" in server.administer(sql, check=False)


def test_a_terminal_is_shown_no_passwords(stack: Stack) -> None:
    script = stack.folder / "scripts/database-roles.sh"
    shown = run("script", "--quiet", "--return", "--command", str(script), "/dev/null", check=False)
    assert shown.returncode == 1
    assert "pipe it into psql" in shown.stdout
    assert "kadun_owner" not in shown.stdout


@pytest.mark.parametrize("service", CLIENTS)
def test_what_speaks_to_it_is_hardened_as_ever_and_listens_nowhere(stack: Stack, service: str) -> None:
    inspected = stack.inspect(service)
    host = inspected["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["CapAdd"]) == (True, ["ALL"], None)
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"]
    assert host["PidsLimit"]
    assert inspected["Config"]["User"].split(":")[0] not in ("", "0")
    assert sorted(mount["Name"] for mount in inspected["Mounts"] if mount["Type"] == "volume") in (
        [],
        [f"{stack.project}_{name}" for name in ("functions-socket", "socket", "webhooks-socket")],
    )
    if service == "migrate":
        return
    pids = []
    for pid, status in stack.processes(service):
        assert int(status["CapEff"], 16) == 0
        assert "0" not in status["Uid"].split()
        pids.append(pid)
    listening = run("ss", "--no-header", "--listening", "--numeric", "--processes", "--tcp", "--udp").stdout
    assert [pid for pid in pids if f"pid={pid}," in listening] == []


def test_no_password_stands_in_what_the_engine_shows(stack: Stack) -> None:
    shown = "".join(json.dumps(stack.inspect(service)) for service in CLIENTS) + stack.compose("logs").stdout
    for name in ("owner_url", "backup_url", "database_url"):
        password = (stack.folder / "secrets" / name).read_text().split(":")[2].split("@")[0]
        assert len(password) == 48
        assert password not in shown


def test_a_machine_that_joined_serves_the_same_cards_with_the_same_keys(stack: Stack, second: Stack) -> None:
    card = stack.new_card()
    assert second.verify(card, f"pc of {card}")["code"] == "OK"
    assert stack.bound_client(card)["hardware"] == f"pc of {card}"
    assert second.cardctl("key", "export") == stack.cardctl("key", "export")
    hosts = stack.cardctl("hosts", "--format", "json")
    assert [host["name"] for host in hosts if host["present"]] == sorted((os.uname().nodename, "second"))
    ours, theirs = ((one.folder / ".env").read_text() for one in (stack, second))
    assert "\nKADUN_OFFLINE_GRACE=12h\n" in theirs
    assert ("\nKADUN_HOST=second\n" in theirs, "\nKADUN_HOST=second\n" in ours) == (True, False)


def test_doctor_names_what_is_wrong_with_the_second_machine(stack: Stack, second: Stack) -> None:
    def compared() -> bool:
        hosts = stack.cardctl("hosts", "--format", "json")
        return len({host["functions_sha256"] for host in hosts} - {None}) == len(hosts) == 2

    wait_for(compared, 120)  # each reports itself every ten seconds
    printed = stack.script("cardctl", "doctor", "--format", "json", check=False).stdout
    found = {one["check"]: (one["status"], one["message_en"]) for one in json.loads(printed)}
    here, (status, said) = os.uname().nodename, found["hosts"]
    assert (second.folder / "data/functions/more.py").exists()
    assert status == "WARN"
    assert "core functions differ (second: " in said
    assert "an older program version (second 0.9.0 " in said
    assert re.search(rf"clocks are [45]\.\d s apart \({here}, second\)", said)
    assert found["durability"][0] == "WARN"
    assert "There is no synchronous standby" in found["durability"][1]
    assert found["permissions"][0] == "OK", "the signing keys are in no folder"
