"""Retention: which of the backups may go.

    retention.py DAILY WEEKLY MONTHLY     reads the backups' names, one a line; prints those that may go

Runs with the host's python3 (3.10 or newer).
"""

import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime

_NAME = "kadun-%Y%m%dT%H%M%SZ"  # all times are UTC
_ALWAYS_KEPT = 3


def surplus(names: Iterable[str], daily: int, weekly: int, monthly: int) -> set[str]:
    """Return which of these backups may go.

    The newest backup stays of each of the last so many days, ISO weeks and months that have one, and always the newest
    three. Periods without a backup do not count: when backups stop, time alone removes none.
    """
    times = []
    for name in sorted(names):
        with suppress(ValueError):  # a name with a date that does not exist
            times.append((datetime.strptime(name.split(".")[0], _NAME), name))  # noqa: DTZ007
    kept = {name for _, name in times[-_ALWAYS_KEPT:]}
    for number, period in ((daily, "%Y%m%d"), (weekly, "%G%V"), (monthly, "%Y%m")):
        newest = {time.strftime(period): name for time, name in times}
        kept.update(list(newest.values())[::-1][:number])
    return {name for _, name in times} - kept


if __name__ == "__main__":
    sys.stdout.writelines(f"{name}\n" for name in surplus(sys.stdin.read().split(), *map(int, sys.argv[1:])))
