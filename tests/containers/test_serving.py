"""The stack serves: a customer's machine elsewhere on the network, and what each container may and may not do."""
# Owns run-containers.

import json
import os
import re
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.hosts.network import Namespace
from tests.support.hosts.servers import CORE_DATA, Program
from tests.support.hosts.stack import SECRETS, SERVICES, Stack, copy_checkout, run
from tests.support.services.service import wait_for

pytestmark = pytest.mark.xdist_group("serving")

CLIENT = """
import json, sys
import kadun
url, keys, card, hardware, ca, core = sys.argv[1:]
client = kadun.Client(url, public_keys=keys, card_id=card, hardware=hardware, ca_file=ca)
try:
    client.open()
    print(json.dumps({"code": "OK", "core": client.unseal(core).decode()}))
except kadun.CardRejected as error:
    print(json.dumps({"code": error.code}))
"""
REACHES = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1)"


@dataclass(frozen=True)
class Customer:
    """A machine elsewhere, with the vendor's program on it."""

    network: Namespace
    stack: Stack
    program: Program

    def open_program(self, card: str, hardware: str, *, over: str = "ipv4") -> dict[str, Any]:
        host = self.network.host_ipv4 if over == "ipv4" else f"[{self.network.host_ipv6}]"
        url = f"https://{host}:{self.stack.https_port}"
        ca = self.stack.folder / "https_certificates/fullchain.pem"
        arguments = (url, self.program.keys, card, hardware, str(ca), str(self.program.core))
        answer: dict[str, Any] = json.loads(self.network.python(CLIENT, *arguments).stdout)
        return answer

    def reaches(self, address: str, port: int) -> bool:
        return self.network.python(REACHES, address, str(port), check=False).returncode == 0


@pytest.fixture
def customer(network: Namespace, stack: Stack, program: Program) -> Customer:
    return Customer(network, stack, program)


def test_a_card_opens_the_program_from_another_machine_whose_very_address_is_recorded_and_after_a_restart_too(
    customer: Customer, stack: Stack
) -> None:
    for over in ("ipv4", "ipv6"):
        card = stack.new_card()
        opened = customer.open_program(card, f"pc of {card}", over=over)
        assert opened == {"code": "OK", "core": CORE_DATA.decode()}
        bound = stack.bound_client(card)
        assert (bound["ip"], bound["hardware"]) == (getattr(customer.network, over), f"pc of {card}")
    stack.compose("down")
    stack.up()
    assert stack.bound_client(card) == bound
    assert customer.open_program(card, "another pc", over="ipv4")["code"] == "CLIENT_MISMATCH"
    assert customer.open_program(card, f"pc of {card}")["core"] == CORE_DATA.decode()


def test_nothing_but_the_two_ports_of_nginx_is_reachable(customer: Customer, stack: Stack) -> None:
    assert stack.listening() == {f"{ip}:{port}" for ip in ("0.0.0.0", "[::]") for port in stack.ports}  # noqa: S104
    for service in ("app", "database"):
        settings = stack.inspect(service)["NetworkSettings"]
        assert not any((settings["Ports"] or {}).values()), "a published port goes round the firewall"
        for endpoint in settings["Networks"].values():
            for port in (80, 5432, 8000):
                assert not customer.reaches(endpoint["IPAddress"], port)
    # The same probes do find what is there: nginx from elsewhere, the database from this machine.
    assert all(customer.reaches(customer.network.host_ipv4, port) for port in stack.ports)
    (endpoint,) = stack.inspect("database")["NetworkSettings"]["Networks"].values()
    socket.create_connection((endpoint["IPAddress"], 5432), timeout=3).close()


def test_the_console_is_there_for_the_addresses_in_the_settings_alone(customer: Customer, stack: Stack) -> None:
    network, env = customer.network, stack.folder / ".env"
    kept = env.read_text()

    def status(host: str) -> str:
        url = f"https://{host}:{stack.https_port}/admin/"
        curl = ("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", url)
        return run("ip", "netns", "exec", network.name, *curl, check=False).stdout

    try:
        allowed = f"\nKADUN_ADMIN_ALLOW=203.0.113.7, {network.ipv4}\n"
        env.write_text(kept.replace("\nKADUN_ADMIN_ALLOW=\n", allowed))
        stack.compose("up", "--detach")
        wait_for(lambda: status(network.host_ipv4) == "404")  # an allowed address; there is no operator
        assert status(f"[{network.host_ipv6}]") == "403"
    finally:
        env.write_text(kept)
        stack.up()


def test_containers_are_hardened(stack: Stack) -> None:
    for service in SERVICES:
        host = stack.inspect(service)["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert not host["Privileged"], service
        assert host["CapDrop"] == ["ALL"], service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        assert host["Memory"], service
        assert host["PidsLimit"], service
        assert host["LogConfig"]["Type"] == "local", service
        assert host["RestartPolicy"]["Name"] == "unless-stopped", service
        stack.require_no_rights(service)
        written = stack.execute(service, "touch", "/here", check=False)
        assert "Read-only file system" in written.stderr, service


def test_what_sends_webhooks_has_a_network_and_no_secret(stack: Stack) -> None:
    container = stack.inspect("webhooks")
    assert list(container["NetworkSettings"]["Networks"]) == ["bridge"]
    assert [mount["Destination"] for mount in container["Mounts"]] == ["/run/kadun-webhooks"]
    assert not [name for name in container["Config"]["Env"] if "DATABASE" in name or "_KEY" in name]
    url = "https://localhost/hook"

    def webhook(*arguments: str) -> str:
        return str(stack.execute("app", "python", "-m", "app", "webhook", *arguments).stdout)

    webhook("add", "shop", url, "--topic", "card.activated")
    webhook("test", "shop")

    def error() -> str | None:
        (message,) = json.loads(webhook("log", "shop", "--format", "json"))
        return message["error"]  # type: ignore[no-any-return]

    try:
        assert "which is not a public address" in wait_for(error, 60), "the app reaches it through its socket"
    finally:
        webhook("remove", "shop")


def test_ctrl_c_and_a_lost_connection_end_a_followed_journal_in_the_container_too(stack: Stack) -> None:
    command = [stack.folder / "scripts/cardctl", "events", "--follow", "--format", "json"]

    def following() -> bool:
        return "events --follow" in run("docker", "top", stack.inspect("app")["Id"], "-eo", "pid,args").stdout

    for sent, status in ((signal.SIGINT, 0), (signal.SIGHUP, -signal.SIGHUP)):
        stack.new_card("--batch", "followed")
        # nohup, under which the tests may run, has every process below it ignore SIGHUP.
        process = subprocess.Popen(
            ["env", "--default-signal=HUP", *command],
            env=stack.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert wait_for(lambda lines=process.stdout: "followed" in lines.readline())
        assert following()
        os.killpg(process.pid, sent)
        assert process.wait(60) == status
        process.stdout.close()
        wait_for(lambda: not following())


def test_no_secret_stands_in_logs_settings_or_the_image(stack: Stack) -> None:
    card = stack.new_card()
    ring = (stack.folder / "data/keys/keyring.json").read_text()
    secrets = [(stack.folder / "secrets" / name).read_text().strip() for name in SECRETS]
    passwords = [secret.split(":")[2].split("@")[0] for secret in secrets if secret.startswith("postgresql://")]
    assert [len(password) for password in passwords] == [48, 48, 48]
    signing_keys = re.findall(r'"private": "([^"]+)"', ring)
    assert len(signing_keys) == 2, "the current key and the next"
    shown = stack.compose("logs", "--no-color").stdout
    assert "gunicorn" in shown
    assert "nginx" in shown
    shown += "".join(json.dumps(stack.inspect(service)) for service in (*SERVICES, "migrate"))
    shown += run("docker", "history", "--no-trunc", f"{stack.project}-app").stdout
    assert [secret for secret in [*secrets, *passwords, *signing_keys, card] if secret in shown] == []
    assert stack.execute("app", "ls", "-A").stdout.split() == ["app", "client", "requirements.txt"]


def test_a_database_over_the_folder_of_another_names_its_project_and_does_not_start(stack: Stack) -> None:
    before = stack.inspect("database")
    other = ("-p", f"{stack.project}-other")
    try:
        stack.compose(*other, "up", "--detach", "--no-deps", "database")
        said = f"The database of project {stack.project} runs over this folder (data/postgres)"
        wait_for(lambda: said in stack.compose(*other, "logs", "--no-color", "database").stdout)
        assert "database system is ready" not in stack.compose(*other, "logs", "--no-color", "database").stdout
        assert stack.inspect("database")["State"]["StartedAt"] == before["State"]["StartedAt"]
    finally:
        stack.compose(*other, "down", "--timeout", "1", "--volumes")


def test_without_init_compose_says_what_to_do(tmp_path: Path) -> None:
    copy_checkout(tmp_path)
    done = run("docker", "compose", "up", "--detach", check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert "run scripts/init.sh first" in done.stderr
