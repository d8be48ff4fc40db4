"""scripts/provision.sh on a bare Debian 13, in a chroot: all is real but systemd and the memory. And on others."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.bare_machine import BareMachine, greeting
from tests.support.docker_apt_repository import SigningKey, offer_docker
from tests.support.service import wait_for

pytestmark = pytest.mark.xdist_group("provision")

STEPS = 9
OTHERS = {"bookworm": "debian", "noble": "ubuntu"}  # Debian 12, Ubuntu 24.04
CONFIGURED, SYSTEMDS, SESSIONS, RUNNING = 2222, 2201, 2202, 2203
REGISTRY, PIP = "https://registry.example", "https://index.example/simple"
MIRRORS = ("--mirror-registry", REGISTRY, "--mirror-pip", PIP)
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
    return machine.provision(*MIRRORS).stdout


@pytest.fixture(scope="module")
def second(first: str, machine: BareMachine) -> str:
    return machine.provision(*MIRRORS).stdout


def install(machine: BareMachine, *packages: str) -> None:
    apt = ("apt-get", "-q", "-y", "--no-install-recommends", "install")
    machine.run("env", "DEBIAN_FRONTEND=noninteractive", *apt, *packages)


def sections(output: str) -> list[str]:
    """What is said under each step's heading."""
    found = re.split(r"^\[\d+/\d+\] ", output.partition("\n\n")[0], flags=re.MULTILINE)[1:]
    assert len(found) == STEPS
    return found


def refuses(done: subprocess.CompletedProcess[str], words: str, status: int = 1) -> None:
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_it_refuses_what_it_was_not_made_for_and_changes_nothing(machine: BareMachine) -> None:
    script = "/opt/kadun/scripts/provision.sh"
    before = machine.files()
    refuses(machine.run("setpriv", "--reuid=65534", script, check=False), "Run it as root")
    refuses(machine.provision("--timezone", "Mars/Olympus", check=False), "no such time zone", 2)
    refuses(machine.provision("--mirror-pip", "https://me:secret@index.example/", check=False), "without user", 2)
    refuses(machine.provision("--mirror-registry", "https://registry.example/path", check=False), "no path", 2)
    refuses(machine.provision("--ssh-port", "70000", check=False), "a port must be a number", 2)
    assert machine.files() == before
    for name, version in (("fedora", "42"), ("debian", "11"), ("ubuntu", "25.04")):
        other = f'sed -i "s/^ID=.*/ID={name}/; s/^VERSION_ID=.*/VERSION_ID={version}/" /tmp/other'
        cover = f"cp /etc/os-release /tmp/other; {other}; mount --bind /tmp/other /etc/os-release; exec {script}"
        refuses(machine.run("bash", "-c", cover, check=False), f"not for {name} {version}")


def test_a_dry_run_shows_every_step_and_changes_nothing(machine: BareMachine) -> None:
    before = machine.files()
    shown = machine.provision("--dry-run", *MIRRORS).stdout
    assert machine.files() == before
    assert "already so" not in "".join(sections(shown)[index] for index in (1, 2, 3, 4, 5, 6))
    for words in (
        "would run: apt-get --no-install-recommends install ca-certificates curl",
        "would merge into /etc/docker/daemon.json",
        "https://download.docker.com/linux/debian/gpg",
        "install docker-ce docker-ce-cli",
        "would write: /opt/kadun/data/pip-index-url",
        f"ufw allow {CONFIGURED}/tcp",
        "/etc/ufw/ufw.conf ENABLED yes",
        "zoneinfo/Asia/Shanghai",
        "dry run: nothing was changed",
    ):
        assert words in shown
    order = [shown.index(f"ufw {words}") for words in (f"allow {CONFIGURED}/tcp", "default deny incoming")]
    assert order == sorted(order), "a firewall that is on obeys at once"


def test_a_key_that_is_not_dockers_is_refused(machine: BareMachine, key: SigningKey) -> None:
    done = machine.provision("--mirror-docker-apt", machine.server.url, check=False)
    assert done.returncode == 1
    assert "Not Docker's key" in done.stderr
    assert not (machine.root / "etc/apt/keyrings/docker.asc").exists()
    assert not (machine.root / "etc/apt/sources.list.d/docker.sources").exists()


def test_the_first_run_does_all_that_a_chroot_allows_and_says_what_it_could_not(first: str) -> None:
    assert "The server is ready." in first
    left = [line for line in first.splitlines() if line.startswith("此处无法 not possible here: ")]
    assert len(left) == 6
    for words in ("cron certbot.timer", "docker", "systemd-timesyncd", "apt-daily.timer apt-daily-upgrade.timer"):
        assert any(f"starting {words}, since PID 1 is not systemd" in line for line in left)
    for words in ("switching the firewall on", "limiting connections"):
        assert any(f"{words}, which happens at the next boot" in line for line in left)


def test_the_second_run_finds_every_step_done(second: str, machine: BareMachine) -> None:
    for said in sections(second):
        assert "already so" in said, said
        assert "writes" not in said
    assert set(re.findall(r"runs: (.*)", second)) == {"apt-get update"}


def test_the_machine_is_as_promised(second: str, machine: BareMachine) -> None:
    assert machine.read("/opt/kadun/data/pip-index-url") == f"{PIP}\n"
    settings = json.loads(machine.read("/etc/docker/daemon.json"))
    assert settings["registry-mirrors"] == [REGISTRY]
    assert settings["log-driver"] == "local"
    machine.run("dockerd", "--validate", "--config-file", "/etc/docker/daemon.json")
    assert machine.run("date", "+%Z %z").stdout == "CST +0800\n"
    periodic = machine.run("apt-config", "dump", "APT::Periodic").stdout
    assert 'APT::Periodic::Unattended-Upgrade "1";' in periodic
    machine.run("unattended-upgrade", "--dry-run")
    for program in ("docker", "certbot", "age", "rsync", "jq", "zstd", "ssh"):
        machine.run("which", program)
    assert (machine.root / "var/log/kadun-provision.log").stat().st_mode & 0o777 == 0o600


def test_ssh_and_the_two_ports_are_let_in_from_the_next_boot_and_nothing_else(
    second: str, machine: BareMachine
) -> None:
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


def test_the_connections_of_one_address_are_limited_from_the_next_boot(second: str, machine: BareMachine) -> None:
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


@pytest.mark.nightly
def test_ssh_is_found_wherever_it_listens(second: str, machine: BareMachine) -> None:
    machine.write(
        "/etc/systemd/system/ssh.socket.d/port.conf", f"[Socket]\nListenStream=\nListenStream=[::]:{SYSTEMDS}\n"
    )
    machine.run("systemctl", "enable", "ssh.socket")
    session = f"192.0.2.1 50000 192.0.2.2 {SESSIONS}"
    shown = machine.run(
        "env", f"SSH_CONNECTION={session}", "bash", "-c",
        # sudo takes the variable away, too; and this one listens where no file says so.
        f"/usr/sbin/sshd -p {RUNNING} && env -u SSH_CONNECTION /opt/kadun/scripts/provision.sh --dry-run; exit",
    ).stdout  # fmt: skip
    machine.run("systemctl", "disable", "ssh.socket")
    unable = machine.run(
        "bash", "-c", "rmdir /run/sshd; /opt/kadun/scripts/provision.sh --dry-run; mkdir /run/sshd"
    ).stdout
    assert f"SSH listens on: {CONFIGURED}\n" in unable, "though sshd cannot say so"
    assert f"SSH listens on: {SYSTEMDS} {SESSIONS} {RUNNING} {CONFIGURED}\n" in shown
    for port in (SYSTEMDS, SESSIONS, RUNNING):
        assert f"would run: ufw allow {port}/tcp" in shown


@pytest.mark.nightly
def test_init_takes_the_package_index_over_and_the_firewall_the_ports_in_env(second: str, machine: BareMachine) -> None:
    machine.run("/opt/kadun/scripts/init.sh", "--http-port", "8080", "--https-port", "8443")
    assert f"PIP_INDEX_URL={PIP}\n" in machine.read("/opt/kadun/.env")
    other = "https://other.example/simple"
    balancers = "s|^KADUN_PROXY_FROM=.*|KADUN_PROXY_FROM=10.0.0.8, 2001:db8::/64|"
    machine.run("sed", "-i", balancers, "/opt/kadun/.env")
    machine.provision("--mirror-pip", other)
    assert f"PIP_INDEX_URL={other}\n" in machine.read("/opt/kadun/.env")
    rules = machine.run("ufw", "show", "added").stdout
    assert {"8080/tcp", "8443/tcp"} < set(re.findall(r"allow (\S+)", rules))
    limits = machine.read("/etc/kadun/connections.nft")
    assert "define ports = { 80, 443, 8080, 8443 }\n" in limits
    assert "ip saddr 10.0.0.8 tcp dport $ports accept\n" in limits
    assert "ip6 saddr 2001:db8::/64 tcp dport $ports accept\n" in limits


@pytest.mark.nightly
def test_a_small_machine_gets_a_swap_file(second: str, machine: BareMachine) -> None:
    small = "sed -i 's/^MemTotal:.*/MemTotal: 1010000 kB/' /tmp/meminfo && mount --bind /tmp/meminfo /proc/meminfo"
    command = f"cat /proc/meminfo >/tmp/meminfo && {small} && exec /opt/kadun/scripts/provision.sh"
    shown = sections(machine.run("bash", "-c", command).stdout)[8]
    file = machine.root / "swapfile"
    assert (file.stat().st_mode & 0o777, file.stat().st_size) == (0o600, 2 << 30)
    assert machine.run("blkid", "-o", "value", "-s", "TYPE", "/swapfile").stdout == "swap\n"
    assert machine.read("/etc/fstab").splitlines()[-1] == "/swapfile none swap sw 0 0"
    assert "switching swap on, which happens at the next boot" in shown
    fstab = machine.read("/etc/fstab")
    assert "already so" in sections(machine.run("bash", "-c", command).stdout)[8]
    assert machine.read("/etc/fstab") == fstab


@pytest.mark.nightly
def test_dockers_own_settings_are_kept_and_broken_ones_refused(second: str, machine: BareMachine) -> None:
    name, own = "/etc/docker/daemon.json", {"log-driver": "journald", "registry-mirrors": ["https://own.example"]}
    with machine.replaced(name, "(?s).+", json.dumps(own | {"data-root": "/srv/docker"})):
        machine.provision("--mirror-registry", REGISTRY)
        assert json.loads(machine.read(name)) == {
            "log-driver": "journald", "registry-mirrors": [REGISTRY, "https://own.example"], "data-root": "/srv/docker",
        }  # fmt: skip
    with machine.replaced(name, "(?s).+", "{broken"):
        done = machine.provision(check=False)
        assert machine.read(name) == "{broken"
    assert done.returncode == 1
    assert "no valid JSON object" in done.stderr


@pytest.mark.nightly
@pytest.mark.parametrize("codename", OTHERS)
def test_another_release_is_shown_provisioned_and_then_found_so(tmp_path: Path, codename: str) -> None:
    (tmp_path / "gnupg").mkdir()
    system, key = OTHERS[codename], SigningKey(tmp_path / "gnupg")
    constant = ("/opt/kadun/scripts/lib/docker.sh", r"(?m)^DOCKER_FINGERPRINT=[0-9A-F]{40}")
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
    assert "The server is ready." in first
    assert "writes: /etc/apt/keyrings/docker.asc" in first
    assert [section for section in sections(second) if "already so" not in section] == []
    assert re.findall(r"allow (\S+)", rules) == ["22/tcp", "80/tcp", "443/tcp"]
