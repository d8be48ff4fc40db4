"""An SSH server on this machine, as another machine would have it. Needs root."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.hosts.stack import run
from tests.support.services.http_exchange import quiet_port
from tests.support.services.service import wait_for

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


@dataclass(frozen=True)
class SshServer:
    """The server, and what its user has."""

    port: int
    folder: Path

    def options(self) -> list[str]:
        """Return the scripts' options by which its user logs in."""
        settings = (
            f"IdentityFile={self.folder}/user",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.folder}/known",
            "StrictHostKeyChecking=yes",
        )
        return ["--ssh-port", str(self.port), *(word for item in settings for word in ("--ssh-option", item))]


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Run a server until the end of the block."""
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
