"""The real thing: scripts/init.sh, `docker compose up`, and a customer's machine elsewhere on the network."""

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import wait_for
from tests.support.stack import SECRETS, SERVICES, Namespace, Stack, copy_checkout, run

pytestmark = pytest.mark.containers

CORE_DATA = b"what the program cannot do without\n"
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
    keys: str
    core: Path

    def open_program(self, card: str, hardware: str, *, over: str = "ipv4") -> dict[str, Any]:
        host = self.network.host_ipv4 if over == "ipv4" else f"[{self.network.host_ipv6}]"
        url = f"https://{host}:{self.stack.https_port}"
        ca = self.stack.folder / "https_certificates/fullchain.pem"
        answer: dict[str, Any] = json.loads(
            self.network.python(CLIENT, url, self.keys, card, hardware, str(ca), str(self.core)).stdout
        )
        return answer

    def reaches(self, address: str, port: int) -> bool:
        return self.network.python(REACHES, address, str(port), check=False).returncode == 0


@pytest.fixture(scope="module")
def network() -> Iterator[Namespace]:
    namespace = Namespace()
    try:
        yield namespace.__enter__()
    finally:
        namespace.__exit__()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, network: Namespace) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        stack.init_anew("kadun.test", network.host_ipv4, network.host_ipv6)
        stack.up()
        yield stack


@pytest.fixture(scope="module")
def customer(tmp_path_factory: pytest.TempPathFactory, network: Namespace, stack: Stack) -> Customer:
    folder = tmp_path_factory.mktemp("customer")
    (folder / "core").write_bytes(CORE_DATA)
    stack.seal(folder / "core", folder / "core.age")
    return Customer(network, stack, json.dumps(stack.cardctl("key", "export")), folder / "core.age")


@pytest.mark.parametrize("over", ["ipv4", "ipv6"])
def test_a_card_opens_the_program_from_another_machine_and_its_very_address_is_recorded(
    customer: Customer, stack: Stack, over: str
) -> None:
    card = stack.new_card()
    opened = customer.open_program(card, f"pc of {card}", over=over)
    assert opened == {"code": "OK", "core": CORE_DATA.decode()}
    client = stack.bound_client(card)
    assert client["ip"] == getattr(customer.network, over)
    assert client["hardware"] == f"pc of {card}"


def test_after_a_restart_the_card_is_still_bound(customer: Customer, stack: Stack) -> None:
    card = stack.new_card()
    assert customer.open_program(card, f"pc of {card}", over="ipv6")["code"] == "OK"
    before = stack.bound_client(card)
    stack.compose("down")
    stack.up()
    assert stack.bound_client(card) == before
    assert customer.open_program(card, "another pc", over="ipv4")["code"] == "CLIENT_MISMATCH"
    assert customer.open_program(card, f"pc of {card}")["core"] == CORE_DATA.decode()


def test_nothing_but_the_two_ports_of_nginx_is_reachable(customer: Customer, stack: Stack) -> None:
    listening = set()
    pids = {str(pid) for service in SERVICES for pid, _ in stack.processes(service)}
    for line in run(
        "ss", "--no-header", "--listening", "--numeric", "--processes", "--tcp", "--udp"
    ).stdout.splitlines():
        if any(f"pid={pid}," in line for pid in pids):
            listening.add(line.split()[4])
    ports = (stack.http_port, stack.https_port)
    assert listening == {f"{address}:{port}" for address in ("0.0.0.0", "[::]") for port in ports}  # noqa: S104
    for service in ("app", "database"):
        settings = stack.inspect(service)["NetworkSettings"]
        assert not any((settings["Ports"] or {}).values()), "a published port goes round the firewall"
        for endpoint in settings["Networks"].values():
            for port in (80, 5432, 8000):
                assert not customer.reaches(endpoint["IPAddress"], port)
    # The same probes do find what is there: nginx from elsewhere, the database from this machine.
    assert all(customer.reaches(customer.network.host_ipv4, port) for port in ports)
    (endpoint,) = stack.inspect("database")["NetworkSettings"]["Networks"].values()
    socket.create_connection((endpoint["IPAddress"], 5432), timeout=3).close()


def test_no_metrics_from_outside(customer: Customer, stack: Stack) -> None:
    url = f"https://{customer.network.host_ipv4}:{stack.https_port}/metrics"
    ca = stack.folder / "https_certificates/fullchain.pem"
    shown = run("ip", "netns", "exec", customer.network.name, "curl", "-sS", "--cacert", ca, url).stdout
    assert json.loads(shown)["code"] == "NOT_FOUND"


def test_the_app_made_anew_is_served_by_the_same_nginx(customer: Customer, stack: Stack) -> None:
    before = stack.inspect("nginx")["State"]
    stack.up("--force-recreate", "--no-deps", "app")
    card = stack.new_card()
    assert customer.open_program(card, f"pc of {card}")["code"] == "OK"
    after = stack.inspect("nginx")["State"]
    assert (after["Pid"], after["StartedAt"]) == (before["Pid"], before["StartedAt"])


def test_nginx_reloads_a_new_certificate_though_it_is_hardened(stack: Stack) -> None:
    def served() -> str:
        command = ("openssl", "s_client", "-connect", f"127.0.0.1:{stack.https_port}")
        shown = run(*command, input="").stdout
        return run("openssl", "x509", "-noout", "-fingerprint", input=shown).stdout

    before = served()
    folder = stack.folder / "https_certificates"
    kept = {file: file.read_bytes() for file in folder.glob("*.pem")}
    for file in kept:
        file.unlink()
    stack.init()
    assert served() == before
    reload = ("exec", "-T", "nginx", "nginx", "-s", "reload")
    stack.compose("exec", "-T", "nginx", "nginx", "-t")
    stack.compose(*reload)
    wait_for(lambda: served() != before)
    for file, content in kept.items():
        file.write_bytes(content)
    stack.compose(*reload)
    wait_for(lambda: served() == before)


def test_the_console_is_there_for_the_addresses_in_the_settings_and_a_slip_opens_nothing(
    customer: Customer, stack: Stack
) -> None:
    network, env = customer.network, stack.folder / ".env"
    kept = env.read_text()

    def allow(addresses: str) -> None:
        env.write_text(kept.replace("\nKADUN_ADMIN_ALLOW=\n", f"\nKADUN_ADMIN_ALLOW={addresses}\n"))
        stack.compose("up", "--detach")

    def status(host: str) -> str:
        url = f"https://{host}:{stack.https_port}/admin/"
        curl = ("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", url)
        return run("ip", "netns", "exec", network.name, *curl, check=False).stdout

    try:
        allow(f"203.0.113.7, {network.ipv4}")
        wait_for(lambda: status(network.host_ipv4) == "404")  # an allowed address; there is no operator
        assert status(f"[{network.host_ipv6}]") == "403"
        allow(f"{network.ipv4} 203.0.113.300")
        said = r'invalid network "203\.0\.113\.300" in /etc/nginx/conf\.d/kadun_admin_allow\.conf'
        wait_for(lambda: re.search(said, stack.compose("logs", "--no-color", "nginx").stdout))
        assert status(network.host_ipv4) == "000"
    finally:
        env.write_text(kept)
        stack.up()


USER_IDS = 1 << 5 | 1 << 6 | 1 << 7
"""The capabilities KILL, SETGID and SETUID; see capabilities(7)."""


@pytest.mark.parametrize("service", SERVICES)
def test_containers_are_hardened(stack: Stack, service: str) -> None:
    host = stack.inspect(service)["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert not host["Privileged"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"]
    assert host["PidsLimit"]
    assert host["LogConfig"]["Type"] == "local"
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    for pid, status in stack.processes(service):
        assert status["NoNewPrivs"] == "1"
        if service == "nginx" and pid == stack.inspect("nginx")["State"]["Pid"]:
            continue  # the master: it binds the ports and reads the key, and talks to nobody
        if service == "functions":  # it gives each call a user ID of its own: test_functions_stack.py
            assert int(status["CapEff"], 16) | USER_IDS == USER_IDS
            continue
        assert "0" not in status["Uid"].split(), f"{service} runs a process as root"
        assert int(status["CapEff"], 16) == 0
    written = stack.compose("exec", "-T", service, "touch", "/here", check=False)
    assert "Read-only file system" in written.stderr


def test_what_sends_webhooks_has_a_network_and_no_secret(stack: Stack) -> None:
    container = stack.inspect("webhooks")
    assert list(container["NetworkSettings"]["Networks"]) == ["bridge"]
    assert [mount["Destination"] for mount in container["Mounts"]] == ["/run/kadun-webhooks"]
    assert not [name for name in container["Config"]["Env"] if "DATABASE" in name or "_KEY" in name]
    url = "https://localhost/hook"

    def webhook(*arguments: str) -> str:
        return str(stack.compose("exec", "-T", "app", "python", "-m", "app", "webhook", *arguments).stdout)

    webhook("add", "shop", url, "--topic", "card.activated")
    webhook("test", "shop")

    def error() -> str | None:
        (message,) = json.loads(webhook("log", "shop", "--format", "json"))
        return message["error"]  # type: ignore[no-any-return]

    try:
        assert "which is not a public address" in wait_for(error, 60), "the app reaches it through its socket"
    finally:
        webhook("remove", "shop")


def test_no_secret_stands_in_logs_settings_or_the_image(stack: Stack) -> None:
    card = stack.new_card()
    ring = (stack.folder / "data/keys/keyring.json").read_text()
    secrets = [(stack.folder / "secrets" / name).read_text().strip() for name in SECRETS]
    signing_keys = re.findall(r'"private": "([^"]+)"', ring)
    assert len(signing_keys) == 2, "the current key and the next"
    shown = stack.compose("logs", "--no-color").stdout
    assert "gunicorn" in shown
    assert "nginx" in shown
    shown += "".join(json.dumps(stack.inspect(service)) for service in (*SERVICES, "migrate"))
    shown += run("docker", "history", "--no-trunc", f"{stack.project}-app").stdout
    assert [secret for secret in [*secrets, *signing_keys, card] if secret in shown] == []
    assert stack.compose("exec", "-T", "app", "ls", "-A").stdout.split() == ["app", "client", "requirements.txt"]


def test_the_image_names_its_release(stack: Stack) -> None:
    label = '{{index .Config.Labels "org.opencontainers.image.version"}}'
    labelled = run("docker", "image", "inspect", "--format", label, f"{stack.project}-app").stdout.strip()
    assert stack.compose("exec", "-T", "app", "python", "-m", "app", "--version").stdout == f"cardctl {labelled}\n"


def test_init_changes_nothing_beneath_a_running_stack_and_makes_no_new_password_over_its_data(stack: Stack) -> None:
    def state() -> dict[Path, tuple[int, bytes]]:
        files = [stack.folder / ".env", *(stack.folder / "secrets").iterdir()]
        files += (stack.folder / "https_certificates").iterdir()
        return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}

    before = state()
    assert "nothing changed" in stack.init().stdout
    assert state() == before
    password = stack.folder / "secrets/db_password"
    password.rename(password.with_suffix(".aside"))
    try:
        refused = stack.init(check=False)
        assert refused.returncode == 1
        assert "secrets/db_password is missing: put it back from a backup" in refused.stderr
        assert not password.exists()
    finally:
        password.with_suffix(".aside").rename(password)


def test_without_init_compose_says_what_to_do(tmp_path: Path) -> None:
    copy_checkout(tmp_path)
    done = run("docker", "compose", "up", "--detach", check=False, cwd=tmp_path)
    assert done.returncode != 0
    assert "run scripts/init.sh first" in done.stderr
