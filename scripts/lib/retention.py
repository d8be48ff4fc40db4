"""The backup folder: which finished backups it holds, and which may go.

    retention.py newest FOLDER                                  print the name of the newest backup
    retention.py prune FOLDER DAILY WEEKLY MONTHLY KEEP         remove surplus backups, but never the one named KEEP
    retention.py keep-newest FOLDER PREFIX NUMBER               of the dumps that begin so, keep the newest ones
    retention.py leftovers FOLDER                               remove what an interrupted run left
    retention.py checksum FILE                                  compare a backup with the checksums beside it

Runs with the host's python3 (3.10 or newer).
"""

import hashlib
import re
import shutil
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import IO

from regular import content_of, opened

_NAME = re.compile(r"(kadun-(?:before-[a-z]+-)?)([0-9]{8}T[0-9]{6})Z\.tar(?:\.age)?")
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")  # the name may have a path
_ALWAYS_KEPT = 3
_MAX_CHECKSUMS_BYTES = 64 * 1024


class ChecksumError(Exception):
    """A backup is not what the checksum file beside it says."""


def _time(name: str, prefix: str = "kadun-") -> datetime | None:
    """Return the time in an archive's name, or None where it is not the name of such an archive."""
    found = _NAME.fullmatch(name)
    if not found or found[1] != prefix:
        return None
    try:
        return datetime.strptime(found[2], "%Y%m%dT%H%M%S")  # noqa: DTZ007  # all of them are UTC
    except ValueError:
        return None


def surplus(names: Iterable[str], daily: int, weekly: int, monthly: int) -> set[str]:
    """Return which of these backups may go.

    The newest backup stays of each of the last so many days, ISO weeks and months that have one, and always the newest
    three. Periods without a backup do not count: when backups stop, time alone removes none.
    """
    times = sorted(((time, name) for name in names if (time := _time(name))), reverse=True)
    kept = {name for _, name in times[:_ALWAYS_KEPT]}
    for number, period in ((daily, "%Y%m%d"), (weekly, "%G%V"), (monthly, "%Y%m")):
        newest: dict[str, str] = {}
        for time, name in times:
            newest.setdefault(time.strftime(period), name)
        kept.update(list(newest.values())[:number])
    return {name for _, name in times} - kept


def finished(folder: Path, prefix: str = "kadun-") -> list[str]:
    """Return the names of the finished archives of one kind, oldest first: those with a checksum beside them."""
    times = sorted(
        (time, file.name)
        for file in folder.iterdir()
        if (time := _time(file.name, prefix)) and file.stat().st_size and _checksum(file).is_file()
    )
    return [name for _, name in times]


def _checksum(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def verify_checksum(file: Path) -> None:
    """Check that a backup, and every other file that its checksum file names, is there and unchanged.

    Raises:
        ChecksumError: it is not, or the checksum file is damaged.
        OSError: a file cannot be read, or is not a regular file.
    """
    checksums = _checksum(file)
    text = content_of(checksums, _MAX_CHECKSUMS_BYTES).decode("utf-8", "replace")
    lines = [_LINE.fullmatch(line) for line in text.splitlines()]
    sums = {Path(line[2]).name: line[1].lower() for line in lines if line}
    if None in lines or "" in sums or file.name not in sums:
        raise ChecksumError(
            f"{checksums} 已损坏，请换一份备份。It holds no valid SHA-256 of {file.name}: take another backup"
        )
    for name, expected in sums.items():
        part = file.with_name(name)
        if not part.exists():
            raise ChecksumError(f"{checksums} 列出的 {name} 不存在。It names {name}, which is missing: copy that along")
        with opened(part) as content:
            if _sha256(content) != expected:
                raise ChecksumError(
                    f"{part} 已损坏（SHA-256 不符），请换一份备份。Its SHA-256 differs: take another backup"
                )


def _sha256(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := content.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def remove(folder: Path, name: str) -> None:
    """Remove an archive and then its checksum: what is not finished has none."""
    (folder / name).unlink(missing_ok=True)
    _checksum(folder / name).unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove unfinished files and staging folders. Call it under the lock only."""
    for path in folder.glob(".staging.*"):
        shutil.rmtree(path)
    for path in folder.glob("kadun-*.partial"):
        if _NAME.fullmatch(path.name.removesuffix(".partial").removesuffix(".sha256")):
            path.unlink()


def main(command: str, folder: str, *arguments: str) -> None:
    """Run one command of the command line."""
    place = Path(folder)
    match command, *arguments:
        case ["newest"]:
            sys.stdout.write("".join(finished(place)[-1:]))
        case "prune", daily, weekly, monthly, keep:
            for name in surplus(finished(place), int(daily), int(weekly), int(monthly)) - {keep}:
                remove(place, name)
        case "keep-newest", prefix, number:
            for name in finished(place, prefix)[: -int(number)]:
                remove(place, name)
        case ["leftovers"]:
            remove_leftovers(place)
        case ["checksum"]:
            verify_checksum(place)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (ChecksumError, OSError) as problem:
        sys.exit(str(problem))
