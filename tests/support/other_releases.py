"""scripts/provision.sh on the releases that get no tests of their own: dry run, first run, second run."""

from dataclasses import dataclass
from pathlib import Path

from tests.support.bare_machine import BareMachine
from tests.support.docker_apt_repository import SigningKey, offer_docker

CONSTANT = r"(?m)^DOCKER_FINGERPRINT=[0-9A-F]{40}"


@dataclass(frozen=True)
class Smoke:
    """What the three runs said, which files the dry one changed, and UFW's rules in the end."""

    dry: str
    first: str
    second: str
    changed_by_dry_run: list[str]
    rules: str


def provision(folder: Path, system: str, codename: str) -> Smoke:
    """Makes such a machine and goes through the three runs, with Docker from a source like Docker's own."""
    (folder / "gnupg").mkdir()
    key = SigningKey(folder / "gnupg")
    try:
        with BareMachine(folder, system, codename) as machine:
            offer_docker(machine.offers / "linux" / system, codename, key)
            source = ("--mirror-docker-apt", machine.server.url)
            fingerprint = f"DOCKER_FINGERPRINT={key.fingerprint}"
            with machine.replaced("/opt/kadun/scripts/lib/provision-docker.sh", CONSTANT, fingerprint):
                before = machine.files()
                dry = machine.provision("--dry-run", *source).stdout
                after = machine.files()
                changed = [name for name in before.keys() | after if before.get(name) != after.get(name)]
                first, second = (machine.provision(*source).stdout for _ in range(2))
            return Smoke(dry, first, second, changed, machine.run("ufw", "show", "added").stdout)
    finally:
        key.close()
