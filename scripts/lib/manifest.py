"""The manifest of an archive: what it says of the members, the database and the licensed files.

Runs with the host's python3 (3.10 or newer).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

FORMAT = 2
MANIFEST = "manifest.json"
DATABASES = {"database.dump", "database.sql"}
"""The database, of which an archive has one: a dump of pg_dump, or (never in a bundle from a file) a trial's rows."""

Manifest = dict[str, Any]


class ArchiveError(Exception):
    """The archive is damaged or not one of Kadun's, or the files that go into one are not fit for it."""


def require_parts(manifest: Manifest) -> None:
    """Check that a manifest says all that the restored database is compared with, and lists a database.

    Raises:
        ArchiveError: it does not; the message names the part.
    """
    kinds = {"schema": str, "tables": dict, "files": dict, "members": dict}
    for name, kind in kinds.items():
        part = manifest.get(name)
        if not isinstance(part, kind) or (not part and name != "files"):
            raise ArchiveError(f"清单缺少此项 the manifest lacks this part: {name}")
    size = str(manifest.get("bytes", "0"))
    if not (size.isascii() and size.isdecimal()):  # the scripts calculate with it: bash would run a command in it
        raise ArchiveError("清单中此项无效 the manifest has no valid number of this: bytes")
    if MANIFEST in manifest["members"] or len(DATABASES & manifest["members"].keys()) != 1:
        raise ArchiveError("清单未列出数据库 the manifest lists no database")


def parse_contents(lines: list[str]) -> Manifest:
    """Return what the output of contents.sql says: facts, `tables` and `files`."""
    manifest: Manifest = {"tables": {}, "files": {}}
    for line in lines:
        kind, _, rest = line.partition(" ")
        match kind:
            case "table":
                name, rows, digest = rest.split(" ")
                manifest["tables"][name] = [int(rows), digest]
            case "file":
                digest, _, name = rest.partition(" ")
                manifest["files"][name] = digest
            case _:
                manifest[kind] = rest
    return manifest


def differences(manifest: Manifest, actual: Manifest) -> Iterator[str]:
    """Name the tables whose content differs.

    A trial's schema_migration is another one: its rows go into the tables that this server's migrations made.
    """
    if manifest["schema"] != actual["schema"]:
        yield f"schema {manifest['schema']} {actual['schema']}"
    ignored = {"schema_migration"} if "trial" in manifest else set()
    for name in sorted((manifest["tables"].keys() | actual["tables"].keys()) - ignored):
        expected, found = (side["tables"].get(name, ["missing", ""]) for side in (manifest, actual))
        if expected != found:
            yield f"table {name} ({expected[0]}, {found[0]})"


def summary(manifest: Manifest, tables: list[str]) -> str:
    """Return the number of rows of these tables, or of all."""
    names = tables or [name for name in manifest["tables"] if name != "schema_migration"]
    return ", ".join(f"{name} {manifest['tables'][name][0]}" for name in names if name in manifest["tables"])


def missing_files(manifest: Manifest, folder: Path) -> list[str]:
    """Return the names of the licensed files whose bytes are not in a folder."""
    return [name for name, digest in sorted(manifest["files"].items()) if not (folder / digest).exists()]
