"""The database of deploy/cluster/: three machines, each a network of its own, on this one's container engine."""

import contextlib
import itertools
import json
import shutil
import time
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from tests.support.hosts.network import free_network
from tests.support.hosts.stack import copy_checkout, run
from tests.support.services.http_exchange import quiet_port
from tests.support.services.service import wait_for

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
        """Run `docker compose` on the machine."""
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
        """Take the link up again."""
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
        """Leave nothing behind."""
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
        """The machines with PostgreSQL."""
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
        """Leave nothing behind."""
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
        found: Machine = wait_for(self._primary)
        return found

    def _primary(self) -> Machine | None:
        members = self.members()
        return next((node for node in self.nodes if members.get(node.name, {}).get("Role") == "Leader"), None)

    def standbys(self) -> list[Machine]:
        """The nodes that follow."""
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
