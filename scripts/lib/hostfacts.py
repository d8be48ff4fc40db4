"""The facts of the host that `cardctl doctor` needs, as one JSON document: HostFacts in app/services/system/doctor.

    hostfacts.py CHECKOUT

Facts only: doctor checks them. Of .env only the values in SHOWN are told, and no secret. What cannot be
seen is null; every program that this one runs is optional. Runs with the host's python3 (3.10 or newer) and its
standard library alone.
"""

import http.client
import json
import os
import re
import secrets
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Facts = dict[str, Any]
Settings = Mapping[str, str]

CRON_FOLDER = Path("/etc/cron.d")
SHOWN = {"KADUN_ADMIN_ALLOW", "KADUN_DOMAIN", "KADUN_IDENTITY_COPIED", "KADUN_KEYS", "KADUN_PROXY_FROM"}
FORGED = "203.0.113.113"  # an address for documentation (RFC 5737)
PROBE = "cardctl doctor"  # app/storage/journal.py knows it
_SETTING = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*?)[ \t]*( #.*)?$")
_LABEL = "com.docker.compose."
_MAX_ANSWER_BYTES = 64 * 1024


def host_facts(root: Path) -> Facts:
    """Gather all of them."""
    dotenv = root / ".env"
    text = text_of(dotenv) or ""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if not re.match(r"\s*(#|$)", line)]
    settings = {found[1]: found[2].strip("\"'") for _, line in lines if (found := _SETTING.match(line))}
    backups = root / (settings.get("KADUN_BACKUP_DIR") or "data/backups")
    hooks = root / (settings.get("KADUN_BACKUP_HOOKS") or "data/backup-hooks.d")
    notes = {f"last_{word}": last_line(backups / f"last-{word}") for word in ("good", "verified", "away")}
    _, _, newest = (notes["last_good"] or "").partition(" ")
    hashes = output("docker", "compose", "config", "--hash", "*", folder=root).splitlines()
    written = stat(dotenv)
    project = settings.get("COMPOSE_PROJECT_NAME") or "kadun"
    mark = root / "data/keys/moved-to"
    is_hidden = stat(root / "secrets") is not None and not os.access(root / "secrets", os.X_OK)
    return {
        "now": datetime.now(timezone.utc).isoformat(),
        "settings": {name: value if name in SHOWN else None for name, value in settings.items()},
        "unreadable_lines": [number for number, line in lines if not _SETTING.match(line)],
        "moved_to": last_line(mark) or "?" if os.path.lexists(mark) else None,
        "installed": int(written.st_mtime) if written else None,
        "containers": containers(project),
        "config_hashes": dict(line.split(" ", 1) for line in hashes if " " in line),
        "tls_handshake": tls_handshake(settings),
        "trust_store": stat(Path("/etc/ssl/certs/ca-certificates.crt")) is not None,
        "proxy": list(proxy_probes(proxy_targets(settings))),
        "disks": disks(root, root / "data", root / "data/postgres", backups),
        "modes": modes(root, backups),
        **notes,
        "has_backup": newest != "" and stat(backups / newest) is not None,
        "has_hooks": any(os.access(hook, os.X_OK) and hook.is_file() for hook in hooks.glob("[!.]*")),
        "has_identity": None if is_hidden else stat(root / "secrets/backup_identity") is not None,
        "cron": cron(root, project),
    }


def containers(project: str) -> list[Facts]:
    """Return this project's containers, without those that `docker compose run` made."""
    ours = ("--filter", f"label={_LABEL}project={project}", "--filter", f"label={_LABEL}oneoff=False")
    ids = output("docker", "ps", "--all", "--quiet", *ours).split()
    found = json.loads(output("docker", "inspect", "--type", "container", *ids) or "[]") if ids else []
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
    ]


def _https_port(settings: Settings) -> int:
    port = settings.get("KADUN_HTTPS_PORT") or ""
    return int(port) if re.fullmatch("[0-9]{1,5}", port) and int(port) < 1 << 16 else 443


def public_name(settings: Settings) -> str:
    """Return the first of the service's names, without `*.`; an empty text where it is an address."""
    first = re.split(r'[\s,"]+', settings.get("KADUN_DOMAIN", "").strip(' ,"'))[0]
    return first.removeprefix("*.") if re.search("[a-zA-Z]", first) and ":" not in first else ""


def tls_handshake(settings: Settings) -> str | None:
    """Return the chain that nginx serves, and what this machine's trust store says of it."""
    name = public_name(settings)
    server = ("-servername", name) if name else ("-noservername",)
    # -no_check_time: the age is checked from the dates.
    at = ("-connect", f"127.0.0.1:{_https_port(settings)}", "-no_check_time")
    said = output("openssl", "s_client", "-showcerts", *at, *server)
    kept = r"-----BEGIN CERT.*?-----END CERT[^\n]*|^ *Verify return code: [^\n]*"
    return "\n".join(re.findall(kept, said, re.DOTALL | re.MULTILINE)) or None


def proxy_targets(settings: Settings) -> list[tuple[str, int]]:
    """Return where this machine's own requests go: to loopback addresses, and to its public name as customers' do.

    Behind a balancer, customers use the port of HTTPS, and nginx talks PROXY protocol except on the loopback addresses.
    """
    port, name = _https_port(settings), public_name(settings)
    public = 443 if settings.get("KADUN_PROXY_PROTOCOL") == "true" else port
    return [("127.0.0.1", port), ("::1", port), *([(name, public)] if name else [])]


def proxy_probes(targets: list[tuple[str, int]]) -> Iterator[Facts]:
    """Request a card that cannot exist, from addresses of this machine, with headers that give another one.

    The answer names the journal's entry, and that entry holds the address that the app recorded.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # another check looks at the certificate
    forged = {"X-Real-IP": FORGED, "X-Forwarded-For": FORGED, "Forwarded": f"for={FORGED}"}
    for host, port in targets:
        question = {"card_id": PROBE, "hardware": PROBE, "function": PROBE, "nonce": secrets.token_hex(16)}
        connection = http.client.HTTPSConnection(host, port, timeout=10, context=context)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.connect()
            own = connection.sock.getsockname()[0]
            headers = {"Content-Type": "application/json", **forged}
            connection.request("POST", "/v1/verify", json.dumps(question), headers)
            answer = connection.getresponse()
            text = answer.read(_MAX_ANSWER_BYTES).decode("utf-8", "replace")
            yield {"host": host, "address": own, "status": answer.status, "answer": text}


def disks(*folders: Path) -> list[Facts]:
    """Return the room on the file system of each folder that exists, each one once."""
    found: dict[int, Facts] = {}
    for folder in folders:
        if status := stat(folder):
            room = os.statvfs(folder)
            size, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
            inodes = {"inodes": room.f_files, "inodes_free": room.f_ffree}
            found.setdefault(status.st_dev, {"folder": str(folder), "size": size, "free": free, **inodes})
    return list(found.values())


def modes(root: Path, backups: Path) -> dict[str, int]:
    """Return the permission bits of what only its owner should read, as far as it can be seen."""
    certificates = root / "https_certificates"
    private = [root / "secrets", *root.glob("secrets/*"), root / "data/keys", root / "data/keys/keyring.json"]
    private += [certificates / "privkey.pem", certificates / "self-signed-privkey.pem"]
    private += [*backups.glob("kadun-*.tar"), *backups.glob("kadun-*.tar.age")]
    return {str(path).removeprefix(f"{root}/"): found.st_mode & 0o7777 for path in private if (found := stat(path))}


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


def last_line(note: Path) -> str | None:
    """Return the last line of a note; None where it cannot be read or is empty.

    The service may write beside the mark of a move: no link is followed, which could lead to a secret,
    and no named pipe is waited for.
    """
    lines = (text_of(note, os.O_NOFOLLOW | os.O_NONBLOCK) or "").splitlines()
    return lines[-1] if lines else None


def text_of(file: Path, flags: int = 0) -> str | None:
    """Return the text of a file, of 1 MiB at most; None where it cannot be read."""
    with suppress(OSError), os.fdopen(os.open(file, os.O_RDONLY | flags), "rb") as content:
        return content.read(1 << 20).decode("utf-8", "replace")
    return None


def output(*command: str, folder: Path | None = None) -> str:
    """Return what a program prints; nothing where it fails to start, or does not end in a minute."""
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
        )
        return done.stdout.decode("utf-8", "replace")
    return ""


def stat(path: Path) -> os.stat_result | None:
    """Return what is known of a file; None where it does not exist or cannot be seen."""
    with suppress(OSError):
        return path.stat()
    return None


if __name__ == "__main__":
    json.dump(host_facts(Path(sys.argv[1])), sys.stdout)
