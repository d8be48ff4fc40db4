"""python -m bench.against: an older commit's service and this one's, measured in turns, with the ratios."""

import argparse
import os
import re
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import children
from bench.command import number, run, say
from bench.errors import BenchError
from trial.stopping import Stopping

ROOT = Path(__file__).resolve().parents[1]
_HOURS = 3600 * 6
_SECTION = re.compile(r"^[\d,]+ bound cards$")
_FIGURE = re.compile(r"^ {2,}(?P<name>\S.*?)\s{2,}(?P<median>[\d,.]+)   \(")
Figures = dict[str, float]


def read_figures(printed: str) -> Figures:
    """Return the medians that a benchmark printed, by section and name."""
    figures, section = {}, ""
    for line in printed.splitlines():
        if _SECTION.match(line):
            section = f"{line}: "
        elif found := _FIGURE.match(line):
            figures[section + found["name"]] = float(found["median"].replace(",", ""))
    return figures


def table(old: list[Figures], new: list[Figures]) -> list[str]:
    """Return a line for each figure that both have: the medians, and the median, lowest and highest ratio."""
    lines = [f"  {'':<62}{'before':>10}{'after':>10}   after/before (lowest to highest)"]
    for name in [name for name in old[0] if name in new[0]]:
        before, after = [figures[name] for figures in old], [figures[name] for figures in new]
        ratios = [b / a for a, b in zip(before, after, strict=True) if a]
        if ratios:
            medians = f"{statistics.median(before):>10,g}{statistics.median(after):>10,g}"
            spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
            lines.append(f"  {name:<62}{medians}   {statistics.median(ratios):.2f} {spread}")
    return lines


@contextmanager
def _checkout(commit: str) -> Iterator[Path]:
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT)]
    with tempfile.TemporaryDirectory(prefix="kadun-against-") as scratch:
        folder = Path(scratch, "checkout")
        done = subprocess.run(
            [*git, "worktree", "add", "--detach", folder, commit], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BenchError(f"no checkout of {commit}: {done.stderr.strip().splitlines()[-1]}")
        try:
            yield folder
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", folder], check=False)


def _measure(folder: Path, options: list[str]) -> Figures:
    command = [str(folder / "scripts" / "bench.sh"), *options, "--rounds", "1"]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    figures = read_figures(children.run(command, environ=environ, seconds=_HOURS))
    if not figures:
        raise BenchError(f"{command[0]} printed no figures")
    return figures


def _in_turns(commit: str, rounds: int, options: list[str]) -> list[str]:
    measured: dict[Path, list[Figures]] = {}
    with _checkout(commit) as older:
        for i in range(rounds):
            for folder in (older, ROOT) if i % 2 == 0 else (ROOT, older):
                say(f"round {i + 1} of {rounds}: {commit if folder == older else 'this checkout'} …")
                measured.setdefault(folder, []).append(_measure(folder, options))
        heading = f"medians of {rounds} rounds in turns, {commit} (before) and this checkout (after)"
        return [heading, "", *table(measured[older], measured[ROOT])]


def main() -> int:
    """Run the measurements; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh --against", description="Measures two commits in turns.")
    parser.add_argument("commit", metavar="COMMIT", help="the older one, by any name that git knows")
    parser.add_argument("--rounds", type=number(1, 99), metavar="N", default=3, help="of both (3)")
    given, options = parser.parse_known_args()

    def measure(_stopping: Stopping) -> list[str]:
        return _in_turns(given.commit, given.rounds, options)

    return run(measure)


if __name__ == "__main__":
    raise SystemExit(main())
