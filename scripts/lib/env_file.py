"""Reads, writes and merges .env files, the way Docker Compose reads them.

    env_file.py get FILE NAME [DEFAULT]             print a value; DEFAULT where it is unset or empty
    env_file.py set FILE NAME VALUE                 change one setting
    env_file.py merge FROM FILE [--fresh]           take another server's settings over; print their names
    env_file.py render TEMPLATE NAME=VALUE…         print a template with its ${NAME} filled in

Runs with the host's python3 (3.10 or newer) and the standard library alone.
"""

import os
import re
import shutil
import string
import sys
from pathlib import Path

MACHINE_SETTINGS = frozenset(
    (
        *("COMPOSE_PROJECT_NAME", "COMPOSE_FILE", "KADUN_HTTP_PORT", "KADUN_HTTPS_PORT"),
        *("KADUN_UID", "KADUN_APP_IMAGE", "KADUN_BACKUP_HOOKS", "KADUN_FUNCTION_FIRST_UID"),
    )
)
"""Settings that belong to a machine, and the folder of programs that it runs: never taken over."""

PLACE_SETTINGS = frozenset(
    (
        *("KADUN_PYTHON_IMAGE", "KADUN_POSTGRES_IMAGE", "KADUN_NGINX_IMAGE", "PIP_INDEX_URL", "KADUN_BACKUP_DIR"),
        *("KADUN_DB_MEMORY", "KADUN_DB_SHARED_BUFFERS", "KADUN_FUNCTIONS_MEMORY"),
        "KADUN_DOCTOR_PORTS",
    )
)
"""Where things come from and go to: taken over only into a .env that was just made."""


def raw_value(text: str, name: str) -> str | None:
    """Return what stands behind `name=` as it is written there; the last line wins. None where it is unset."""
    found = re.findall(rf"^[ \t]*(?:export[ \t]+)?{re.escape(name)}[ \t]*=[ \t]*(.*)$", text, re.MULTILINE)
    return found[-1] if found else None


def unquoted(raw: str) -> str:
    r"""Return a raw value without its quotes, the comment behind it or a Windows line end.

    Escapes and variables, which Compose would expand, stay as they are written.
    """
    for quote in "\"'":
        if raw.startswith(quote) and quote in raw[1:]:
            return raw[1:].partition(quote)[0]
    return raw.partition(" #")[0].rstrip()


def value(text: str, name: str) -> str:
    """Return the value of `name`, or an empty string."""
    return unquoted(raw_value(text, name) or "")


def with_setting(text: str, name: str, raw: str) -> str:
    """Return the text with `name` set: in its own line, in the line where it is commented out, or in a new one."""
    line = f"{name}={raw}"
    lines = text.removesuffix("\n").split("\n")  # not splitlines: a carriage return belongs to its line
    for start in (f"{name}=", f"#{name}="):
        places = [number for number, old in enumerate(lines) if old.startswith(start)]
        if places:
            lines[places[0]] = line
            return "\n".join(old for number, old in enumerate(lines) if number not in places[1:]) + "\n"
    return "\n".join([*lines, line]) + "\n"


def merged(theirs: str, ours: str, *, fresh: bool) -> tuple[str, list[str]]:
    """Return our text with another server's settings, and the names of those that changed.

    Only Kadun's own settings and pip's mirror are taken over: others tell Compose and Docker what to run, and where.
    """
    keep = MACHINE_SETTINGS if fresh else MACHINE_SETTINGS | PLACE_SETTINGS
    names = set(re.findall(r"^(KADUN_[A-Z0-9_]*|PIP_INDEX_URL)=", theirs, re.MULTILINE)) - keep
    default_issuer = not value(theirs, "KADUN_ISSUER")
    if value(ours, "KADUN_ISSUER"):
        names.add("KADUN_ISSUER")  # clients check it: the default of the other server must win, too
    changed = []
    for name in sorted(names):
        raw = "kadun" if name == "KADUN_ISSUER" and default_issuer else (raw_value(theirs, name) or "")
        if unquoted(raw) != value(ours, name):
            ours = with_setting(ours, name, raw.rstrip("\r"))
            changed.append(name)
    return ours, changed


def read(file: Path) -> str:
    """Return the text of a .env file with its line ends as they are."""
    return file.read_bytes().decode("utf-8", "surrogateescape")


def write(file: Path, text: str) -> None:
    """Replace a file, whole or not at all; its mode and owner stay."""
    new = file.with_name(f"{file.name}.new")
    with new.open("wb") as output:
        output.write(text.encode("utf-8", "surrogateescape"))
        output.flush()
        os.fsync(output.fileno())
    shutil.copymode(file, new)
    if os.geteuid() == 0:
        shutil.chown(new, file.stat().st_uid, file.stat().st_gid)
    new.replace(file)


def main(command: str, *arguments: str) -> None:
    """Run one command of the command line."""
    match command, *arguments:
        case "get", file, name, *default:
            text = read(Path(file)) if Path(file).exists() else ""
            sys.stdout.buffer.write((value(text, name) or "".join(default)).encode("utf-8", "surrogateescape"))
        case "set", file, name, new_value:
            write(Path(file), with_setting(read(Path(file)), name, new_value))
        case "merge", theirs, file, *fresh:
            text, changed = merged(read(Path(theirs)), read(Path(file)), fresh=bool(fresh))
            write(Path(file), text)
            sys.stdout.write("".join(f"{name}\n" for name in changed))
        case "render", template, *values:
            pairs = dict(one.split("=", 1) for one in values)
            sys.stdout.write(string.Template(Path(template).read_text("utf-8")).substitute(pairs))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
