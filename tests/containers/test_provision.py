"""scripts/provision.sh on a bare Debian 13, in a chroot: all is real but systemd and the memory. And on others."""
# Owns run-provision.

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.hosts.bare_machine import BareMachine, greeting
from tests.support.hosts.docker_apt_repository import SigningKey, offer_docker
from tests.support.services.service import wait_for

pytestmark = pytest.mark.xdist_group("provision")

OTHERS = {"bookworm": "debian", "noble": "ubuntu"}  # Debian 12, Ubuntu 24.04
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


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareMachine]:
    """With an SSH server, as every rented machine has it, on a port that nobody would guess."""
    with BareMachine(tmp_path_factory.mktemp("machine"), "debian", "trixie") as machine:
        machine.run("apt-get", "-q", "update")
        install(machine, "openssh-server")
        machine.write("/etc/ssh/sshd_config.d/port.conf", SSH)
        machine.run("mkdir", "-p", "/run/sshd")
        yield machine


@pytest.fixture(scope="module")
def key(machine: BareMachine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SigningKey]:
    """Not Docker's, though all that the machine's server offers as Docker's is signed with it."""
    key = SigningKey(tmp_path_factory.mktemp("gnupg"))
    offer_docker(machine.offers / "linux/debian", "trixie", key)
    yield key
    key.close()


@pytest.fixture(scope="module")
def first(machine: BareMachine) -> str:
    """Its Docker is the distribution's, which is new enough: Docker's own key cannot sign anything here."""
    install(machine, "docker.io", "docker-cli", "docker-compose", "docker-buildx")
    return machine.provision("--mirror-registry", REGISTRY).stdout


def install(machine: BareMachine, *packages: str) -> None:
    apt = ("apt-get", "-q", "-y", "--no-install-recommends", "install")
    machine.run("env", "DEBIAN_FRONTEND=noninteractive", *apt, *packages)


def refuses(done: subprocess.CompletedProcess[str], words: str, status: int = 1) -> None:
    assert (done.returncode, words in done.stderr, done.stderr.count("\n")) == (status, True, 1), done.stderr


def test_it_refuses_what_it_was_not_made_for_and_changes_nothing(machine: BareMachine) -> None:
    script = "/opt/kadun/scripts/provision.sh"
    before = machine.files()
    refuses(machine.run("setpriv", "--reuid=65534", script, check=False), "Run this as root")
    refuses(machine.provision("--timezone", "Mars/Olympus", check=False), "no such time zone", 2)
    refuses(machine.provision("--mirror-docker-apt", "https://me:x@docker.example/", check=False), "without user", 2)
    refuses(
        machine.provision("--mirror-registry", f"{REGISTRY}/path", check=False), "without user, password or path", 2
    )
    refuses(machine.provision("--ssh-port", "x", check=False), "a port", 2)
    assert machine.files() == before
    other = 'sed -i "s/^ID=.*/ID=debian/; s/^VERSION_ID=.*/VERSION_ID=11/" /tmp/other'
    cover = f"cp /etc/os-release /tmp/other; {other}; mount --bind /tmp/other /etc/os-release; exec {script}"
    refuses(machine.run("bash", "-c", cover, check=False), "not for debian 11")


def test_a_dry_run_shows_every_step_and_changes_nothing(machine: BareMachine) -> None:
    before = machine.files()
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


def test_a_key_that_is_not_dockers_is_refused(machine: BareMachine, key: SigningKey) -> None:
    refuses(machine.provision("--mirror-docker-apt", machine.server.url, check=False), "Not Docker's key")
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
    refuses(machine.provision("--mirror-registry", f"{REGISTRY}.cn", check=False), '"registry-mirrors": ["https://')
    assert machine.run("date", "+%Z %z").stdout == "CST +0800\n"
    periodic = machine.run("apt-config", "dump", "APT::Periodic").stdout
    assert 'APT::Periodic::Unattended-Upgrade "1";' in periodic
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


def test_a_firewall_that_is_off_but_has_rules_is_left_to_its_owner(first: str, machine: BareMachine) -> None:
    with machine.replaced("/etc/ufw/ufw.conf", "ENABLED=yes", "ENABLED=no"):
        machine.run("ufw", "deny", "22/tcp")
        refuses(machine.provision(check=False), "UFW is off, but has rules")
        machine.run("ufw", "delete", "deny", "22/tcp")


def test_the_firewall_takes_ports_and_balancers_from_env(first: str, machine: BareMachine) -> None:
    settings = "KADUN_HTTP_PORT=8080\nKADUN_HTTPS_PORT=8443\nKADUN_PROXY_FROM="
    machine.write("/opt/kadun/.env", f"{settings}10.0.0.8, 2001:db8::/64\n")
    with machine.replaced("/etc/ufw/ufw.conf", "ENABLED=yes", "ENABLED=no"):  # a chroot cannot load rules
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
@pytest.mark.parametrize("codename", OTHERS)
def test_another_release_is_shown_and_provisioned_twice(tmp_path: Path, codename: str) -> None:
    (tmp_path / "gnupg").mkdir()
    system, key = OTHERS[codename], SigningKey(tmp_path / "gnupg")
    constant = ("/opt/kadun/scripts/provision.sh", r"(?m)^DOCKER_FINGERPRINT=[0-9A-F]{40}")
    with closing(key), BareMachine(tmp_path, system, codename) as machine:
        offer_docker(machine.offers / "linux" / system, codename, key)
        source = ("--mirror-docker-apt", machine.server.url)
        with machine.replaced(*constant, f"DOCKER_FINGERPRINT={key.fingerprint}"):
            before = machine.files()
            shown = machine.provision("--dry-run", *source).stdout
            after = machine.files()
            first, second = (machine.provision(*source).stdout for _ in range(2))
        rules = machine.run("ufw", "show", "added").stdout
    assert "dry run: nothing was changed" in shown
    changed = [name for name in before.keys() | after if before.get(name) != after.get(name)]
    # Apt looks its lists up before the first update here, and remembers what it found.
    assert [name for name in changed if not name.startswith("var/cache/apt")] == []
    assert "writes: /etc/apt/sources.list.d/docker.sources" in first
    assert "The server is ready." in second
    assert "docker.sources" not in second, "Docker is new enough already"
    assert re.findall(r"allow (\S+)", rules) == ["22/tcp", "80/tcp", "443/tcp"]
