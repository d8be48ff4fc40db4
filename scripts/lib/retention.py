"""The backup folder: which backups it holds, and which may go.

    retention.py newest FOLDER                                  print the name of the newest backup
    retention.py prune FOLDER DAILY WEEKLY MONTHLY KEEP         remove surplus backups, but never the one named KEEP
    retention.py keep-newest FOLDER PREFIX NUMBER               of the backups that begin so, keep the newest ones

Runs with the host's python3 (3.10 or newer).
"""

import re
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

_NAME = re.compile(r"(kadun-(?:before-[a-z]+-)?)([0-9]{8}T[0-9]{6})Z\.tar(?:\.age)?")
_ALWAYS_KEPT = 3


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


def archives(folder: Path, prefix: str = "kadun-") -> list[str]:
    """Return the names of the archives of one kind, oldest first."""
    times = sorted((time, file.name) for file in folder.iterdir() if (time := _time(file.name, prefix)))
    return [name for _, name in times]


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove archives, with the checksums that version 1.0 laid beside them."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
        (folder / f"{name}.sha256").unlink(missing_ok=True)


def main(command: str, folder: str, *arguments: str) -> None:
    """Run one command of the command line."""
    place = Path(folder)
    match command, *arguments:
        case ["newest"]:
            sys.stdout.write("".join(archives(place)[-1:]))
        case "prune", daily, weekly, monthly, keep:
            remove(place, surplus(archives(place), int(daily), int(weekly), int(monthly)) - {keep})
        case "keep-newest", prefix, number:
            remove(place, archives(place, prefix)[: -int(number)])
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
