"""The archive format of backups and moves: a tar whose first member, manifest.json, describes all others.

    archive.py stage CHECKOUT FOLDER        gather what a move takes along, as hard links where possible
    archive.py hooks CHECKOUT               print the backup hooks, which a move leaves behind
    archive.py pack FOLDER [NAME=VALUE…]    write the folder as an archive to standard output
    archive.py unpack FOLDER                extract what travels of the archive on standard input into the folder
    archive.py check                        read the archive on standard input whole; print its manifest
    archive.py member NAME                  print one member of the archive on standard input

These read a manifest, or the output of contents.sql, on standard input:

    archive.py fact NAME                    print one fact, such as `schema`
    archive.py summary [TABLE…]             print the number of rows of each table
    archive.py compare FILE                 compare it with the output of contents.sql in FILE; print differences
    archive.py missing FOLDER               print the licensed files whose bytes are not in the folder

Every member's SHA-256 is checked whenever it is read. Runs with the host's python3 (3.10 or newer).
"""

import hashlib
import io
import json
import os
import secrets
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

from travelling import ArchiveError, hooks_in, stage, travels

if TYPE_CHECKING:
    from typing import Self  # Python 3.11

FORMAT = 2
MANIFEST = "manifest.json"
CONTENTS = "contents"
"""In a folder that is packed: the output of contents.sql, which goes into the manifest."""
DATABASES = {"database.dump", "database.sql"}
"""The database, of which an archive has one: a dump of pg_dump, or a trial's rows."""

_CHUNK = 1 << 20

Manifest = dict[str, Any]
Output = Callable[[tarfile.TarInfo], IO[bytes] | None]


def pack(folder: Path, facts: dict[str, str], output: IO[bytes]) -> None:
    """Write the content of a folder as an archive.

    Raises:
        ArchiveError: a file was changed meanwhile, or the folder lacks the database or a part of the manifest.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.name != CONTENTS or path.parent != folder]
    members = {str(path.relative_to(folder)): _sha256(path) for path in paths if path.is_file()}
    contents = (folder / CONTENTS).read_text("utf-8").splitlines()
    manifest: Manifest = {"format": FORMAT, "number": secrets.token_hex(8), **facts, **parse_contents(contents)}
    manifest["members"] = members
    _require_parts(manifest)
    text = json.dumps(manifest, ensure_ascii=False, indent=1).encode()
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        head = tarfile.TarInfo(MANIFEST)
        head.size = len(text)
        tar.addfile(head, io.BytesIO(text))
        for path in paths:
            info = tar.gettarinfo(path, str(path.relative_to(folder)))
            if path.is_dir():
                tar.addfile(info)
                continue
            info.type, info.size = tarfile.REGTYPE, path.stat().st_size  # a hard link is a file like any other here
            with path.open("rb") as file:
                reader = _Hashing(file)
                tar.addfile(info, reader)
            if reader.digest.hexdigest() != members[info.name]:
                raise ArchiveError(f"文件有变动，请重试 a file was changed meanwhile, try again: {info.name}")


class _Hashing(io.RawIOBase):
    """A file that computes the SHA-256 of what is read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self.digest.update(chunk)
        return chunk


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        reader = _Hashing(file)
        while reader.read(_CHUNK):
            pass
    return reader.digest.hexdigest()


def read(stream: IO[bytes], output: Output) -> Manifest:
    """Read an archive to its end and return its manifest.

    `output` is called with each file and folder, and returns where to write the file's bytes, if anywhere.

    Raises:
        ArchiveError: it is not an archive, it lacks a part, it is damaged or cut off, or a member is not what the
            manifest says.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
            members = iter(tar)
            manifest = _manifest(tar, next(members, None))
            left, folders = dict(manifest["members"]), set[str]()
            for info in members:
                _require_inside(info)
                if info.isdir():
                    if info.name in folders:
                        raise ArchiveError(f"出现两次 it occurs twice: {info.name}")
                    folders.add(info.name)
                    output(info)
                elif info.name not in left:
                    raise ArchiveError(f"清单中没有 the manifest does not list it: {info.name}")
                elif _copy(tar, info, output) != left.pop(info.name):
                    raise ArchiveError(f"校验和不符 a checksum does not match: {info.name}")
            _require_end(tar)
    except (tarfile.TarError, EOFError, OSError, UnicodeError) as error:
        raise ArchiveError(f"已损坏或不完整 damaged or cut off: {error}") from error
    if left:
        raise ArchiveError(f"不完整 cut off: {min(left)} is missing")
    return manifest


class _Member(tarfile.TarInfo):
    """A header. tarfile takes one that is damaged or missing for the end; here only the mark of the end is that."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "Self":
        """Read a header; raise ReadError for one that is damaged or missing."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # since Python 3.2
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _require_end(tar: tarfile.TarFile) -> None:
    """Read the rest, else whoever writes it ends with a broken pipe: zeros."""
    stream = cast("IO[bytes]", tar.fileobj)
    while rest := stream.read(_CHUNK):
        if rest.strip(b"\0"):
            raise ArchiveError("归档之后还有内容 something follows after the end of the archive")


def _manifest(tar: tarfile.TarFile, first: tarfile.TarInfo | None) -> Manifest:
    file = tar.extractfile(first) if first and first.name == MANIFEST else None
    try:
        manifest = json.loads(file.read()) if file else None
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict):
        raise ArchiveError("不是卡盾的归档 not an archive of Kadun's: it has no manifest")
    if manifest.get("format") != FORMAT:
        raise ArchiveError(
            f"归档格式为 {manifest.get('format')}，本版本只认 {FORMAT}：请更新代码 "
            f"its format is {manifest.get('format')}, this version reads {FORMAT}: update the code here"
        )
    _require_parts(manifest)
    return manifest


def _require_parts(manifest: Manifest) -> None:
    """Check that a manifest says all that the restored database is compared with, and lists a database.

    Raises:
        ArchiveError: it does not; the message names the part.
    """
    kinds = {"schema": str, "tables": dict, "files": dict, "members": dict}
    for name, kind in kinds.items():
        part = manifest.get(name)
        if not isinstance(part, kind) or (not part and name != "files"):
            raise ArchiveError(f"清单缺少此项 the manifest lacks this part: {name}")
    if MANIFEST in manifest["members"] or len(DATABASES & manifest["members"].keys()) != 1:
        raise ArchiveError("清单未列出数据库 the manifest lists no database")


def _require_inside(info: tarfile.TarInfo) -> None:
    path = PurePosixPath(info.name)
    if path.is_absolute() or ".." in path.parts:
        raise ArchiveError(f"名称无效 an invalid name: {info.name}")


def _copy(tar: tarfile.TarFile, info: tarfile.TarInfo, output: Output) -> str:
    """Copy a member to where it belongs and return its SHA-256."""
    source = tar.extractfile(info) if info.isreg() else None
    if source is None:
        raise ArchiveError(f"既非文件也非目录 neither a file nor a folder: {info.name}")
    reader, target = _Hashing(source), output(info)
    try:
        while chunk := reader.read(_CHUNK):
            if target:
                target.write(chunk)
    finally:
        if target and target is not sys.stdout.buffer:
            target.close()
    return reader.digest.hexdigest()


def unpack(stream: IO[bytes], folder: Path) -> Manifest:
    """Extract what travels into an empty folder, and the manifest beside it, whose `left` names what was left out."""
    folders: list[tuple[Path, int]] = []
    left: list[str] = []

    def output(info: tarfile.TarInfo) -> IO[bytes] | None:
        path = folder / info.name
        if not travels(info.name, is_folder=info.isdir()):
            if not info.isdir():
                left.append(info.name if info.name.isprintable() else ascii(info.name))
            return None
        if info.isdir():
            path.mkdir()
            folders.append((path, info.mode))
            return None
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.fchmod(descriptor, info.mode & 0o666)
        return os.fdopen(descriptor, "wb")

    manifest = read(stream, output)
    for path, mode in folders:
        path.chmod(mode & 0o777 | 0o700)
    manifest["left"] = ", ".join(left)
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    return manifest


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


def _work_on_archive(command: str, *arguments: str) -> None:
    archive = sys.stdin.buffer
    match command, *arguments:
        case "stage", checkout, folder:
            stage(Path(checkout), Path(folder))
        case "hooks", checkout:
            sys.stdout.write(", ".join(hooks_in(Path(checkout))))
        case "pack", folder, *facts:
            pack(Path(folder), dict(fact.split("=", 1) for fact in facts), sys.stdout.buffer)
        case "unpack", folder:
            unpack(archive, Path(folder))
        case ["check"]:
            json.dump(read(archive, lambda _: None), sys.stdout)
        case "member", name:
            read(archive, lambda info: sys.stdout.buffer if info.name == name else None)
        case _:
            text = archive.read().decode()
            manifest = json.loads(text) if text.startswith("{") else parse_contents(text.splitlines())
            _answer_from_manifest(manifest, command, *arguments)


def _answer_from_manifest(manifest: Manifest, command: str, *arguments: str) -> None:
    match command, *arguments:
        case "fact", name:
            sys.stdout.write(str(manifest.get(name, "")))
        case "summary", *tables:
            sys.stdout.write(summary(manifest, tables))
        case "missing", folder:
            sys.stdout.write(", ".join(missing_files(manifest, Path(folder))))
        case "compare", file:
            actual = parse_contents(Path(file).read_text("utf-8").splitlines())
            if found := list(differences(manifest, actual)):
                sys.exit(", ".join(found))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        _work_on_archive(*sys.argv[1:])
    except (ArchiveError, OSError) as problem:
        sys.exit(str(problem))
