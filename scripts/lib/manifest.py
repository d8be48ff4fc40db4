"""The manifest of an archive: what it says of the members, the database and the licensed files.

Runs with the host's python3 (3.10 or newer).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

FORMAT = 2
MANIFEST = "manifest.json"
JOIN = "join"
"""The `kind` of an archive for a machine that joins; others have none."""
DATABASES = {"database.dump", "database.sql"}
"""The database, of which an archive has one: a dump of pg_dump, or (never in a bundle from a file) a trial's rows."""
_OF_DATABASE = {"schema", "taken", "postgresql", "bytes"}
"""The facts in the output of contents.sql."""

Manifest = dict[str, Any]


class ArchiveError(Exception):
    """The archive is damaged or not one of Kadun's, or the files that go into one are not fit for it."""


class KindError(ArchiveError):
    """The archive is for another purpose. The message says for which."""


def require_parts(manifest: Manifest) -> None:
    """Check that a manifest says all that the restored database is compared with, and lists a database.

    One for joining says of the database only its schema.

    Raises:
        ArchiveError: it does not; the message names the part.
    """
    if is_for_joining(manifest):
        if not isinstance(manifest.get("schema"), str) or not isinstance(manifest.get("members"), dict):
            raise ArchiveError("清单缺少此项 the manifest lacks one of these parts: schema, members")
        return
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


def is_for_joining(manifest: Manifest) -> bool:
    """Return whether the archive is for a machine that joins, and thus has no database."""
    return manifest.get("kind") == JOIN


def require_kind(manifest: Manifest, *, joining: bool) -> None:
    """Check that an archive is for what it is read for.

    Raises:
        KindError: it is for the other purpose.
    """
    if joining and not is_for_joining(manifest):
        raise KindError(
            "这是整套服务的迁移包或备份，不是供加入的包：需要 export.sh --join 所导出的。It holds a whole service, "
            "which scripts/import.sh or restore.sh takes: to join, make a bundle with scripts/export.sh --join"
        )
    if is_for_joining(manifest) and not joining:
        raise KindError(
            "这是供加入的包，没有数据库：请在新机器上执行 scripts/init.sh --join。It is a bundle for joining, without "
            "a database: use it with scripts/init.sh --join FILE on the machine that joins"
        )


def parse_contents(text: str) -> Manifest:
    """Return what the output of contents.sql says: facts, `tables` and `files`.

    Only a line feed ends a line: the name of a file may hold other line breaks, by which a row would become a fact.

    Raises:
        ArchiveError: a line is of no kind that contents.sql prints.
    """
    manifest: Manifest = {"tables": {}, "files": {}}
    for line in filter(None, text.split("\n")):
        kind, _, rest = line.partition(" ")
        match kind:
            case "table":
                name, rows, digest = rest.split(" ")
                manifest["tables"][name] = [int(rows), digest]
            case "file":
                digest, _, name = rest.partition(" ")
                manifest["files"][name] = digest
            case _ if kind in _OF_DATABASE:
                manifest[kind] = rest
            case _:
                raise ArchiveError(f"数据库内容中有未知的行 an unknown line in the database's contents: {line!a}")
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
