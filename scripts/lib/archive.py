"""The archive format of backups and moves: a tar whose first member, manifest.json, describes all others.

    archive.py stage CHECKOUT FOLDER CARGO  gather what a move takes along, as hard links where possible; CARGO is
                                            `folder` or `database`, where the signing keys are; or `join`: what a
                                            machine needs that joins
    archive.py hooks CHECKOUT               print the backup hooks, which a move leaves behind
    archive.py fingerprint KEYRING          print the ID of the current key of a keyring.json, if it can sign
    archive.py pack FOLDER [--keys KEYRING] [NAME=VALUE…]
                                            write the folder as an archive to standard output, signed with the key
                                            ring; `kind=join` for one without a database

These read an archive on standard input:

    archive.py unpack FOLDER [TRUST]        extract what travels into the folder
    archive.py unpack-join FOLDER [TRUST]   likewise, of an archive for a machine that joins
    archive.py check [TRUST]                read it whole; print its manifest
    archive.py member FOLDER NAME [TRUST]   print one member, once its checksum was found right; FOLDER has room

TRUST says whose signature counts: --keys KEYRING [--fingerprint KEY]… [--accept-unsigned]. Without it, no signature is
required. Exit status 3: only the manifest was read, for no signature counts, or the archive is for another purpose.

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
import resource
import secrets
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, cast

import signature
from manifest import (
    FORMAT,
    MANIFEST,
    ArchiveError,
    KindError,
    Manifest,
    differences,
    is_for_joining,
    missing_files,
    parse_contents,
    require_kind,
    require_parts,
    summary,
)
from signature import SignatureError, Trust
from travelling import CARGOES, hooks_in, stage

if TYPE_CHECKING:
    from typing import Self  # Python 3.11

CONTENTS = "contents"
"""In a folder that is packed: the output of contents.sql, which goes into the manifest."""
UNTRUSTED = 3
"""The exit status where no signature counts, or the archive is for another purpose."""
MAX_MANIFEST_BYTES = 32 << 20
"""It is read before anything shows who wrote it."""
_MAX_MEMORY_BYTES = 1 << 30
_CHUNK = 1 << 20

Output = Callable[[tarfile.TarInfo], IO[bytes] | None]


def pack(folder: Path, facts: dict[str, str], output: IO[bytes], keyring: Path | None = None) -> None:
    """Write the content of a folder as an archive, signed where a key ring is named.

    Raises:
        ArchiveError: a file was changed meanwhile, the folder lacks the database or a part of the manifest, or the key
            ring cannot sign.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.name != CONTENTS or path.parent != folder]
    members = {str(path.relative_to(folder)): _sha256(path) for path in paths if path.is_file()}
    contents = {} if is_for_joining(facts) else parse_contents((folder / CONTENTS).read_bytes().decode())
    manifest: Manifest = {**contents, "format": FORMAT, "number": secrets.token_hex(8), **facts}
    manifest["members"] = members
    require_parts(manifest)
    if keyring is not None:
        manifest["signature"] = signature.sign(manifest, keyring)
    text = json.dumps(manifest, ensure_ascii=False, indent=1).encode()
    if len(text) > MAX_MANIFEST_BYTES:
        raise ArchiveError(f"清单过大 the manifest is too large: {len(text)} bytes, at most {MAX_MANIFEST_BYTES}")
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


def read(stream: IO[bytes], output: Output, trust: Trust | None = None, *, joining: bool = False) -> Manifest:
    """Read an archive to its end and return its manifest.

    `output` is called with each file and folder, and returns where to write the file's bytes, if anywhere.
    `trust` says whose signature counts; without it, no signature is required. `joining` wants an archive for a machine
    that joins; without it, such a one is refused.

    Raises:
        ArchiveError: it is not an archive, it lacks a part, it is damaged or cut off, or a member is not what the
            manifest says.
        KindError: it is for another purpose.
        SignatureError: no signature counts. Nothing was given to `output`.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
            members = iter(tar)
            manifest = _manifest(tar, next(members, None))
            require_kind(manifest, joining=joining)
            if trust:
                signature.require(manifest, trust)
            require_parts(manifest)
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
    is_manifest = first is not None and first.name == MANIFEST and first.size <= MAX_MANIFEST_BYTES
    file = tar.extractfile(first) if first and is_manifest else None
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
    return manifest


def _require_inside(info: tarfile.TarInfo) -> None:
    path = PurePosixPath(info.name)
    if path.is_absolute() or ".." in path.parts:
        raise ArchiveError(f"名称无效 an invalid name: {info.name}")


def _copy(tar: tarfile.TarFile, info: tarfile.TarInfo, output: Output) -> str:
    """Copy a member to where it belongs and return its SHA-256."""
    source = tar.extractfile(info) if info.isreg() and not info.issparse() else None
    if source is None:
        raise ArchiveError(f"既非文件也非目录 neither a file nor a folder: {info.name}")
    reader, target = _Hashing(source), output(info)
    try:
        while chunk := reader.read(_CHUNK):
            if target:
                target.write(chunk)
    finally:
        if target:
            target.close()
    return reader.digest.hexdigest()


def unpack(stream: IO[bytes], folder: Path, trust: Trust | None = None, *, joining: bool = False) -> Manifest:
    """Extract what travels into an empty folder, and the manifest beside it, whose `left` names what was left out."""
    cargo = CARGOES["join" if joining else "folder"]
    folders: list[tuple[Path, int]] = []
    left: list[str] = []

    def output(info: tarfile.TarInfo) -> IO[bytes] | None:
        path = folder / info.name
        if not cargo.travels(info.name, is_folder=info.isdir()):
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

    manifest = read(stream, output, trust, joining=joining)
    for path, mode in folders:
        path.chmod(mode & 0o777 | 0o700)
    manifest["left"] = ", ".join(left)
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    return manifest


def _trust(words: list[str]) -> Trust | None:
    """Return what the options say whose signature counts; None without any."""
    keyring, fingerprints, unsigned = None, list[str](), False
    options = iter(words)
    for option in options:
        match option:
            case "--keys":
                keyring = Path(next(options))
            case "--fingerprint":
                fingerprints.append(next(options))
            case "--accept-unsigned":
                unsigned = True
            case _:
                sys.exit(__doc__)
    if words and not keyring:
        sys.exit(__doc__)
    return Trust(keyring, tuple(fingerprints), unsigned) if keyring else None


def _work_on_archive(command: str, *arguments: str) -> None:
    archive = sys.stdin.buffer
    match command, *arguments:
        case "stage", checkout, folder, cargo:
            stage(Path(checkout), Path(folder), cargo)
        case "hooks", checkout:
            sys.stdout.write(", ".join(hooks_in(Path(checkout))))
        case "fingerprint", keyring:
            sys.stdout.write(signature.fingerprint(Path(keyring)))
        case "pack", folder, "--keys", keyring, *facts:
            pack(Path(folder), _facts(facts), sys.stdout.buffer, Path(keyring))
        case "pack", folder, *facts:
            pack(Path(folder), _facts(facts), sys.stdout.buffer)
        case "unpack", folder, *trust:
            unpack(archive, Path(folder), _trust(trust))
        case "unpack-join", folder, *trust:
            unpack(archive, Path(folder), _trust(trust), joining=True)
        case "check", *trust:
            json.dump(read(archive, lambda _: None, _trust(trust)), sys.stdout)
        case "member", folder, name, *trust:
            with tempfile.TemporaryFile(dir=folder) as file:
                writers = {name: lambda: os.fdopen(os.dup(file.fileno()), "wb")}
                read(archive, lambda info: writers.get(info.name, lambda: None)(), _trust(trust))
                file.seek(0)
                shutil.copyfileobj(file, sys.stdout.buffer, _CHUNK)
        case _:
            text = archive.read().decode()
            manifest = json.loads(text) if text.startswith("{") else parse_contents(text)
            _answer_from_manifest(manifest, command, *arguments)


def _facts(words: list[str]) -> dict[str, str]:
    return dict(fact.split("=", 1) for fact in words)


def _answer_from_manifest(manifest: Manifest, command: str, *arguments: str) -> None:
    match command, *arguments:
        case "fact", name:
            sys.stdout.write(str(manifest.get(name, "")))
        case "summary", *tables:
            sys.stdout.write(summary(manifest, tables))
        case "missing", folder:
            sys.stdout.write(", ".join(missing_files(manifest, Path(folder))))
        case "compare", file:
            actual = parse_contents(Path(file).read_bytes().decode())
            if found := list(differences(manifest, actual)):
                sys.exit(", ".join(found))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    # The headers of a hostile archive would fill the machine's memory.
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    try:
        _work_on_archive(*sys.argv[1:])
    except (SignatureError, KindError) as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(UNTRUSTED)
    except (ArchiveError, OSError) as problem:
        sys.exit(str(problem))
    except MemoryError:
        sys.exit("已损坏：读取它需要过多内存 damaged: reading it takes too much memory")
