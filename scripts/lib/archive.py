"""The archive format of backups and moves: a tar whose first member, manifest.json, describes all others.

    archive.py stage CHECKOUT FOLDER        gather what a move takes along, as hard links where possible
    archive.py pack FOLDER [--keys KEYRING] [NAME=VALUE…]
                                            write the folder as an archive to standard output; KEYRING signs it
    archive.py fingerprint KEYRING          print the fingerprint of the key that signs

These read an archive on standard input, signed by a key of the chain of KEYRING or FINGERPRINT:

    archive.py unpack FOLDER TRUST          extract into the folder what a move takes along, and nothing else
    archive.py check TRUST                  read it whole; print its manifest
    archive.py member NAME TRUST            print one member

TRUST is [--keys KEYRING] [--fingerprint FINGERPRINT] [--accept-unsigned].
These read a manifest, or the output of contents.sql, on standard input:

    archive.py fact NAME                    print one fact, such as `schema`
    archive.py summary [TABLE…]             print the number of rows of each table
    archive.py compare FILE                 compare it with the output of contents.sql in FILE; print differences
    archive.py missing FOLDER               print the licensed files whose bytes are not in the folder
    archive.py left                         print what a move has left behind

Exit status: 0 done, 1 failed, 3 not signed by anybody trusted.
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
from typing import IO, TYPE_CHECKING, cast

import signature
from manifest import (
    CONTENTS,
    FORMAT,
    MANIFEST,
    SIGNATURE,
    UNSIGNED_FORMAT,
    ArchiveError,
    Manifest,
    differences,
    missing_files,
    parse_contents,
    require_parts,
    summary,
)
from signature import SignatureError, Trust
from travelling import FOLDERS, TRAVELLING, stage

if TYPE_CHECKING:
    from typing import Self  # Python 3.11

UNTRUSTED = 3
"""Exit status where nobody trusted has signed an archive: the rest of it was not read."""
_CHUNK = 1 << 20

Output = Callable[[tarfile.TarInfo], IO[bytes] | None]


def pack(folder: Path, facts: dict[str, str], output: IO[bytes], keyring: Path | None = None) -> None:
    """Write the content of a folder as an archive, signed where there is a key ring.

    Raises:
        ArchiveError: a file was changed meanwhile, or the folder lacks the database or a part of the manifest.
        SignatureError: the key ring cannot be read.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.name != CONTENTS or path.parent != folder]
    members = {str(path.relative_to(folder)): _sha256(path) for path in paths if path.is_file()}
    contents = (folder / CONTENTS).read_text("utf-8").splitlines()
    format_ = UNSIGNED_FORMAT if keyring is None else FORMAT
    manifest: Manifest = {"format": format_, "number": secrets.token_hex(8), **facts, **parse_contents(contents)}
    manifest["members"] = members
    require_parts(manifest)
    text = json.dumps(manifest, ensure_ascii=False, indent=1).encode()
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        heads = {MANIFEST: text} | ({} if keyring is None else {SIGNATURE: signature.sign(text, keyring)})
        for name, content in heads.items():
            head = tarfile.TarInfo(name)
            head.size = len(content)
            tar.addfile(head, io.BytesIO(content))
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


def read(stream: IO[bytes], output: Output, trust: Trust | None = None) -> Manifest:
    """Read an archive to its end and return its manifest.

    `output` is called with each file and folder, and returns where to write the file's bytes, if anywhere. Without
    `trust`, nobody cares who made the archive.

    Raises:
        ArchiveError: it is not an archive, it lacks a part, it is damaged or cut off, or a member is not what the
            manifest says.
        SignatureError: nobody trusted has signed it; nothing has been given to `output`.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
            members = iter(tar)
            manifest = _manifest(tar, members, trust)
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


def _manifest(tar: tarfile.TarFile, members: Iterator[tarfile.TarInfo], trust: Trust | None) -> Manifest:
    text = _head(tar, next(members, None), MANIFEST)
    try:
        manifest = json.loads(text)
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict):
        raise ArchiveError("不是卡盾的归档 not an archive of Kadun's: it has no manifest")
    if manifest.get("format") not in (FORMAT, UNSIGNED_FORMAT):
        raise ArchiveError(
            f"归档格式为 {manifest.get('format')}，本版本只认 {FORMAT}：请更新代码 "
            f"its format is {manifest.get('format')}, this version reads {FORMAT}: update the code here"
        )
    signed = _head(tar, next(members, None), SIGNATURE) if manifest["format"] == FORMAT else None
    if signed == b"":
        raise ArchiveError("不完整：缺少签名 damaged: its signature is missing")
    if trust is not None:
        signature.require(text, signed, trust)
    require_parts(manifest)
    return manifest


def _head(tar: tarfile.TarFile, member: tarfile.TarInfo | None, name: str) -> bytes:
    """Return the content of one of the first members; nothing where another one is in its place."""
    file = tar.extractfile(member) if member and member.name == name else None
    return file.read() if file else b""


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


def unpack(stream: IO[bytes], folder: Path, trust: Trust) -> Manifest:
    """Extract an archive into an empty folder, and its manifest beside the members.

    Only what TRAVELLING lists is written, and nothing executable; the manifest's `left` names the rest.
    """
    left: list[str] = []

    def output(info: tarfile.TarInfo) -> IO[bytes] | None:
        if info.isdir():
            if TRAVELLING.fullmatch(f"{info.name}/a") or info.name in {*FOLDERS, "data"}:
                (folder / info.name).mkdir()
            return None
        if not TRAVELLING.fullmatch(info.name):
            left.append(info.name)
            return None
        descriptor = os.open(folder / info.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.fchmod(descriptor, info.mode & 0o666)
        return os.fdopen(descriptor, "wb")

    manifest = read(stream, output, trust)
    manifest["left"] = [*manifest.get("left", []), *left]
    (folder / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    return manifest


def _trust(words: list[str]) -> Trust:
    """Return what the options at the end of the command line say."""
    keyring, fingerprints, unsigned = None, [], False
    while words:
        match words:
            case ["--keys", path, *words]:
                keyring = Path(path)
            case ["--fingerprint", fingerprint, *words]:
                fingerprints.append(fingerprint)
            case ["--accept-unsigned", *words]:
                unsigned = True
            case _:
                sys.exit(__doc__)
    return Trust(keyring, fingerprints, unsigned)


def _work_on_archive(command: str, *arguments: str) -> None:
    archive = sys.stdin.buffer
    match command, *arguments:
        case "stage", checkout, folder:
            stage(Path(checkout), Path(folder))
        case "pack", folder, "--keys", keyring, *facts:
            pack(Path(folder), _facts(facts), sys.stdout.buffer, Path(keyring))
        case "pack", folder, *facts:
            pack(Path(folder), _facts(facts), sys.stdout.buffer)
        case "fingerprint", keyring:
            sys.stdout.write(signature.current_kid(Path(keyring)))
        case "unpack", folder, *trust:
            unpack(archive, Path(folder), _trust(trust))
        case "check", *trust:
            json.dump(read(archive, lambda _: None, _trust(trust)), sys.stdout)
        case "member", name, *trust:
            read(archive, lambda info: sys.stdout.buffer if info.name == name else None, _trust(trust))
        case _:
            text = archive.read().decode()
            manifest = json.loads(text) if text.startswith("{") else parse_contents(text.splitlines())
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
        case ["left"]:
            sys.stdout.write(", ".join(map(repr, manifest.get("left", []))))
        case "compare", file:
            actual = parse_contents(Path(file).read_text("utf-8").splitlines())
            if found := list(differences(manifest, actual)):
                sys.exit(", ".join(found))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        _work_on_archive(*sys.argv[1:])
    except SignatureError as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(UNTRUSTED)
    except (ArchiveError, OSError) as problem:
        sys.exit(str(problem))
