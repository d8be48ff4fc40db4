"""PostgreSQL outside the stack, its first host dead, and a second machine that joins."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.hosts.network import ssh_server
from tests.support.hosts.servers import ExternalDatabase
from tests.support.hosts.stack import Stack, run
from tests.support.services.http_exchange import quiet_port
from tests.support.services.service import wait_for

pytestmark = pytest.mark.xdist_group("machines")

# Planted faults: an older version, on a machine whose clock is five seconds fast.
OLDER_AND_FAST = """
USER root
RUN sed -i 's/__version__ = .*/__version__ = "0.9.0"/' client/src/kadun/version.py \\
 && sed -i 's/datetime.now(UTC)/datetime.fromtimestamp(datetime.now().timestamp() + 5, UTC)/' app/runtime/clock.py
USER kadun
"""


@dataclass(frozen=True)
class Machines:
    """Two machines that serve one database."""

    first: Stack
    second: Stack


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, app_image: str) -> Iterator[Stack]:
    """The first machine; nobody is at the first host that its database is said to have."""
    server = ExternalDatabase()
    try:
        server.start()
        with Stack(tmp_path_factory.mktemp("first"), app_image) as stack:
            ports = ("--http-port", str(stack.http_port), "--https-port", str(stack.https_port))
            hosts = f"127.0.0.1:{quiet_port()},127.0.0.1:{server.port}"
            stack.init("--project", stack.project, *ports, "--database-host", hosts)
            server.administer(run(stack.folder / "scripts/database-roles.sh").stdout)
            stack.up()
            yield stack
    finally:
        server.remove()


@pytest.fixture(scope="module")
def machines(first: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Let a second machine join over SSH, whose folder is not there yet."""
    second = Stack(tmp_path_factory.mktemp("second") / "kadun", copy=lambda _folder: None)
    ports = ("--http-port", str(second.http_port), "--https-port", str(second.https_port))
    with second, ssh_server(tmp_path_factory.mktemp("sshd")) as ssh:
        there = ("root@127.0.0.1", *ssh.options(), "--directory", second.folder, "--project", second.project, *ports)
        keys = first.script("migrate-to.sh", *there, "--join", check=False)
        assert (keys.returncode, "KADUN_KEYS must be database" in keys.stderr) == (1, True)
        first.script("cardctl", "key", "store", "database")
        with (first.folder / ".env").open("a") as env:
            env.write("KADUN_KEYS=database\nKADUN_OFFLINE_GRACE=12h\n")
        first.up()
        (first.folder / "data/keys/keyring.json").unlink()
        namesake = first.script("migrate-to.sh", *there, "--join", check=False)
        assert (namesake.returncode, "give the new one another with --host NAME" in namesake.stderr) == (1, True)
        alone = first.script("migrate-to.sh", *there, check=False)
        assert (alone.returncode, "let the new server join with --join" in alone.stderr) == (1, True)
        assert not second.folder.exists()
        joined = first.script("migrate-to.sh", *there, "--join", "--host", "second")
        assert "it serves beside this server" in joined.stdout
        assert not (second.folder / "data/keys/keyring.json").exists()
        flawed = f"FROM {first.project}-app\n{OLDER_AND_FAST}"
        run("docker", "build", "--quiet", "--tag", f"{second.project}-app", "-", input=flawed)
        (second.folder / "data/functions/more.py").write_text("")
        second.up()
        yield Machines(first, second)


def test_cards_are_issued_and_verified_though_the_databases_first_host_is_dead(first: Stack) -> None:
    card = first.new_card()
    for _ in range(2):
        assert first.verify(card, f"pc of {card}")["code"] == "OK"
    assert first.bound_client(card)["hardware"] == f"pc of {card}"
    assert not (first.folder / "data/postgres").exists()


def test_what_speaks_to_it_has_no_rights_and_shows_no_password(first: Stack) -> None:
    shown = first.compose("logs").stdout
    for service in ("app", "database", "migrate"):
        inspected = first.inspect(service)
        shown += json.dumps(inspected)
        assert inspected["HostConfig"]["CapAdd"] is None, service
        assert inspected["Config"]["User"].split(":")[0] not in ("", "0")
        assert {mount["Name"] for mount in inspected["Mounts"] if mount["Type"] == "volume"} <= {
            f"{first.project}_{name}" for name in ("functions-socket", "socket", "webhooks-socket")
        }
    assert first.listening() == {f"{ip}:{port}" for ip in ("0.0.0.0", "[::]") for port in first.ports}  # noqa: S104
    for service in ("app", "database"):
        first.require_no_rights(service)
    for name in ("owner_url", "backup_url", "database_url"):
        password = (first.folder / "secrets" / name).read_text().split(":")[2].split("@")[0]
        assert (len(password), password in shown) == (48, False)


def test_a_machine_that_joined_serves_the_same_cards_with_the_same_keys(machines: Machines) -> None:
    first, second = machines.first, machines.second
    card = first.new_card()
    assert second.verify(card, f"pc of {card}")["code"] == "OK"
    assert first.bound_client(card)["hardware"] == f"pc of {card}"
    assert second.cardctl("key", "export") == first.cardctl("key", "export")
    hosts = first.cardctl("hosts", "--format", "json")
    assert [host["name"] for host in hosts if host["present"]] == sorted((os.uname().nodename, "second"))
    ours, theirs = ((one.folder / ".env").read_text() for one in (first, second))
    assert "\nKADUN_OFFLINE_GRACE=12h\n" in theirs
    assert ("\nKADUN_HOST=second\n" in theirs, "\nKADUN_HOST=second\n" in ours) == (True, False)


def test_doctor_names_what_differs_on_the_second_machine(machines: Machines) -> None:
    def compared() -> bool:
        hosts = machines.first.cardctl("hosts", "--format", "json")
        return len({host["functions_sha256"] for host in hosts} - {None}) == len(hosts) == 2

    wait_for(compared, 120)  # each reports itself every ten seconds
    printed = machines.first.script("cardctl", "doctor", "--format", "json", check=False).stdout
    found = {one["check"]: (one["status"], one["message_en"]) for one in json.loads(printed)}
    assert found["hosts"] == ("WARN", "different version; different core functions; different time. See cardctl hosts")
    assert found["durability"][0] == "WARN"
    assert "There is no synchronous standby" in found["durability"][1]
    assert found["permissions"][0] == "OK", "the signing keys are in no folder"


@pytest.mark.nightly
def test_it_is_backed_up_restored_and_upgraded_as_if_the_database_were_in_its_container(first: Stack) -> None:
    there, count = first.new_card(), "SELECT count(*) FROM card"
    first.verify(there, f"pc of {there}")
    cards = first.sql("app", count)
    first.script("backup.sh")
    (backup,) = (first.folder / "data/backups").glob("kadun-2*.tar.age")
    first.new_card()
    first.script("restore.sh", backup)
    assert first.sql("app", count) == cards
    assert "kadun_before_restore_" in first.script("restore.sh", "--drop-old").stdout
    assert "Upgraded" in first.script("upgrade.sh", "--no-pull").stdout
    run("docker", "image", "rm", "--force", f"{first.project}-app:previous", check=False)
    assert first.verify(there, f"pc of {there}")["code"] == "OK"
