"""The facts of the host that `cardctl doctor` needs, as one JSON document (app/services/doctor/facts.py, HostFacts).

    hostfacts.py CHECKOUT SSH_PORTS

Facts only: app/services/doctor checks them. No secret is in the document. What cannot be seen is null; every program
that this one runs is optional. Runs with the host's python3 (3.10 or newer) and the standard library alone.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

import cron_table
import env_file
import retention
from hostfacts_access import files_in, inode_of, items, note_of, output, stat, text_of
from hostfacts_docker import container_facts, other_projects, other_stacks
from hostfacts_network import certificate_facts, is_bridge, proxy_probes, proxy_targets
from regular import opened

Facts = dict[str, Any]

MOUNTED = (
    *("data/keys", "data/files"),
    *("secrets/kernal_data_key", "secrets/sealing_key", "secrets/keys_identity", "secrets/database_url"),
)
WITHHELD = {"KADUN_BACKUP_WEBHOOK"}
MAX_CHECKSUM_BYTES = 1 << 30
MAX_HEAD_BYTES = 1 << 16
_ARCHIVE = Path(__file__).with_name("archive.py")
_SETTING = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=(.*)")
_SECRET_NAME = re.compile(r"(PASSWORD|PASSWD|SECRET|KERNAL_DATA_KEY|SEALING_KEY|DATABASE_URL)$")
_SECRET_VALUE = re.compile(r"://[^/@]*:[^/@]+@|AGE-SECRET-KEY-1|-----BEGIN")


def host_facts(root: Path, ssh_ports: str) -> Facts:
    """Gather all of them."""
    text = text_of(root / ".env") or ""
    names = dict.fromkeys(match[1] for line in text.splitlines() if (match := _SETTING.match(line)))
    settings = {name: env_file.value(text, name) or None for name in names}
    secret_names = secrets_in_env(root, text)
    backups = folder(root, settings.get("KADUN_BACKUP_DIR") or "data/backups")
    project = settings.get("COMPOSE_PROJECT_NAME") or "kadun"
    port = settings.get("KADUN_HTTPS_PORT") or "443"
    https_port = int(port) if re.fullmatch("[0-9]{1,5}", port) and int(port) < 1 << 16 else 443
    interfaces = items("ip", "-j", "address", "show")
    installed = stat(root / ".env")
    return {
        "now": datetime.now(timezone.utc).isoformat(),
        "settings": {n: None if n in {*secret_names, *WITHHELD} else value for n, value in settings.items()},
        "unreadable_lines": unreadable_lines(text),
        **container_facts(root),
        "other_projects": other_projects(root, project),
        "other_stacks": other_stacks(project),
        "program": program(root / "app"),
        **certificate_facts(root / "https_certificates", https_port, settings.get("KADUN_DOMAIN") or ""),
        "proxy": list(
            proxy_probes(
                proxy_targets(
                    https_port,
                    interfaces,
                    settings.get("KADUN_DOMAIN") or "",
                    has_balancer=settings.get("KADUN_PROXY_PROTOCOL") == "true",
                )
            )
        ),
        "disks": disks(root / "data", backups),
        **backup_facts(backups, folder(root, settings.get("KADUN_BACKUP_HOOKS") or "data/backup-hooks.d")),
        "backup_identity": backup_identity(root / "secrets/backup_identity", backups),
        "installed": int(installed.st_mtime) if installed else None,
        **cron_facts(root, project),
        "sockets": output("ss", "-H", "-tulnp"),
        "ssh_ports": ssh_ports or None,
        "bridges": [
            address["local"]
            for interface in interfaces
            if is_bridge(interface)
            for address in interface["addr_info"]
            if "local" in address
        ],
        "ufw": output("ufw", "status", "verbose") if shutil.which("ufw") else "missing",
        "ipv6_unfiltered": is_ipv6_unfiltered(),
        "connection_limits": connection_limits(),
        "permissions": permissions(root, backups),
        "inodes": {name: inode for name in MOUNTED if (inode := inode_of(root / name)) is not None},
        "secrets_in_env": " ".join(secret_names) or None,
        "moved_to": moved_to(root / "data/keys/moved-to"),
    }


def folder(root: Path, path: str) -> Path:
    """Return a folder that .env names, a relative one in this checkout."""
    return root / path.removeprefix("./")


def unreadable_lines(text: str) -> list[int]:
    """Return the numbers of the lines of .env that are neither a setting nor a comment."""
    lines = enumerate(text.splitlines(), 1)
    return [number for number, line in lines if line.strip() and line.strip()[0] != "#" and not _SETTING.match(line)]


def secrets_in_env(root: Path, text: str) -> list[str]:
    """Return the names of settings in .env that hold, or look like, a secret."""
    known = [line for file in files_in(root / "secrets") for line in (text_of(file) or "").splitlines() if line]
    found = set()
    for name, value in (match.groups() for line in text.splitlines() if (match := _SETTING.match(line))):
        looks_so = value and (_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))
        if looks_so or any(secret in value for secret in known):
            found.add(name)
    return sorted(found)


def program(app: Path) -> dict[str, str]:
    """Return the SHA-256 of each of the program's files, as the service does for those that run."""
    try:
        return {str(file.relative_to(app)): sha256(file.read_bytes()).hexdigest() for file in app.rglob("*.py")}
    except OSError:
        return {}


def disks(data: Path, backups: Path) -> Facts:
    """Return the room of data/, of the backups, and of data/postgres where it is another file system."""
    found = {"data": disk(data), "backups": disk(backups)}
    here, database = stat(data), stat(data / "postgres")
    if here and database and here.st_dev != database.st_dev:
        found["database"] = disk(data / "postgres")
    return found


def disk(place: Path) -> Facts:
    """Return the room for bytes and files, in the folder or where it will be made."""
    try:
        found = os.statvfs(next(path for path in (place, *place.parents) if stat(path)))
    except OSError:
        return {"folder": str(place)}
    blocks = {"block_bytes": found.f_frsize, "blocks": found.f_blocks, "blocks_free": found.f_bavail}
    return {"folder": str(place), **blocks, "inodes": found.f_files, "inodes_free": found.f_ffree}


def backup_facts(backups: Path, hooks: Path) -> Facts:
    """Return what the backup scripts wrote down, the size of the last good backup, and what its checksum says of it."""
    notes = {f"last_{word}": last_line(backups / f"last-{word}") for word in ("good", "verified", "away")}
    file = backups / (notes["last_good"] or "").partition(" ")[2]
    size = found.st_size if notes["last_good"] and (found := stat(file)) else None
    return {
        **notes,
        "backup_bytes": size,
        "backup_checksum": checksum(file, size) if size else None,
        "backup_hooks": sum(os.access(hook, os.X_OK) and hook.name[0] != "." for hook in files_in(hooks)),
    }


def backup_identity(file: Path, backups: Path) -> str | None:
    """Return "copied" where the note of backup.sh names this very file, else "not copied" or "missing".

    "other" where it does not decrypt the last good backup; None where we may not read it.
    """
    try:
        digest = sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        return "missing"
    except OSError:
        return None
    last = backups / (last_line(backups / "last-good") or "").partition(" ")[2]
    with suppress(OSError):
        if last.suffix == ".age" and not decrypts(file, last):
            return "other"
    return "copied" if (last_line(backups / "identity-copied") or "").partition(" ")[2] == digest else "not copied"


def decrypts(identity: Path, backup: Path) -> bool:
    """Tell whether an identity is one of those that a backup is encrypted to: its head is enough for age."""
    with opened(backup) as content:
        head = content.read(MAX_HEAD_BYTES)
    command = ("age", "--decrypt", "--identity", identity)
    done = subprocess.run(command, input=head, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    return b"no identity matched" not in done.stderr


def checksum(file: Path, size: int) -> str | None:
    """Compare a backup with the checksum beside it and, unless it is encrypted, its parts with its manifest.

    Returns "ok", "large" where the backup is too large to be read here, None where we may not read it, else the error.
    """
    if size > MAX_CHECKSUM_BYTES:
        return "large"
    try:
        retention.verify_checksum(file)
        if file.suffix == ".tar":
            # A process of its own, which limits its memory: nobody has checked who wrote the file.
            with opened(file) as content:
                checking = (sys.executable, "-B", "-E", "-s", "-S", _ARCHIVE, "check")
                done = subprocess.run(checking, stdin=content, capture_output=True, check=False)
            if done.returncode:
                return done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] or "unreadable"
    except PermissionError:
        return None
    except (retention.ChecksumError, OSError) as error:
        return str(error)
    return "ok"


def last_line(file: Path) -> str | None:
    """Return the last line of a note."""
    lines = (note_of(file) or "").splitlines()
    return lines[-1] if lines else None


def cron_facts(root: Path, project: str) -> Facts:
    """Return the cron file and what install-cron.sh would write with the same options; whether cron runs."""
    file = cron_table.FOLDER / f"kadun-{project}"
    table, found = text_of(file), stat(file)
    if found and not found.st_size:
        table = ""
    schedule = cron_table.read(table or "")
    expected = cron_table.render(str(root), shutil.which("docker") or "/usr/bin/docker", schedule) if schedule else ""
    return {
        "cron_table": table,
        "cron_expected": expected or None,
        "cron_mode": f"{found.st_mode & 0o7777:o} {found.st_uid}" if found else None,
        "cron_runs": cron_runs(),
    }


def cron_runs() -> bool | None:
    """Tell whether a cron daemon runs; None where other users' processes are hidden."""
    names = {(text_of(process / "comm") or "").strip() for process in Path("/proc").glob("[0-9]*")}
    if names & {"cron", "crond"}:
        return True
    return False if stat(Path("/proc/1/comm")) else None


def is_ipv6_unfiltered() -> bool:
    """Tell whether this machine has IPv6 and UFW ignores it."""
    ufw = text_of(Path("/etc/default/ufw")) or ""
    return bool(text_of(Path("/proc/net/if_inet6"))) and bool(
        re.search(r"^\s*IPV6=[\"']?no", ufw, re.IGNORECASE | re.MULTILINE)
    )


def connection_limits() -> str | None:
    """Return nftables' table that provision.sh made, "missing" without it; None where only root may look."""
    if not shutil.which("nft"):
        return "missing"
    if os.geteuid() != 0:
        return None
    return output("nft", "list", "table", "inet", "kadun") or "missing"


def permissions(root: Path, backups: Path) -> str | None:
    """Return mode, owner and path of what only its owner should read, a line each, as far as it can be seen."""
    private = ["secrets", *(f"secrets/{file.name}" for file in files_in(root / "secrets"))]
    private += [f"https_certificates/{name}privkey.pem" for name in ("", "self-signed-")]
    private += ["data", "data/keys", "data/keys/keyring.json"]
    archives = (str(file) for file in files_in(backups) if re.fullmatch(r"kadun-.*\.tar(\.age)?", file.name))
    seen = ((path, found) for path in [*private, *archives] if (found := stat(root / path)))
    return "\n".join(f"{found.st_mode & 0o7777:o} {found.st_uid} {path}" for path, found in seen) or None


def moved_to(mark: Path) -> str | None:
    """Return when and where to this service has moved."""
    return (note_of(mark) or "?").strip() if os.path.lexists(mark) else None


if __name__ == "__main__":
    json.dump(host_facts(Path(sys.argv[1]), sys.argv[2]), sys.stdout)
