"""scripts/provision.sh on a bare Debian 13, in a chroot: all is real but systemd and the memory. And on others."""
# Owns run-provision.

import contextlib
import fcntl
import hashlib
import json
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple, Self

import pytest

from tests.support.hosts.network import Namespace
from tests.support.hosts.stack import run
from tests.support.services.relays import Quiet, serving
from tests.support.services.service import ROOT, wait_for

pytestmark = pytest.mark.xdist_group("provision")

CONFIGURED = 2222
REGISTRY = "https://registry.example"
SSH = f"Port {CONFIGURED}\nListenAddress 0.0.0.0\nListenAddress ::\n"
SERVE = """
/usr/lib/ufw/ufw-init start
/usr/sbin/sshd
/usr/sbin/sshd -p 443
/usr/sbin/sshd -p 5000
sleep infinity
"""
TREES = Path("/var/lib/kadun-tests/debootstrap")
INSIDE = """
mount --bind {root} {root}
mount -t proc proc {root}/proc
mount -t sysfs -o ro sysfs {root}/sys
mount --rbind /dev {root}/dev
exec chroot {root} "$@"
"""
# Docker's packages, as far as the script needs them: the program in each, and what it says of its version.
DOCKERS = {
    "docker-ce": ("usr/bin/dockerd", "Docker version 29.0.0, build 0", "docker.io"),
    "docker-ce-cli": ("usr/bin/docker", "2.40.0", "docker-cli, docker.io"),
    "containerd.io": ("", "", "containerd, runc"),
    "docker-buildx-plugin": ("", "", "docker-buildx"),
    "docker-compose-plugin": ("", "", "docker-compose, docker-compose-v2"),
}


class Release(NamedTuple):
    """A release of a distribution, and the script by which debootstrap makes any of that distribution's."""

    system: str
    codename: str
    archive: str
    security: str
    script: str
    components: str  # as a rented server has them

    @property
    def sources(self) -> str:
        parts = self.components.replace(",", " ")
        signed = f"Components: {parts}\nSigned-By: /usr/share/keyrings/{self.system}-archive-keyring.gpg\n"
        suites = {self.archive: f"{self.codename} {self.codename}-updates", self.security: f"{self.codename}-security"}
        return "\n".join(f"Types: deb\nURIs: {place}\nSuites: {names}\n{signed}" for place, names in suites.items())

    def tree(self) -> Path:
        """Return what debootstrap makes of it: made once, until the archive has another list of packages."""
        digest = hashlib.sha256(fetch(f"{self.archive}/dists/{self.codename}/InRelease")).hexdigest()[:16]
        TREES.mkdir(parents=True, exist_ok=True)
        tree = TREES / f"{self.codename}-{digest}"
        with (TREES / f"{self.codename}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not tree.exists():
                for outdated in TREES.glob(f"{self.codename}-*"):
                    shutil.rmtree(outdated)
                keyring = f"--keyring=/usr/share/keyrings/{self.system}-archive-keyring.gpg"
                command = ("debootstrap", "--variant=minbase", f"--components={self.components}", keyring)
                run(*command, self.codename, tree.with_suffix(".part"), self.archive, self.script)
                tree.with_suffix(".part").rename(tree)
        return tree


def debian(codename: str) -> Release:
    archive = "http://deb.debian.org/debian"
    return Release("debian", codename, archive, f"{archive}-security", "sid", "main")


UBUNTU = ("http://archive.ubuntu.com/ubuntu", "http://security.ubuntu.com/ubuntu", "gutsy", "main,universe")
OTHERS = (debian("bookworm"), Release("ubuntu", "noble", *UBUNTU))  # Debian 12, Ubuntu 24.04


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310  # this machine's own question
        return answer.read()


class Handler(Quiet, BaseHTTPRequestHandler):
    """Apt's way out: fetches what is asked for from elsewhere; at its own address it has a folder."""

    offers: Path
    url: str

    def do_GET(self) -> None:
        url = re.sub(f"^({re.escape(self.url)})?/", f"{self.offers.as_uri()}/", self.path)
        try:
            body, status = fetch(url), 200
        except urllib.error.URLError as error:
            body, status = b"", getattr(error, "code", 404)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class BareMachine:
    """What a provider hands over, less the kernel: no systemd runs, and it can reach nothing but a proxy here."""

    def __init__(self, folder: Path, release: Release) -> None:
        self.root = folder / "root"
        self.offers = folder / "offers"  # what the machine finds at self.url
        self.offers.mkdir()
        self.network = Namespace()
        self._release, self._serving = release, contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.network.__enter__()
        server = ThreadingHTTPServer((self.network.host_ipv4, 0), Handler)
        self._serving.enter_context(serving(server))
        self.url = Handler.url = f"http://{self.network.host_ipv4}:{server.server_port}"
        Handler.offers = self.offers
        run("cp", "-a", "--reflink=auto", self._release.tree(), self.root)
        (self.root / "etc/apt/sources.list").unlink()
        self.write(f"/etc/apt/sources.list.d/{self._release.system}.sources", self._release.sources)
        self.write("/etc/apt/apt.conf.d/00proxy", f'Acquire::http::Proxy "{self.url}";\n')
        self.write("/etc/apt/apt.conf.d/00date", 'Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\n')
        self.write("/etc/dpkg/dpkg.cfg.d/quick", "force-unsafe-io\n")
        self.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")  # no package starts its daemon here
        (self.root / "usr/sbin/policy-rc.d").chmod(0o755)
        shutil.copytree(ROOT / "scripts", self.root / "opt/kadun/scripts")
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.close()
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

    def install(self, *packages: str) -> None:
        apt = ("apt-get", "-q", "-y", "--no-install-recommends", "install")
        self.run("env", "DEBIAN_FRONTEND=noninteractive", *apt, *packages)

    def provision(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("/opt/kadun/scripts/provision.sh", *arguments, check=check)

    def refuses(self, words: str, *arguments: str, status: int = 1) -> None:
        done = self.provision(*arguments, check=False)
        assert (done.returncode, words in done.stderr, done.stderr.count("\n")) == (status, True, 1), done.stderr

    def offer_docker(self, home: Path) -> str:
        """Offer Docker's apt source: its layout, its packages' names, a signature; return the key's fingerprint.

        The key is another, since Docker keeps its own; GnuPG makes it in this folder.
        """
        home.mkdir(mode=0o700)

        def gpg(*arguments: str, text: str = "") -> str:
            return run("gpg", "--homedir", home, "--batch", "--quiet", *arguments, input=text).stdout

        release, architecture = self._release, run("dpkg", "--print-architecture").stdout.strip()
        folder = self.offers / "linux" / release.system
        index = "".join(package(folder, name, *about) for name, about in DOCKERS.items()).encode()
        path, suite = f"stable/binary-{architecture}/Packages", folder / "dists" / release.codename
        (suite / path).parent.mkdir(parents=True)
        (suite / path).write_bytes(index)
        listed = (
            f"Origin: Docker\nSuite: {release.codename}\nCodename: {release.codename}\nArchitectures: {architecture}\n"
            "Components: stable\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
            f"SHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} {path}\n"
        )
        try:
            gpg("--passphrase", "", "--quick-generate-key", "Docker Release (CE deb) <docker@docker.com>", "rsa2048")
            (folder / "gpg").write_text(gpg("--armor", "--export"))
            (suite / "InRelease").write_text(gpg("--clearsign", text=listed))
            (fingerprint, *_) = re.findall("^fpr:+([^:]+)", gpg("--list-keys", "--with-colons"), re.MULTILINE)
            return fingerprint
        finally:
            run("gpgconf", "--homedir", home, "--kill", "all")


def package(folder: Path, name: str, program: str, version: str, replaces: str) -> str:
    """Build one; return its entry in the index."""
    root = folder / "build" / name
    (root / "DEBIAN").mkdir(parents=True)
    control = (
        f"Package: {name}\nVersion: 29.0.0\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n"
        f"Conflicts: {replaces}\nReplaces: {replaces}\nDescription: stands for Docker's\n"
    )
    (root / "DEBIAN/control").write_text(control)
    if program:
        file = root / program
        file.parent.mkdir(parents=True)
        file.write_text(f"#!/bin/sh\necho '{version}'\n")
        file.chmod(0o755)
    run("dpkg-deb", "--root-owner-group", "--build", root, folder / f"{name}.deb")
    content = (folder / f"{name}.deb").read_bytes()
    return f"{control}Filename: {name}.deb\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n\n"


def greeting(address: str, port: int) -> bytes | None:
    """The first that a server says; nothing when no connection comes about."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=2) as connection:
        return connection.recv(100)
    return None


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareMachine]:
    """With an SSH server, as every rented machine has it, on a port that nobody would guess."""
    with BareMachine(tmp_path_factory.mktemp("machine"), debian("trixie")) as machine:
        machine.run("apt-get", "-q", "update")
        machine.install("openssh-server")
        machine.write("/etc/ssh/sshd_config.d/port.conf", SSH)
        machine.run("mkdir", "-p", "/run/sshd")
        yield machine


@pytest.fixture(scope="module")
def first(machine: BareMachine) -> str:
    """Its Docker is the distribution's, which is new enough: Docker's own key cannot sign anything here."""
    machine.install("docker.io", "docker-cli", "docker-compose", "docker-buildx")
    return machine.provision("--mirror-registry", REGISTRY).stdout


def test_a_dry_run_shows_every_step_and_a_key_that_is_not_dockers_is_refused(
    machine: BareMachine, tmp_path: Path
) -> None:
    before = machine.files()
    for option, text, words in (
        ("--timezone", "Mars/Olympus", "no such time zone"),
        ("--mirror-docker-apt", "https://me:x@docker.example/", "without user"),
        ("--mirror-registry", f"{REGISTRY}/path", "without user, password or path"),
        ("--ssh-port", "x", "a port"),
    ):
        machine.refuses(words, option, text, status=2)
    shown = machine.provision("--dry-run", "--ssh-port", "2022").stdout
    assert machine.files() == before
    expected = (
        "runs: apt-get --with-new-pkgs upgrade",
        "runs: apt-get install ca-certificates curl",
        "zoneinfo/Asia/Shanghai",
        "runs: apt-get install systemd-timesyncd",
        "writes: /etc/docker/daemon.json",
        "https://download.docker.com/linux/debian/gpg",
        "install docker-ce docker-ce-cli",
        *(f"ufw allow {port}/tcp" for port in (CONFIGURED, 2022, 80, 443)),
        "ufw default deny incoming",  # afterwards: a firewall that is on obeys at once
        "writes: /etc/kadun/connections.nft",
        "writes: /etc/apt/apt.conf.d/99kadun-periodic",
        "[9/9]",
        "dry run: nothing was changed",
    )
    places = [shown.find(words) for words in expected]
    assert -1 not in places
    assert places == sorted(places)
    with machine.replaced("/etc/os-release", "(?m)^VERSION_ID=.*", "VERSION_ID=11"):
        machine.refuses("not for debian 11")
    machine.offer_docker(tmp_path / "gnupg")
    machine.refuses("Not Docker's key", "--mirror-docker-apt", machine.url)
    assert not (machine.root / "etc/apt/keyrings/docker.asc").exists()
    assert not (machine.root / "etc/apt/sources.list.d/docker.sources").exists()


def test_the_machine_is_as_promised_after_one_run_and_after_another(first: str, machine: BareMachine) -> None:
    assert "The server is ready." in first
    names = ("/etc/ufw/user.rules", "/etc/fstab", "/etc/kadun/connections.nft", "/etc/docker/daemon.json")
    before = [machine.read(name) for name in names]
    machine.provision("--mirror-registry", REGISTRY)
    assert [machine.read(name) for name in names] == before
    settings = json.loads(machine.read("/etc/docker/daemon.json"))
    assert (settings["registry-mirrors"], settings["log-driver"]) == ([REGISTRY], "local")
    machine.run("dockerd", "--validate", "--config-file", "/etc/docker/daemon.json")
    machine.refuses('"registry-mirrors": ["https://', "--mirror-registry", f"{REGISTRY}.cn")
    assert machine.run("date", "+%Z %z").stdout == "CST +0800\n"
    assert 'APT::Periodic::Unattended-Upgrade "1";' in machine.run("apt-config", "dump", "APT::Periodic").stdout
    machine.run("unattended-upgrade", "--dry-run")
    for program in ("docker", "certbot", "age", "rsync", "ssh"):
        machine.run("which", program)
    assert (machine.root / "var/log/kadun-provision.log").stat().st_mode & 0o777 == 0o600


def test_ssh_and_the_two_ports_are_let_in_from_the_next_boot_and_nothing_else(first: str, machine: BareMachine) -> None:
    assert "ENABLED=yes" in machine.read("/etc/ufw/ufw.conf")
    rules = machine.run("ufw", "show", "added").stdout
    assert re.findall(r"allow (\S+)", rules) == [f"{CONFIGURED}/tcp", "80/tcp", "443/tcp"]
    running = subprocess.Popen(machine.command("bash", "-c", SERVE), cwd="/", stderr=subprocess.DEVNULL)
    try:
        for address in (machine.network.ipv4, machine.network.ipv6):
            assert wait_for(lambda address=address: greeting(address, CONFIGURED)).startswith(b"SSH-2.0")
            assert wait_for(lambda address=address: greeting(address, 443)).startswith(b"SSH-2.0")
            assert greeting(address, 5000) is None
        # The firewall is the network's, not the processes': taken away, it shows what it did.
        machine.run("/usr/lib/ufw/ufw-init", "force-stop")
        wait_for(lambda: greeting(machine.network.ipv6, 5000))
    finally:
        running.kill()
        running.wait()


def test_the_connections_of_one_address_are_limited_from_the_next_boot(first: str, machine: BareMachine) -> None:
    """The limits themselves: test_floods.py."""
    assert machine.run("systemctl", "is-enabled", "kadun-connections.service").stdout == "enabled\n"
    unit = machine.read("/etc/systemd/system/kadun-connections.service")
    (load,) = re.findall("^ExecStart=(.*)$", unit, re.MULTILINE)
    for _ in range(2):  # what it loads again replaces what it loaded
        machine.run(*load.split())
        shown = machine.run("nft", "list", "table", "inet", "kadun").stdout
        assert re.findall(r"tcp dport (\{ .* \}) ct state new", shown) == ["{ 80, 443 }"] * 3
    (remove,) = re.findall("^ExecStop=(.*)$", unit, re.MULTILINE)
    machine.run(*remove.split())


def test_the_firewall_takes_ports_and_balancers_from_env_and_one_with_rules_is_left_to_its_owner(
    first: str, machine: BareMachine
) -> None:
    settings = "KADUN_HTTP_PORT=8080\nKADUN_HTTPS_PORT=8443\nKADUN_PROXY_FROM="
    machine.write("/opt/kadun/.env", f"{settings}10.0.0.8, 2001:db8::/64\n")
    with machine.replaced("/etc/ufw/ufw.conf", "ENABLED=yes", "ENABLED=no"):  # a chroot cannot load rules
        machine.run("ufw", "deny", "22/tcp")
        machine.refuses("UFW is off, but has rules")
        machine.run("ufw", "delete", "deny", "22/tcp")
        machine.provision()
    rules = machine.run("ufw", "show", "added").stdout
    assert {"8080/tcp", "8443/tcp"} < set(re.findall(r"allow (\S+)", rules))
    limits = machine.read("/etc/kadun/connections.nft")
    assert "define ports = { 80, 443, 8080, 8443 }\n" in limits
    assert "ip saddr 10.0.0.8 tcp dport $ports accept\n" in limits
    assert "ip6 saddr 2001:db8::/64 tcp dport $ports accept\n" in limits


@pytest.mark.nightly
def test_a_small_machine_gets_a_swap_file(first: str, machine: BareMachine) -> None:
    small = "sed -i 's/^MemTotal:.*/MemTotal: 1010000 kB/' /tmp/meminfo && mount --bind /tmp/meminfo /proc/meminfo"
    command = f"cat /proc/meminfo >/tmp/meminfo && {small} && exec /opt/kadun/scripts/provision.sh"
    machine.run("bash", "-c", command)
    file = machine.root / "swapfile"
    assert (file.stat().st_mode & 0o777, file.stat().st_size) == (0o600, 2 << 30)
    assert machine.run("blkid", "-o", "value", "-s", "TYPE", "/swapfile").stdout == "swap\n"
    assert machine.read("/etc/fstab").splitlines()[-1] == "/swapfile none swap sw 0 0"
    assert "fallocate" not in machine.run("bash", "-c", command).stdout


@pytest.mark.nightly
@pytest.mark.parametrize("release", OTHERS, ids=lambda release: release.codename)
def test_another_release_is_provisioned_twice(tmp_path: Path, release: Release) -> None:
    constant = ("/opt/kadun/scripts/provision.sh", r"(?m)^DOCKER_FINGERPRINT=[0-9A-F]{40}")
    with BareMachine(tmp_path, release) as machine:
        fingerprint = machine.offer_docker(tmp_path / "gnupg")
        with machine.replaced(*constant, f"DOCKER_FINGERPRINT={fingerprint}"):
            first, second = (machine.provision("--mirror-docker-apt", machine.url).stdout for _ in range(2))
        rules = machine.run("ufw", "show", "added").stdout
    assert "writes: /etc/apt/sources.list.d/docker.sources" in first
    assert "The server is ready." in second
    assert "docker.sources" not in second, "Docker is new enough already"
    assert re.findall(r"allow (\S+)", rules) == ["22/tcp", "80/tcp", "443/tcp"]
