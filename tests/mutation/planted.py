"""`python -m tests.mutation.planted [NAME…]`: plant defects, one at a time, and require that a test finds each.

`planted.toml` lists the defects, with the tests that must find them: one at least in each area of the tests. They are
planted in a worktree of HEAD in a temporary folder; exits with 1 if one is missed.
"""

import contextlib
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("planted.toml")
_ENVIRONMENTS = (".venv", ".venv-swift")
_PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")
_FAILED = 1
"""pytest's exit status where tests failed; any other says that they did not run."""


class Defect(NamedTuple):
    """A text of a file, and what is planted in its place.

    `tests` are the arguments of pytest, of which one test at least must fail.
    """

    name: str
    area: str
    file: str
    old: str
    new: str
    tests: list[str]

    def planted_in(self, text: str) -> str:
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: the old text occurs {text.count(self.old)} times in {self.file}")
        return text.replace(self.old, self.new)


def read_defects(names: list[str]) -> list[Defect]:
    defects = {entry["name"]: Defect(**entry) for entry in tomllib.loads(LIST.read_text("utf-8"))["planted"]}
    if unknown := set(names) - set(defects):
        raise ValueError(f"not listed: {', '.join(sorted(unknown))}")
    return [defects[name] for name in names or defects]


@contextlib.contextmanager
def worktree() -> Iterator[Path]:
    """Make a worktree of HEAD that shares the environments of this one."""
    with tempfile.TemporaryDirectory(prefix="kadun-planted-", dir="/var/tmp") as folder:
        tree = Path(folder) / "kadun"
        _git(ROOT, "worktree", "add", "--quiet", "--detach", tree, "HEAD")
        try:
            for name in _ENVIRONMENTS:
                if (ROOT / name).exists():
                    (tree / name).symlink_to((ROOT / name).resolve())
            yield tree
        finally:
            _git(ROOT, "worktree", "remove", "--force", tree)


def is_found(defect: Defect, tree: Path) -> bool:
    """Plant a defect, run its tests, and take it back; return whether one of them fails.

    It is committed, since some tests clone the repository.
    """
    file = tree / defect.file
    file.write_text(defect.planted_in(file.read_text("utf-8")), "utf-8")
    author = ("-c", "user.name=planted", "-c", "user.email=planted@example.org")
    _git(tree, *author, "commit", "--quiet", "--no-verify", "--all", "--message", defect.name)
    command = [str(tree / ".venv" / "bin" / "python"), *_PYTEST, *defect.tests]
    done = subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    _git(tree, "reset", "--quiet", "--hard", "HEAD^")
    if done.returncode not in (0, _FAILED):
        raise RuntimeError(f"{defect.name}: pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr}")
    return done.returncode == _FAILED


def _git(folder: Path, *arguments: str | Path) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True)


def main(names: list[str]) -> int:
    defects = read_defects(names)
    found = 0
    with worktree() as tree:
        for defect in defects:
            defect.planted_in((tree / defect.file).read_text("utf-8"))  # all, before the first takes its time
        for defect in defects:
            start, is_caught = time.monotonic(), is_found(defect, tree)
            print(f"{'found' if is_caught else 'MISSED'}: {defect.name} ({time.monotonic() - start:.0f} s)", flush=True)
            found += is_caught
    print(f"{found} of {len(defects)} defects found")
    return 0 if found == len(defects) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
