"""The figures, for people."""

import os
import platform
import re
import statistics
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import psycopg2

from bench.gunicorn import THREADS, WORKERS
from bench.process_usage import Memory
from bench.rounds import Plan, Round
from bench.signing import cores
from trial.binaries import program

_PACKAGES = ("falcon", "gunicorn", "peewee", "psycopg2-binary", "PyJWT", "cryptography")


def machine(binaries: Path) -> str:
    """Return what was measured on: machine and versions; `binaries` are PostgreSQL's."""
    postgres = subprocess.run([program(binaries, "postgres"), "--version"], check=True, capture_output=True, text=True)
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = found[1] if found else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    return (
        f"machine: {cores()} cores, {processor}, {memory:.0f} GiB, Linux {platform.release()}, "
        f"load average {os.getloadavg()[0]:.2f} before the start\n"
        f"versions: Python {platform.python_version()}, PostgreSQL {postgres.stdout.split()[-1]} "
        f"(libpq {psycopg2.extensions.libpq_version() // 10_000}), {packages}\n"
        f"gunicorn: {WORKERS} workers of {THREADS} threads; {WORKERS * THREADS} connections at once"
    )


def figures(plan: Plan, rounds: Sequence[Round], memory: dict[str, Memory]) -> str:
    """Return all figures: medians over the rounds, with the lowest and the highest."""
    lines = [
        f"medians of {len(rounds)} rounds of {plan.seconds} s a measurement (lowest to highest)",
        "",
        _line("H  empty route, requests/s", rounds, lambda r: r.empty),
        _line(f"S  signatures/s, {cores()} cores", rounds, lambda r: r.signatures),
        _line("A  first activations/s", rounds, lambda r: r.activations.per_second),
    ]
    for cards in plan.cards:
        lines += ["", f"{cards:,} bound cards", *_of(cards, rounds)]
    if len(plan.cards) > 1:
        least, most = min(plan.cards), max(plan.cards)
        fall = [100 * (1 - r.clear[most].per_second / r.clear[least].per_second) for r in rounds]
        lines += ["", f"V falls by {statistics.median(fall):.1f}% from {least:,} to {most:,} cards"]
    lines += ["", *(f"memory of {who}: {m.pss} MiB (PSS), {m.rss} MiB (RSS)" for who, m in memory.items())]
    return "\n".join(lines)


def _of(cards: int, rounds: Sequence[Round]) -> list[str]:
    return [
        _line("D  the statements alone, a second", rounds, lambda r: r.database[cards]),
        _line("V  verifications/s, key in clear", rounds, lambda r: r.clear[cards].per_second),
        _line("V  verifications/s, key sealed", rounds, lambda r: r.sealed[cards].per_second),
        _line("   99% answered within, ms (clear)", rounds, lambda r: r.clear[cards].p99 / 1000, digits=1),
        _line("L  1/(1/H + 1/D + 1/S)", rounds, lambda r: r.limit(cards)),
        _line("V/L", rounds, lambda r: r.clear[cards].per_second / r.limit(cards), digits=2),
        _line("V/L with the key sealed", rounds, lambda r: r.sealed[cards].per_second / r.limit(cards), digits=2),
    ]


def _line(name: str, rounds: Sequence[Round], figure: Callable[[Round], float], digits: int = 0) -> str:
    return row(name, [figure(measured) for measured in rounds], digits)


def row(name: str, values: Sequence[float], digits: int = 0) -> str:
    """Return a figure's line: the median, with the lowest and the highest."""
    median, low, high = (f"{v:,.{digits}f}" for v in (statistics.median(values), min(values), max(values)))
    return f"  {name:<36}{median:>10}   ({low} to {high})"
