"""Reads, writes and merges .env files, the way Docker Compose reads them.

    env_file.py get FILE NAME [DEFAULT]             print a value; DEFAULT where it is unset or empty
    env_file.py set FILE NAME VALUE                 change one setting
    env_file.py check FROM                          fail where another server's settings cannot be taken over
    env_file.py merge FROM FILE [--fresh] [--bundled]
                                                    take them over; print their names
    env_file.py left FROM FILE                      print the bundle's settings that are not taken over
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
        *("KADUN_UID", "KADUN_APP_IMAGE", "KADUN_BACKUP_HOOKS", "KADUN_FUNCTION_FIRST_UID", "KADUN_HOST"),
        "KADUN_CERTIFICATE_HOSTS",
    )
)
"""Settings that belong to a machine, and the folder of programs that it runs: never taken over."""

PLACE_SETTINGS = frozenset(
    (
        *("KADUN_PYTHON_IMAGE", "KADUN_POSTGRES_IMAGE", "KADUN_NGINX_IMAGE", "PIP_INDEX_URL", "KADUN_BACKUP_DIR"),
        *("KADUN_DB_MEMORY", "KADUN_DB_SHARED_BUFFERS", "KADUN_FUNCTIONS_MEMORY"),
    )
)
"""Where things come from and go to: taken over only into a .env that was just made."""

IDENTIFYING = {"KADUN_ISSUER": "kadun", "KADUN_KEYS": "folder"}
"""What clients check, and where the signing keys are: the other server's defaults, which are these, win, too."""

PROGRAM_SETTINGS = (
    *("KADUN_PYTHON_IMAGE", "KADUN_POSTGRES_IMAGE", "KADUN_NGINX_IMAGE"),
    "KADUN_FUNCTIONS_NETWORK",
)
"""Which programs containers run, and what they reach: never taken over from a bundle, only over a person's SSH."""

_NUMBERS = {"KADUN_RATE", "KADUN_BURST"}
"""They become a part of nginx's configuration."""
_BUCKET_CA = "./https_certificates/bucket-ca.pem"
"""The only file of the host that a bundle may have mounted into containers; it travels."""
_HARMLESS = re.compile(
    r"""(?:"[^"\\$`\x00-\x1f\x7f]*" | '[^'\\$`\x00-\x1f\x7f]*') (?:[ \t]+\#[^\x00-\x1f\x7f]*)? [ \t]*
    | [^"'$`\x00-\x1f\x7f]*""",
    re.VERBOSE,
)
"""A value that ends with its line for Compose, too. A quote left open would let the next line set COMPOSE_FILE."""


class SettingError(Exception):
    """A setting of another server cannot be taken over. The message names it."""


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


def taken_over(theirs: str) -> set[str]:
    """Return the names of another server's settings that may be taken over.

    Only Kadun's own settings and pip's mirror: others tell Compose and Docker what to run, and where.

    Raises:
        SettingError: Compose, or nginx, could read more in a value than a value.
    """
    names = set(re.findall(r"^(KADUN_[A-Z0-9_]*|PIP_INDEX_URL)=", theirs, re.MULTILINE)) - MACHINE_SETTINGS
    for name in sorted(names):
        raw = (raw_value(theirs, name) or "").removesuffix("\r")
        if not _HARMLESS.fullmatch(raw):
            raise SettingError(
                f"设置 {name} 的值不能含 $、`、值中的引号，或引号内的 \\。"
                f"The value of {name} must not contain $, `, a quote inside, or a \\ within quotes"
            )
        if name in _NUMBERS and not re.fullmatch("[0-9]*", unquoted(raw)):
            raise SettingError(f"设置 {name} 须为整数。{name} must be a whole number")
        if name == "KADUN_FILES_BUCKET_CA" and unquoted(raw) not in ("", _BUCKET_CA):
            raise SettingError(f"设置 {name} 须为 {_BUCKET_CA}。{name} must be {_BUCKET_CA}, which travels")
    return names


def merged(theirs: str, ours: str, *, fresh: bool, bundled: bool = False) -> tuple[str, list[str]]:
    """Return our text with another server's settings, and the names of those that changed.

    Raises:
        SettingError: see taken_over.
    """
    names = taken_over(theirs)
    names.difference_update(name for name in PLACE_SETTINGS if not fresh or not value(theirs, name))
    if bundled:
        names.difference_update(PROGRAM_SETTINGS)
    names.update(name for name in IDENTIFYING if value(ours, name))
    changed = []
    for name in sorted(names):
        raw = raw_value(theirs, name) or ""
        if name in IDENTIFYING and not unquoted(raw):
            raw = IDENTIFYING[name]
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
        case "check", theirs:
            taken_over(read(Path(theirs)))
        case "left", theirs, file:
            text, here = read(Path(theirs)), read(Path(file))
            left = [name for name in PROGRAM_SETTINGS if value(text, name) not in {"", value(here, name)}]
            sys.stdout.write(", ".join(f"{name}={ascii(value(text, name))[1:-1]}" for name in left))
        case "merge", theirs, file, *how:
            how_so = {"fresh": "--fresh" in how, "bundled": "--bundled" in how}
            text, changed = merged(read(Path(theirs)), read(Path(file)), **how_so)
            write(Path(file), text)
            sys.stdout.write("".join(f"{name}\n" for name in changed))
        case "render", template, *values:
            pairs = dict(one.split("=", 1) for one in values)
            sys.stdout.write(string.Template(Path(template).read_text("utf-8")).substitute(pairs))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except SettingError as problem:
        sys.exit(str(problem))
