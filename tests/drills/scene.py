"""Two app machines behind HAProxy, on a database of three machines, and customers who only know the balancer.

Each database machine is a network of its own on this one's container engine, with what is in deploy/cluster/.
"""

import contextlib
import http.client
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self
from unittest.mock import patch
from uuid import uuid4

import jwt
import kadun
import psycopg2
import pyrage

from app.storage import schema
from app.storage.database import Database
from tests.drills.customers import ACCEPTED, FAILED, REFUSED, Customers, Reply, machine_of
from tests.support.hosts.network import Namespace, free_network
from tests.support.hosts.stack import copy_checkout, run
from tests.support.services.http_exchange import exchange, quiet_port
from tests.support.services.nginx import Gateway
from tests.support.services.service import ROOT, question, wait_for
from tests.support.services.socket_service import SocketService

OVERRIDE = """
services:
  etcd: {{network_mode: "container:{machine}"}}
  database: {{network_mode: "container:{machine}"}}
"""
IMAGE = "kadun-test-cluster"


class Machine:
    """A network of its own with the containers of a node; its cable can be pulled."""

    def __init__(self, folder: Path, name: str, network: str, address: str) -> None:
        self.name = name
        self.address = address
        self.folder = folder
        self._container = f"{network}-{name}"
        self._network = network
        self._cable = ""

    def build(self, checkout: Path) -> None:
        """Put what a vendor copies to the machine into its folder, and start it without any container of Kadun's."""
        shutil.copytree(checkout / "deploy/cluster", self.folder, ignore=shutil.ignore_patterns("nodes"))
        shutil.copytree(checkout / "deploy/cluster/nodes" / self.name, self.folder / "node")
        (self.folder / "override.yml").write_text(OVERRIDE.format(machine=self._container))
        environment = {
            "COMPOSE_FILE": "docker-compose.yml:override.yml",
            "COMPOSE_PROJECT_NAME": self._container,
            "KADUN_CLUSTER_IMAGE": IMAGE,
        }
        (self.folder / ".env").write_text("".join(f"{name}={text}\n" for name, text in environment.items()))
        run(
            *("docker", "run", "--detach", "--init", "--name", self._container, "--network", self._network),
            *("--ip", self.address, "--entrypoint", "sleep", IMAGE, "infinity"),
        )
        index = run("docker", "exec", self._container, "cat", "/sys/class/net/eth0/iflink").stdout.strip()
        links = run("ip", "-o", "link").stdout.splitlines()
        (self._cable,) = (line.split()[1].partition("@")[0] for line in links if line.startswith(f"{index}:"))

    def compose(self, *arguments: str, check: bool = True, **options: Any) -> str:
        return run("docker", "compose", *arguments, cwd=self.folder, check=check, **options).stdout

    def kill(self, *services: str) -> None:
        """End services' containers by SIGKILL; they do not start again by themselves."""
        self.compose("kill", "--signal", "KILL", *services)

    def stop(self) -> None:
        """Stop it as before work on the machine; nothing has to be killed."""
        self.compose("stop", "--timeout", "60")
        for service in ("database", "etcd"):
            container = f"{self._container}-{service}-1"
            assert run("docker", "inspect", "--format", "{{.State.ExitCode}}", container).stdout.strip() == "0", service

    def pull_cable(self) -> None:
        """Take the link down at this end: packets get lost, and nobody is told."""
        run("ip", "link", "set", self._cable, "down")

    def plug_in(self) -> None:
        run("ip", "link", "set", self._cable, "up")

    def psql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the administrator, through the container's socket."""
        words = ("psql", "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-d", database)
        return self.execute("postgres", *words, text=statement).strip()

    def execute(self, user: str, *command: str, text: str = "") -> str:
        """Run a command in the database's container, by the engine: `docker compose exec` takes longer."""
        container = f"{self._container}-database-1"
        return run("docker", "exec", "-i", "-u", user, container, *command, input=text).stdout

    def remove(self) -> None:
        if self.folder.exists():
            self.compose("down", "--volumes", "--timeout", "0", check=False)
        run("docker", "rm", "--force", self._container, check=False)


class DatabaseCluster:
    """Three machines with etcd, of which three or two have PostgreSQL."""

    def __init__(self, folder: Path, *, nodes: int = 3) -> None:
        self.checkout = folder / "checkout"
        self._network = f"kadun-test-{uuid4().hex[:8]}"
        prefix = free_network()
        self._gateway = f"{prefix}.1"
        self._subnet = f"{prefix}.0/24"
        names = [*(f"node{number}" for number in range(1, nodes + 1)), *["witness"] * (3 - nodes)]
        self.machines = [
            Machine(folder / name, name, self._network, f"{prefix}.{number}") for number, name in enumerate(names, 11)
        ]

    @property
    def nodes(self) -> list[Machine]:
        return [machine for machine in self.machines if machine.name != "witness"]

    def __enter__(self) -> Self:
        copy_checkout(self.checkout)
        self.make_certificates()
        run("docker", "build", "--quiet", "--target", "database", "--tag", IMAGE, self.checkout / "deploy/cluster")
        try:
            run("docker", "network", "create", "--subnet", self._subnet, "--gateway", self._gateway, self._network)
            for machine in self.machines:
                machine.build(self.checkout)
            for machine in self.machines:
                machine.compose("up", "--detach", "--no-build", *(["etcd"] if machine not in self.nodes else []))
            self.settled()
            self._make_roles()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def make_certificates(self, *options: str) -> None:
        """Make what is copied to the machines, as docs/several-machines.md says."""
        words = itertools.chain.from_iterable(
            ("--witness" if machine.name == "witness" else "--node", machine.address) for machine in self.machines
        )
        run(self.checkout / "deploy/cluster/init.sh", *words, *options)

    def remove(self) -> None:
        for machine in self.machines:
            machine.remove()
        run("docker", "network", "rm", self._network, check=False)

    def _make_roles(self) -> None:
        # As docs/several-machines.md says.
        hosts = ",".join(node.address for node in self.nodes)
        ports = ("--http-port", str(quiet_port()), "--https-port", str(quiet_port()))
        run(self.checkout / "scripts/init.sh", "--database-host", hosts, *ports)
        roles = run(self.checkout / "scripts/database-roles.sh").stdout
        self.primary().psql(roles)

    def url(self, role: str = "app") -> str:
        """The URL of a role, as scripts/init.sh made it."""
        name = "database_url" if role == "app" else f"{role}_url"
        return (self.checkout / "secrets" / name).read_text().strip()

    def members(self) -> dict[str, dict[str, Any]]:
        """What Patroni says of each node, by its name; empty where no node can be asked."""
        for node in self.nodes:
            with contextlib.suppress(AssertionError):
                listed = node.execute("root", "patronictl", "list", "--format", "json")
                return {member["Member"]: member for member in json.loads(listed)}
        return {}

    def primary(self) -> Machine:
        """The node that accepts writes, by Patroni's word."""

        def leader() -> Machine | None:
            members = self.members()
            return next((node for node in self.nodes if members.get(node.name, {}).get("Role") == "Leader"), None)

        found: Machine = wait_for(leader)
        return found

    def standbys(self) -> list[Machine]:
        primary = self.primary()
        return [node for node in self.nodes if node is not primary]

    def settled(self, seconds: float = 180) -> None:
        """Wait until there is a primary, and every other node follows it."""
        wait_for(self._is_settled, seconds)

    def _is_settled(self) -> bool:
        time.sleep(0.5)
        members = list(self.members().values())
        followers = [member for member in members if member["Role"] in {"Quorum Standby", "Sync Standby"}]
        return (
            len(followers) == len(self.nodes) - 1
            and all(member["State"] == "streaming" for member in followers)
            and any(member["Role"] == "Leader" for member in members)
        )


CARDS = 20_000
PORTS = (10_080, 10_443)
"""Of nginx on each app machine, which has a network of its own."""
_ACTIVATED = """
SELECT card.id, client.hardware, client.ip, (SELECT count(*) FROM event WHERE card_id = card.id AND kind = 'activated')
FROM card JOIN client ON client.card_id = card.id WHERE card.id = ANY (%s) AND is_activated
"""


class AppMachine:
    """nginx on a machine of its own as far as the network goes, and the app behind it."""

    def __init__(self, folder: Path, database_url: str, identity: str) -> None:
        self._stack = contextlib.ExitStack()
        folder.mkdir()
        self.namespace = self._stack.enter_context(Namespace())
        keys = {"KADUN_KEYS": "database", "KADUN_KEYS_IDENTITY": identity}
        self.service = SocketService(folder, database_url, **keys)
        self.nginx = Gateway(
            folder / "nginx",
            self.service.socket,
            ports=PORTS,
            KADUN_PROXY_PROTOCOL="true",
            KADUN_PROXY_FROM=self.namespace.host_ipv4,
        )
        self.nginx.host = self.namespace.ipv4
        self.nginx.prefix = ("ip", "netns", "exec", self.namespace.name)

    def start(self) -> None:
        self.service.start()
        self._stack.callback(self.service.stop)
        self._stack.enter_context(self.nginx)

    def stop(self) -> None:
        self._stack.close()

    def kill(self) -> None:
        for pid in (self.nginx.pid, *self.nginx.workers()):
            os.kill(pid, signal.SIGKILL)
        self.service.kill()

    def start_again(self) -> None:
        self.nginx.__exit__()
        self.nginx.__enter__()
        self.service.start()

    def served(self) -> int:
        return sum(line["path"] == "/v1/verify" for line in self.nginx.access_log())


class Outcome(NamedTuple):
    """What customers saw of one failure; times in seconds."""

    activations_stopped: float
    verifications_stopped: float
    all_back: float
    longest_answer: float
    refused: int
    accepted: int
    lost: int
    activated_twice: int
    odd: list[str]
    """Answers that are neither accepted nor 503 with Retry-After; of the SDK, openings that failed."""


Failure = Callable[["Scene", Customers], contextlib.AbstractContextManager[None]]


class Scene:
    """The machines, and cards to activate."""

    def __init__(self, folder: Path, *, nodes: int = 3) -> None:
        self._folder = folder
        self._port = quiet_port()
        self._stack = contextlib.ExitStack()
        self.cluster = DatabaseCluster(folder / "cluster", nodes=nodes)
        self._balancer = self.cluster.checkout / "deploy/cluster/balancer"
        self.apps: list[AppMachine] = []
        self._migrations = itertools.count()

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.enter_context(self.cluster)
            identity = str(pyrage.x25519.Identity.generate())
            for name in ("app1", "app2"):
                url = self.cluster.url()
                self.apps.append(AppMachine(self._folder / name, url, identity))
                self._stack.callback(self.apps[-1].stop)
            first, second = self.apps
            for name in ("fullchain.pem", "privkey.pem"):  # as scripts/migrate-to.sh --join copies them
                (second.nginx.certificates / name).write_bytes((first.nginx.certificates / name).read_bytes())
            SocketService(self._folder, self.cluster.url("owner")).cardctl("migrate")
            for app in self.apps:
                app.start()
            self._start_balancer()
            self._cards = iter(first.service.issue(CARDS))
            self._keys = first.service.cardctl("key", "export").stdout
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start_balancer(self) -> None:
        folder = self._balancer
        settings = {
            "COMPOSE_PROJECT_NAME": f"kadun-test-{secrets.token_hex(4)}",
            "KADUN_BALANCER_IMAGE": "kadun-test-balancer",
            **{f"KADUN_APP{number}": app.namespace.ipv4 for number, app in enumerate(self.apps, 1)},
            "KADUN_APP_HTTP_PORT": str(PORTS[0]),
            "KADUN_APP_HTTPS_PORT": str(PORTS[1]),
            "KADUN_HTTP_PORT": str(quiet_port()),
            "KADUN_HTTPS_PORT": str(self._port),
        }
        (folder / ".env").write_text("".join(f"{name}={text}\n" for name, text in settings.items()))
        self._stack.callback(run, "docker", "compose", "down", "--timeout", "1", cwd=folder, check=False)
        run("docker", "compose", "up", "--detach", "--build", "--wait", cwd=folder)

    @property
    def _certificate(self) -> Path:
        return self.apps[0].nginx.certificates / "fullchain.pem"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port))

    def verify(self, card_id: str) -> Reply:
        """One request, as a program without the SDK sends it."""
        context = ssl.create_default_context(cafile=self._certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=120, context=context)
        headers = {"Content-Type": "application/json"}
        body = json.dumps(question(card_id, machine_of(card_id))).encode()
        answer = exchange(connection, "POST", "/v1/verify", body, headers)
        if answer.status != ACCEPTED:
            return Reply(answer.status, retry_after="retry-after" in answer.headers)
        claims = jwt.decode(answer.json()["token"], options={"verify_signature": False})
        return Reply(ACCEPTED, activated=claims["activated"])

    def open(self, card_id: str) -> Reply:
        """One start of a program with the SDK, which asks again by itself."""
        client = kadun.Client(
            f"https://127.0.0.1:{self._port}", self._keys, card_id,
            hardware=machine_of(card_id), ca_file=self._certificate, state_dir=None,
        )  # fmt: skip
        try:
            return Reply(ACCEPTED, activated=client.open().activated)
        except kadun.KadunError as error:
            return Reply(FAILED, why=repr(error))

    def suffer(self, failure: Failure, *, by_sdk: bool = False) -> Outcome:
        """Let a failure happen under load, wait until all are served, heal it, and count."""
        with Customers(self.open if by_sdk else self.verify, self._cards) as customers:
            customers.answered(ACCEPTED)
            began = time.monotonic()
            with failure(self, customers):
                customers.answered(ACCEPTED)
            self.cluster.settled()
            self.wait_until_balanced()
        lost, twice = self._compare(customers.told)
        if customers.odd:
            logs = [run("docker", "compose", "logs", "--no-color", cwd=self._balancer, check=False).stdout]
            print(*logs, *(app.service.log.read_text() for app in self.apps), sep="\n")  # noqa: T201
        return Outcome(
            activations_stopped=customers.longest_wait(began, first=True),
            verifications_stopped=customers.longest_wait(began, first=False),
            all_back=customers.seconds_until_all_are_back(began),
            longest_answer=max(answer.seconds for answer in customers.answers),
            refused=customers.statuses[REFUSED],
            accepted=customers.statuses[ACCEPTED],
            lost=lost,
            activated_twice=twice,
            odd=[
                f"{odd.at - began:.1f} s after it began, having taken {odd.seconds:.1f} s: {odd.reply}"
                for odd in customers.odd
            ],
        )

    def key_sets(self) -> list[bytes]:
        return [app.service.ask_directly("/.well-known/jwks.json") for app in self.apps]

    def migrate_further(self) -> None:
        number = int(schema.expected_version()[:4]) + 1 + next(self._migrations)
        folder = self._folder / "migrations"
        shutil.copytree(ROOT / "app/storage/migrations", folder, dirs_exist_ok=True)
        (folder / f"{number:04d}_drill.sql").write_text(f"CREATE TABLE drill_{number} (id int);")
        with patch.object(schema, "_FOLDER", folder):
            schema.migrate(Database(self.cluster.url("owner"), bulk=True), lambda _line: None)

    def wait_until_idle(self, app: AppMachine) -> None:
        def is_idle() -> bool:
            before = app.served()
            time.sleep(1)
            return app.served() == before

        wait_for(is_idle, 60)

    def wait_until_balanced(self) -> None:
        before = [app.served() for app in self.apps]
        wait_for(lambda: all(app.served() > count + 10 for app, count in zip(self.apps, before, strict=True)))

    def _compare(self, told: Mapping[str, int]) -> tuple[int, int]:
        """Return how many accepted activations are lost, and how many cards were activated twice."""
        with contextlib.closing(psycopg2.connect(self.cluster.url())) as connection, connection.cursor() as cursor:
            cursor.execute(_ACTIVATED, (list(told),))
            found = {card_id: rest for card_id, *rest in cursor}
        # Through balancer and nginx each customer has the address of this machine's own end of the connection.
        lost = sum(found.get(card_id) != [machine_of(card_id), "127.0.0.1", 1] for card_id in told)
        return lost, sum(times > 1 for times in told.values())
