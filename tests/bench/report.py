"""The figures, for people."""

import os
import platform
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from tests.bench.service import CONNECTIONS, THREADS, WORKERS

Figures = Mapping[str, Mapping[str, float]]
"""What one round measured, by section and name."""

AIMS = {
    "A  first activations/s, 16 connections": ">= 0.95",
    "A  first activations/s, 64 connections": ">= 0.95",
    "V  verifications/s, key in clear": ">= 0.95",
    "V  verifications/s, key sealed": ">= 0.95",
    "   processor time, µs: both": "<= 1.05",
    "99% answered within, ms": "<= 1.10",
    "gunicorn, MiB (PSS)": "<= 1.05",
}
"""What a change may cost, as a ratio to the commit before it."""
_PACKAGES = ("falcon", "gunicorn", "gevent", "peewee", "psycopg2-binary", "PyJWT", "cryptography")
_NAME_COLUMNS = 44


def say(line: str) -> None:
    """Report progress on standard error."""
    print(f"bench: {line}", file=sys.stderr, flush=True)


def machine(postgresql: str) -> str:
    """Return what was measured on: machine and versions."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = found[1] if found else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    return (
        f"machine: {len(os.sched_getaffinity(0))} cores, {processor}, {memory:.0f} GiB, Linux {platform.release()}, "
        f"load average {os.getloadavg()[0]:.2f} before the start\n"
        f"versions: Python {platform.python_version()}, PostgreSQL {postgresql}, {packages}\n"
        f"gunicorn: {WORKERS} workers, KADUN_THREADS={THREADS}; {CONNECTIONS} connections where nothing else is said"
    )


def heading(rounds: int, seconds: int) -> str:
    """Return what the figures are."""
    return f"medians of {rounds} rounds of {seconds} s a measurement (lowest to highest)"


def figures(rounds: Sequence[Figures]) -> list[str]:
    """Return a line for each figure: the median over the rounds, with the lowest and the highest."""
    lines = []
    for section, names in rounds[0].items():
        lines += ["", section] if section else [""]
        lines += [row(name, [measured[section][name] for measured in rounds]) for name in names]
    return lines


def row(name: str, values: Sequence[float]) -> str:
    """Return a figure's line."""
    median, low, high = (_number(value) for value in (statistics.median(values), min(values), max(values)))
    return f"  {name:<{_NAME_COLUMNS}}{median:>10}   ({low} to {high})"


def comparison(before: Sequence[Figures], after: Sequence[Figures]) -> list[str]:
    """Return a line for each figure: its medians, and the median, lowest and highest ratio within a round."""
    lines = [f"  {'':<{_NAME_COLUMNS}}{'before':>10}{'after':>10}   after/before      aim"]
    for section, names in before[0].items():
        lines += ["", section] if section else [""]
        for name in names:
            pairs = [(old[section][name], new[section][name]) for old, new in zip(before, after, strict=True)]
            medians = "".join(f"{_number(statistics.median(values)):>10}" for values in zip(*pairs, strict=True))
            ratios = [new / old for old, new in pairs if old]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
            lines.append(f"  {name:<{_NAME_COLUMNS}}{medians}   {spread:<21} {AIMS.get(name, '')}".rstrip())
    return lines


def _number(value: float) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"
