"""What the Docker engine knows of this stack and of the others on this machine. For hostfacts.py."""

from collections.abc import Iterator
from os.path import samestat
from pathlib import Path
from typing import Any

from hostfacts_access import items, output, stat

Facts = dict[str, Any]

_LABEL = "com.docker.compose."


def container_facts(root: Path) -> Facts:
    """Return this project's containers, what the names of their images stand for now, and what Compose would run."""
    containers = inspect((output("docker", "compose", "ps", "--all", "--quiet", folder=root) or "").split())
    images = {container["Config"]["Image"] for container in containers}
    hashes = output("docker", "compose", "config", "--hash", "*", folder=root) or ""
    return {
        "containers": [_container(container) for container in containers],
        "images": {
            image: output("docker", "image", "inspect", "--format", "{{.Id}}", image) for image in sorted(images)
        },
        "config_hashes": dict(line.split(" ", 1) for line in hashes.splitlines() if " " in line),
    }


def _container(container: Facts) -> Facts:
    state, labels = container["State"], container["Config"]["Labels"]
    return {
        "service": labels[f"{_LABEL}service"],
        "oneoff": labels[f"{_LABEL}oneoff"],
        "state": state["Status"],
        "health": (state.get("Health") or {}).get("Status"),
        "exit_code": state["ExitCode"],
        "out_of_memory": state["OOMKilled"],
        "started": state["StartedAt"],
        "restarts": container["RestartCount"],
        "image": container["Image"],
        "image_name": container["Config"]["Image"],
        "config_hash": labels.get(f"{_LABEL}config-hash"),
    }


def other_stacks(project: str) -> dict[str, str]:
    """Return the ports that other Compose projects hold by right, `8080/tcp` for example, with the project of each.

    These are the ports that their running containers publish, and those of another Kadun's nginx.
    """
    ports = {}
    for container in inspect((output("docker", "ps", "--quiet") or "").split()):
        owner = (container["Config"]["Labels"] or {}).get(f"{_LABEL}project")
        if owner not in (None, project):
            ports.update(dict.fromkeys(_ports(container), owner))
    return ports


def other_projects(root: Path, project: str) -> list[str]:
    """Return the other Compose projects that have containers of this checkout, or over its database's folder."""
    found = set()
    for container in inspect((output("docker", "ps", "--all", "--quiet") or "").split()):
        labels = container["Config"]["Labels"] or {}
        is_ours = _is_same(labels.get(f"{_LABEL}project.working_dir"), root)
        if is_ours or any(_is_same(mount["Source"], root / "data/postgres") for mount in container["Mounts"]):
            found.add(labels.get(f"{_LABEL}project", project))
    return sorted(found - {project})


def _is_same(place: str | None, folder: Path) -> bool:
    one, other = stat(Path(place)) if place else None, stat(folder)
    return one is not None and other is not None and samestat(one, other)


def _ports(container: Facts) -> Iterator[str]:
    for port, places in (container["NetworkSettings"]["Ports"] or {}).items():
        for place in places or ():
            yield f"{place['HostPort']}/{port.partition('/')[2]}"
    if (
        container["HostConfig"]["NetworkMode"] == "host"
        and container["Config"]["Labels"].get(f"{_LABEL}service") == "nginx"
    ):
        for setting in container["Config"]["Env"] or ():
            name, _, value = setting.partition("=")
            if name in ("KADUN_HTTP_PORT", "KADUN_HTTPS_PORT"):
                yield f"{value}/tcp"


def inspect(ids: list[str]) -> list[Facts]:
    """Return what the engine knows of these containers; those that are gone meanwhile are left out."""
    return items("docker", "inspect", "--type", "container", *ids) if ids else []
