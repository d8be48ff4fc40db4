"""Floods of unfinished requests, in a network namespace: others are served, and nginx's memory stays limited."""

import contextlib
import re
import resource
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts.network import Namespace
from tests.support.hosts.stack import run
from tests.support.services.http_exchange import read_response
from tests.support.services.nginx import ConsoleStandIn, Gateway
from tests.support.services.service import ROOT, wait_for

pytestmark = pytest.mark.xdist_group("floods")

SCRIPT = (ROOT / "scripts/provision.sh").read_text()
LIMITS = {name: int(number) for name, number in re.findall(r"^([A-Z]+_OF_[A-Z]+)=(\d+)", SCRIPT, re.MULTILINE)}
OF_ADDRESS, OF_SITE = LIMITS["CONNECTIONS_OF_ADDRESS"], LIMITS["CONNECTIONS_OF_SITE"]
(LIMIT_MIB,) = re.findall(r"mem_limit: (\d+)m  # nginx/nginx.conf", (ROOT / "docker-compose.yml").read_text())
OTHER_MEMORY = 3 * 2**20 + 8 * 2**20  # its small folders in memory, and the health check's curl
HEAD = b"POST /v1/verify HTTP/1.1\r\nHost: x\r\n"
SLOW = {
    "handshakes": None,
    "small headers": HEAD + b"a:\n" * 2600,
    "bodies": HEAD.replace(b"verify", b"execute") + b"Content-Length: 65536\r\n\r\n" + b"x" * 60_000,
}


class Server(Gateway):
    """nginx on a machine of its own, as far as the network goes; this machine has several addresses for it."""

    def __init__(self, folder: Path, backend: Path, namespace: Namespace) -> None:
        super().__init__(folder, backend)
        self.host, self.prefix = namespace.ipv4, ("ip", "netns", "exec", namespace.name)
        self.namespace = namespace
        self.ipv4 = [f"{namespace.ipv4.rpartition('.')[0]}.{number}" for number in range(10, 30)]
        net = namespace.ipv4.split(".")[2]
        self.ipv6 = [f"fd00:{net}:1:{network:x}::1" for network in range(10)]  # one /48
        self.neighbour = f"fd00:{net}:1::2"  # in the /64 of the first
        device = self._device()
        for address in self.ipv4:
            run("ip", "address", "add", f"{address}/32", "dev", device)
        for address in (*self.ipv6, self.neighbour):
            run("ip", "address", "add", f"{address}/128", "dev", device, "nodad")
        run("ip", "-netns", namespace.name, "route", "add", f"fd00:{net}:1::/48", "via", namespace.host_ipv6)

    def _device(self) -> str:
        shown = run("ip", "-o", "address", "show", "to", self.namespace.host_ipv4).stdout
        return shown.split()[1]

    @contextlib.contextmanager
    def limited(self, *balancers: str) -> Iterator[None]:
        """Limit connections by the rules of scripts/provision.sh, with these addresses as KADUN_PROXY_FROM."""
        numbers = "".join(f"{name}={number}\n" for name, number in LIMITS.items())
        function = SCRIPT[SCRIPT.index("connection_rules() {") : SCRIPT.index("\nparse_options ")]
        code = f'{numbers}{function}\nconnection_rules "$@"'
        rules = run("bash", "-euc", code, "-", str(self.https_port), *balancers).stdout
        self._load(rules)
        try:
            yield
        finally:
            self._load("table inet kadun\ndelete table inet kadun\n")

    def _load(self, rules: str) -> None:
        subprocess.run([*self.prefix, "nft", "--file", "-"], input=rules, text=True, check=True)

    def open(self, source: str) -> socket.socket:
        to = self.namespace.ipv6 if ":" in source else self.namespace.ipv4
        return socket.create_connection((to, self.https_port), timeout=10, source_address=(source, 0))

    def serves(self, source: str) -> bool:
        try:
            plain = self.open(source)
        except ConnectionRefusedError:
            return False
        with self.context().wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")
            return read_response(connection).status == 200

    def attack(self, stack: contextlib.ExitStack, source: str, count: int, sent: bytes | None) -> None:
        """Open so many connections, and leave on each a request unfinished; what nginx refuses is refused."""
        context = self.context()
        for _ in range(count):
            with contextlib.suppress(OSError):
                connection = stack.enter_context(self.open(source))
                if sent is None:
                    connection.sendall(b"\x16\x03\x01\x02\x00\x01")  # the start of a ClientHello
                    continue
                secured = stack.enter_context(context.wrap_socket(connection, server_hostname="localhost"))
                secured.sendall(sent)

    def require_little_memory(self) -> None:
        held = self.held_bytes("body") + self.held_bytes("console")
        assert self.memory_bytes() + held + OTHER_MEMORY < int(LIMIT_MIB) * 2**20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = tmp_path_factory.mktemp("flood")
    with (
        Namespace() as namespace,
        ConsoleStandIn(folder / "app.sock") as backend,
        Server(folder / "nginx", backend.path, namespace) as running,
    ):
        yield running


def count_accepted(server: Server, stack: contextlib.ExitStack | None, *sources: str) -> int:
    """Connect from these addresses in turn until one is refused; without a stack, close each connection at once."""
    for count in range(20 * OF_SITE):  # more than a slow machine makes while as many again are allowed
        try:
            connection = server.open(sources[count % len(sources)])
        except ConnectionRefusedError:
            return count
        if stack is None:
            connection.close()
        else:
            stack.enter_context(connection)
    raise AssertionError("none was refused")


def test_the_firewall_limits_the_connections_of_an_address_and_of_a_site(server: Server) -> None:
    with server.limited(), contextlib.ExitStack() as stack:
        assert count_accepted(server, stack, server.ipv4[0]) == OF_ADDRESS
        assert server.serves(server.ipv4[1])
        assert count_accepted(server, stack, server.ipv6[0], server.neighbour) == OF_ADDRESS
        assert server.serves(server.ipv6[1])
        stack.close()
        assert wait_for(lambda: server.serves(server.ipv4[0]))
    with server.limited(), contextlib.ExitStack() as stack:
        assert count_accepted(server, stack, *server.ipv6) == OF_SITE
        assert server.serves(server.ipv4[2])


def test_neither_the_balancer_nor_ssh_is_limited(server: Server) -> None:
    code = "import socket, sys; s = socket.create_server(('', 22), backlog=512); print(flush=True); sys.stdin.read()"
    command = [*server.prefix, "python3", "-c", code]
    with (
        server.limited(f"{server.ipv4[0]}/32", server.ipv6[0]),
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ssh,
        contextlib.ExitStack() as stack,
    ):
        for source in (server.ipv4[0], server.ipv6[0]):
            for _ in range(OF_ADDRESS + 10):
                stack.enter_context(server.open(source))
        assert count_accepted(server, stack, server.ipv4[1]) == OF_ADDRESS
        assert ssh.stdout is not None
        ssh.stdout.readline()
        for _ in range(2 * OF_ADDRESS):
            stack.enter_context(socket.create_connection((server.host, 22), timeout=10))
        ssh.communicate()


def test_others_are_served_while_six_addresses_send_slowly(server: Server) -> None:
    for kind, sent in SLOW.items():
        with server.limited(), contextlib.ExitStack() as stack:
            for source in server.ipv4[3:9]:
                server.attack(stack, source, OF_ADDRESS + 10, sent)
            assert all(server.serves(source) for source in server.ipv4[9:] * 4), kind
            server.require_little_memory()


def test_memory_suffices_without_a_firewall(server: Server) -> None:
    before = server.workers()
    for sent in (SLOW["small headers"], SLOW["bodies"]):  # the largest of each; handshakes alone take less than both
        with contextlib.ExitStack() as stack:
            server.attack(stack, server.ipv4[0], 1700, sent)
            server.require_little_memory()
    assert server.workers() == before
