"""Other machines as far as the network goes: network namespaces, and an SSH server on this machine. They need root."""

import itertools
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import uuid4

from tests.support.hosts.stack import run
from tests.support.services.http_exchange import claim, quiet_port
from tests.support.services.service import ROOT, wait_for

SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile {folder}/pid
AuthorizedKeysFile {folder}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
"""
_NETS = itertools.count(secrets.randbelow(256))  # no two of them share one


def free_network() -> str:
    """Return the beginning of a network that nothing here has, such as `198.18.7`; this machine takes its `.1`."""
    taken = run("ip", "-o", "address", "show").stdout  # by namespaces that a killed run has left, too
    # 198.18.0.0/15 is for such trials (RFC 2544).
    nets = (f"198.18.{number % 256}" for number in itertools.islice(_NETS, 256))
    return next(net for net in nets if f"{net}.1/" not in taken and claim(f"net-{net}"))


class Namespace:
    """A machine of its own as far as the network goes: a namespace joined to this one by a cable. Needs root."""

    def __init__(self) -> None:
        tag = uuid4().hex
        self.name = f"kadun-{tag[:8]}"
        self._here, self._there = f"kd{tag[:8]}h", f"kd{tag[:8]}n"
        network = free_network()
        subnet = int(network.rpartition(".")[2])
        self.host_ipv4, self.ipv4 = f"{network}.1", f"{network}.2"
        # As the journal writes them: a subnet of 0 would be a part of `::`.
        self.host_ipv6, self.ipv6 = (f"fd6b:6164:756e:{subnet + 1:x}::{host}" for host in (1, 2))

    def __enter__(self) -> Self:
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self._here, "type", "veth", "peer", self._there, "netns", self.name)
        for ip, device, ipv4, ipv6 in (
            (("ip",), self._here, self.host_ipv4, self.host_ipv6),
            (("ip", "-netns", self.name), self._there, self.ipv4, self.ipv6),
        ):
            run(*ip, "address", "add", f"{ipv4}/24", "dev", device)
            run(*ip, "address", "add", f"{ipv6}/64", "dev", device, "nodad")
            run(*ip, "link", "set", device, "up")
        run("ip", "-netns", self.name, "link", "set", "lo", "up")  # where urllib3 looks whether there is IPv6
        self._add_route()
        return self

    def _add_route(self) -> None:
        # So that its packets for any other address, a container's for example, reach this machine.
        run("ip", "-netns", self.name, "route", "add", "default", "via", self.host_ipv4)

    def __exit__(self, *_: object) -> None:
        run("ip", "link", "del", self._here, check=False)
        run("ip", "netns", "del", self.name, check=False)

    def pull_cable(self) -> None:
        """Takes the link down: packets get lost, and nobody is told. At the far end, so that routes here stay."""
        run("ip", "-netns", self.name, "link", "set", self._there, "down")

    def plug_in(self) -> None:
        run("ip", "-netns", self.name, "link", "set", self._there, "up")
        self._add_route()

    def python(self, code: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs Python there, with the SDK and nothing else of the project."""
        return run(
            "ip", "netns", "exec", self.name, sys.executable, "-c", code, *arguments,
            check=check, env=os.environ | {"PYTHONPATH": str(ROOT / "client/src")}, cwd="/",
        )  # fmt: skip


@dataclass(frozen=True)
class SshServer:
    """The server, and what its user has."""

    port: int
    folder: Path

    def options(self) -> list[str]:
        settings = (
            f"IdentityFile={self.folder}/user",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.folder}/known",
            "StrictHostKeyChecking=yes",
        )
        return ["--ssh-port", str(self.port), *(word for item in settings for word in ("--ssh-option", item))]


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    port = quiet_port()
    for name in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    (folder / "config").write_text(SSHD.format(port=port, folder=folder))
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd goes before it knows who comes
    sshd = shutil.which("sshd", path="/usr/sbin:/sbin")
    assert sshd, "openssh-server is missing"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen((sshd, "-D", "-e", "-f", folder / "config"), stderr=log)
    try:
        wait_for(lambda: "Server listening" in (folder / "log").read_text() or process.poll() is not None)
        yield SshServer(port, folder)
    finally:
        process.terminate()
        process.wait()
