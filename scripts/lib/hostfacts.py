"""The facts of the host that `cardctl doctor` needs, as one JSON document (app/services/doctor/facts.py, HostFacts).

    hostfacts.py CHECKOUT

Facts only: app/services/doctor checks them. Of .env only the values in SHOWN are told, and no secret. What cannot be
seen is null; every program that this one runs is optional. Runs with the host's python3 (3.10 or newer) and its
standard library alone.
"""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import hostfacts_network

Facts = dict[str, Any]

CRON_FOLDER = Path("/etc/cron.d")
SHOWN = {"KADUN_ADMIN_ALLOW", "KADUN_DOMAIN", "KADUN_IDENTITY_COPIED", "KADUN_KEYS", "KADUN_PROXY_FROM"}
_SETTING = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)")
_LABEL = "com.docker.compose."


def unquoted(raw: str) -> str:
    """Return a value of .env as Docker Compose reads it: no quotes, no comment behind it, no Windows line end."""
    for quote in "\"'":
        if raw.startswith(quote) and quote in raw[1:]:
            return raw[1:].partition(quote)[0]
    return raw.partition(" #")[0].rstrip()


def host_facts(root: Path) -> Facts:
    """Gather all of them."""
    text = text_of(root / ".env") or ""
    settings = {match[1]: unquoted(match[2]) for line in text.splitlines() if (match := _SETTING.match(line))}
    backups = root / (settings.get("KADUN_BACKUP_DIR") or "data/backups")
    hooks = root / (settings.get("KADUN_BACKUP_HOOKS") or "data/backup-hooks.d")
    written = stat(root / ".env")
    hashes = output("docker", "compose", "config", "--hash", "*", folder=root) or ""
    return {
        "now": datetime.now(timezone.utc).isoformat(),
        "settings": {name: value if name in SHOWN else None for name, value in settings.items()},
        "unreadable_lines": unreadable_lines(text),
        "moved_to": moved_to(root / "data/keys/moved-to"),
        "installed": int(written.st_mtime) if written else None,
        "containers": containers(root),
        "config_hashes": dict(line.split(" ", 1) for line in hashes.splitlines() if " " in line),
        "tls_handshake": tls_handshake(settings),
        "trust_store": stat(Path("/etc/ssl/certs/ca-certificates.crt")) is not None,
        "proxy": list(hostfacts_network.proxy_probes(hostfacts_network.proxy_targets(settings))),
        "disks": disks(root / "data", root / "data/postgres", backups),
        "modes": modes(root, backups),
        **{f"last_{word}": last_line(backups / f"last-{word}") for word in ("good", "verified", "away")},
        "has_backup": has_backup(backups),
        "has_hooks": any(os.access(hook, os.X_OK) and hook.name[0] != "." for hook in files_in(hooks)),
        "has_identity": exists(root / "secrets/backup_identity"),
        "cron": cron(root, settings.get("COMPOSE_PROJECT_NAME") or "kadun"),
    }


def unreadable_lines(text: str) -> list[int]:
    """Return the numbers of the lines of .env that are neither a setting nor a comment."""
    lines = enumerate(text.splitlines(), 1)
    return [number for number, line in lines if line.strip() and line.strip()[0] != "#" and not _SETTING.match(line)]


def containers(root: Path) -> list[Facts]:
    """Return this project's containers, without those that `docker compose run` made."""
    ids = (output("docker", "compose", "ps", "--all", "--quiet", folder=root) or "").split()
    found = json.loads((output("docker", "inspect", "--type", "container", *ids) if ids else None) or "[]")
    return [
        {
            "service": container["Config"]["Labels"][f"{_LABEL}service"],
            "state": container["State"]["Status"],
            "health": (container["State"].get("Health") or {}).get("Status"),
            "exit_code": container["State"]["ExitCode"],
            "out_of_memory": container["State"]["OOMKilled"],
            "restarts": container["RestartCount"],
            "config_hash": container["Config"]["Labels"].get(f"{_LABEL}config-hash"),
        }
        for container in found
        if container["Config"]["Labels"][f"{_LABEL}oneoff"] != "True"
    ]


def tls_handshake(settings: Facts) -> str | None:
    """Return the chain that nginx serves, and what this machine's trust store says of it."""
    name = hostfacts_network.public_name(settings)
    server = ("-servername", name) if name else ("-noservername",)
    at = f"127.0.0.1:{hostfacts_network.https_port(settings)}"
    # -no_check_time: the age is checked from the dates.
    said = output("openssl", "s_client", "-connect", at, *server, "-showcerts", "-no_check_time") or ""
    kept = r"-----BEGIN CERT.*?-----END CERT[^\n]*|^ *Verify return code: [^\n]*"
    return "\n".join(re.findall(kept, said, re.DOTALL | re.MULTILINE)) or None


def disks(*folders: Path) -> list[Facts]:
    """Return the room on the file system of each folder or, where it does not exist, of the nearest; each one once."""
    found: dict[int, Facts] = {}
    for folder in folders:
        place, status = next((path, seen) for path in (folder, *folder.parents) if (seen := stat(path)))
        room = os.statvfs(place)
        size, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
        inodes = {"inodes": room.f_files, "inodes_free": room.f_ffree}
        found.setdefault(status.st_dev, {"folder": str(folder), "size": size, "free": free, **inodes})
    return list(found.values())


def modes(root: Path, backups: Path) -> dict[str, int]:
    """Return the permission bits of what only its owner should read, as far as it can be seen."""
    private = ["secrets", *(f"secrets/{file.name}" for file in files_in(root / "secrets"))]
    private += [f"https_certificates/{name}privkey.pem" for name in ("", "self-signed-")]
    private += ["data/keys", "data/keys/keyring.json"]
    private += [str(file) for file in files_in(backups) if re.fullmatch(r"kadun-.*\.tar(\.age)?", file.name)]
    return {path: found.st_mode & 0o7777 for path in private if (found := stat(root / path))}


def has_backup(backups: Path) -> bool:
    """Tell whether the file of the last good backup is there."""
    name = (last_line(backups / "last-good") or "").partition(" ")[2]
    return bool(name) and stat(backups / name) is not None


def exists(file: Path) -> bool | None:
    """Tell whether a file exists; None where its folder cannot be read."""
    try:
        file.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return True


def cron(root: Path, project: str) -> str | None:
    """Return "installed" where the cron file calls this checkout's backup.sh, else "other" or "missing"."""
    file = CRON_FOLDER / f"kadun-{project}"
    if not stat(file):
        return "missing"
    if (text := text_of(file)) is None:
        return None
    lines = text.splitlines()
    calls = any("/scripts/backup.sh" in line for line in lines if not line.startswith("#"))
    return "installed" if f"# {root}" in lines and calls else "other"


def moved_to(mark: Path) -> str | None:
    """Return when and where to this service has moved."""
    return last_line(mark) or "?" if os.path.lexists(mark) else None


def last_line(file: Path) -> str | None:
    """Return the last line of a note, of 1 KiB at most; None where it cannot be read or is empty.

    The service may write beside the mark of a move: no link is followed, which could lead to a secret,
    and no named pipe is waited for.
    """
    with suppress(OSError), os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as content:
        lines = content.read(1024).decode("utf-8", "replace").splitlines()
        return lines[-1] if lines else None
    return None


def output(*command: str, folder: Path | None = None) -> str | None:
    """Return what a program prints, in English; None where it fails to start, or prints nothing in a minute."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") or None


def text_of(file: Path) -> str | None:
    """Return the text of a file with its line ends as they are; None where it cannot be read."""
    try:
        return file.read_bytes().decode("utf-8", "replace")
    except OSError:
        return None


def stat(path: Path) -> os.stat_result | None:
    """Return what is known of a file; None where it does not exist or cannot be seen."""
    try:
        return path.stat()
    except OSError:
        return None


def files_in(place: Path) -> list[Path]:
    """Return the files of a folder; none where it cannot be read."""
    try:
        return sorted(entry for entry in place.iterdir() if entry.is_file())
    except OSError:
        return []


if __name__ == "__main__":
    json.dump(host_facts(Path(sys.argv[1])), sys.stdout)
