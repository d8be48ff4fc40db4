"""A bare machine of another release: a folder made by debootstrap, with a network of its own to be reached over."""

import contextlib
import fcntl
import hashlib
import re
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.support.hosts.stack import ROOT, Namespace, run

ARCHIVES = {"debian": "http://deb.debian.org/debian", "ubuntu": "http://archive.ubuntu.com/ubuntu"}
SCRIPTS = {"debian": "sid", "ubuntu": "gutsy"}  # how debootstrap goes about it, for a release newer than itself too
COMPONENTS = {"debian": "main", "ubuntu": "main,universe"}  # as a rented server has them
SECURITY = {"debian": "http://deb.debian.org/debian-security", "ubuntu": "http://security.ubuntu.com/ubuntu"}
SOURCES = """\
Types: deb
URIs: {archive}
Suites: {codename} {codename}-updates
Components: {components}
Signed-By: /usr/share/keyrings/{system}-archive-keyring.gpg

Types: deb
URIs: {security}
Suites: {codename}-security
Components: {components}
Signed-By: /usr/share/keyrings/{system}-archive-keyring.gpg
"""
TREES = Path("/var/lib/kadun-tests/debootstrap")
INSIDE = """
mount --bind {root} {root}
mount -t proc proc {root}/proc
mount -t sysfs -o ro sysfs {root}/sys
mount --rbind /dev {root}/dev
exec chroot {root} "$@"
"""


class Server(ThreadingHTTPServer):
    """Apt's way out: fetches what is asked for from elsewhere; of its own it has a folder."""

    daemon_threads = True

    def __init__(self, address: str, folder: Path) -> None:
        super().__init__((address, 0), Handler)
        self.folder = folder
        self.url = f"http://{address}:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        url = re.sub(f"^({re.escape(self.server.url)})?/", f"{self.server.folder.as_uri()}/", self.path)
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310  # this machine's own question
                body, status = answer.read(), 200
        except urllib.error.HTTPError as error:
            body, status = b"", error.code
        except urllib.error.URLError:
            body, status = b"", 404
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name in the standard library
        pass


def bootstrapped(system: str, codename: str) -> Path:
    """Return what debootstrap makes of a release: made once, until the archive has another list of packages."""
    list_url = f"{ARCHIVES[system]}/dists/{codename}/InRelease"  # with the digests of all lists
    with urllib.request.urlopen(list_url, timeout=60) as answer:  # noqa: S310  # this machine's own question
        digest = hashlib.sha256(answer.read()).hexdigest()
    TREES.mkdir(parents=True, exist_ok=True)
    tree, unfinished = TREES / f"{codename}-{digest[:16]}", TREES / f"{codename}-{digest[:16]}.part"
    with (TREES / f"{codename}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.exists():
            for outdated in TREES.glob(f"{codename}-*"):
                shutil.rmtree(outdated)
            run(
                "debootstrap", "--variant=minbase", f"--components={COMPONENTS[system]}",
                f"--keyring=/usr/share/keyrings/{system}-archive-keyring.gpg",
                codename, unfinished, ARCHIVES[system], SCRIPTS[system],
            )  # fmt: skip
            unfinished.rename(tree)
    return tree


class BareMachine:
    """What a provider hands over, less the kernel: no systemd runs, and it can reach nothing but a proxy here."""

    def __init__(self, folder: Path, system: str, codename: str) -> None:
        self.root = folder / "root"
        self.offers = folder / "offers"  # what the machine finds at self.server.url
        self.offers.mkdir()
        self.network = Namespace()
        self._system, self._codename = system, codename

    def __enter__(self) -> Self:
        self.network.__enter__()
        self.server = Server(self.network.host_ipv4, self.offers)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        run("cp", "-a", "--reflink=auto", bootstrapped(self._system, self._codename), self.root)
        (self.root / "etc/apt/sources.list").unlink()
        self.sources = f"/etc/apt/sources.list.d/{self._system}.sources"
        self.write(
            self.sources,
            SOURCES.format(
                archive=ARCHIVES[self._system], security=SECURITY[self._system], system=self._system,
                codename=self._codename, components=COMPONENTS[self._system].replace(",", " "),
            ),
        )  # fmt: skip
        self.write("/etc/apt/apt.conf.d/00proxy", f'Acquire::http::Proxy "{self.server.url}";\n')
        self.write("/etc/apt/apt.conf.d/00date", 'Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\n')
        self.write("/etc/dpkg/dpkg.cfg.d/quick", "force-unsafe-io\n")
        self.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")  # no package starts its daemon here
        (self.root / "usr/sbin/policy-rc.d").chmod(0o755)
        shutil.copytree(ROOT / "scripts", self.root / "opt/kadun/scripts")
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.network.__exit__()
        shutil.rmtree(self.root, ignore_errors=True)

    def read(self, name: str) -> str:
        return (self.root / name.lstrip("/")).read_text()

    def write(self, name: str, text: str) -> None:
        file = self.root / name.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def files(self) -> dict[str, tuple[int, int]]:
        """Everything on the disk there, each with when it last changed."""
        found = {str(path.relative_to(self.root)): path.lstat() for path in self.root.rglob("*")}
        del found["tmp"]
        return {name: (status.st_mode, status.st_ctime_ns) for name, status in found.items()}

    @contextlib.contextmanager
    def replaced(self, name: str, old: str, new: str) -> Iterator[None]:
        """A file of its, changed for a while."""
        kept = self.read(name)
        assert re.search(old, kept)
        self.write(name, re.sub(old, new, kept, count=1))
        try:
            yield
        finally:
            self.write(name, kept)

    def command(self, *command: str) -> list[str]:
        """How to run a command there, with processes and mounts of its own that end with it."""
        return [
            "ip", "netns", "exec", self.network.name,
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private",
            "bash", "-euc", INSIDE.format(root=self.root), "--",
            "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", *command,
        ]  # fmt: skip

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run(*self.command(*command), check=check, cwd="/")

    def provision(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("/opt/kadun/scripts/provision.sh", *arguments, check=check)


def greeting(address: str, port: int) -> bytes | None:
    """The first that a server says; nothing when no connection comes about."""
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            return connection.recv(100)
    except OSError:
        return None
