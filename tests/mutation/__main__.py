"""`python -m tests.mutation`: run mutmut, and exit with 1 if a mutant survives that is not listed."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

from app.storage import schema
from app.storage.database import Database, connect_to
from tests.conftest import TEMPLATE_URL, postgres_binaries_folder
from tests.mutation.mutants import EQUIVALENT, Mutant, change_of, faults, function_of, read_equivalent
from trial.postgres import EmbeddedPostgres, install_binaries

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "test-artifacts" / "mutation"
PROCESSES = 2
_KILLED = ("killed", "timeout")


def make_folder() -> None:
    """Make the folder that mutmut runs in: links to the repository, with the SDK at `src`.

    mutmut knows a module by its path, and only `src/kadun` has the path of the module `kadun`.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.name not in ("data", "secrets", "test-artifacts") and not path.name.startswith("."):
            (FOLDER / path.name).symlink_to(path)
    (FOLDER / "src").symlink_to(ROOT / "client" / "src")


@contextlib.contextmanager
def template_database() -> Iterator[str]:
    """Start a PostgreSQL with a migrated database, which each mutant's tests copy."""
    binaries = postgres_binaries_folder()
    install_binaries(binaries)
    folder = Path(tempfile.mkdtemp(prefix="kadun-mutation-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        with EmbeddedPostgres(binaries, folder / "cluster", settings={"fsync": "off"}) as postgres:
            owner = connect_to(Database(postgres.url(), bulk=True))
            schema.migrate(owner, lambda _line: None)
            owner.close()
            yield postgres.url()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_mutmut(patterns: list[str], url: str) -> bool:
    """Run mutmut; its output is in `run.log`."""
    program = [sys.executable, str(Path(sys.executable).with_name("mutmut"))]
    command = [*program, "run", "--max-children", str(PROCESSES), *patterns]
    with (FOLDER / "run.log").open("wb") as log:
        environment = {**os.environ, TEMPLATE_URL: url}
        return subprocess.run(command, cwd=FOLDER, env=environment, stdout=log, stderr=log, check=False).returncode == 0


def results() -> Iterator[tuple[str, str, str]]:
    """Return each mutant's file, name and status."""
    for meta in sorted((FOLDER / "mutants").rglob("*.meta")):
        path = str(meta.relative_to(FOLDER / "mutants").with_suffix(""))
        for name, exit_code in json.loads(meta.read_text("utf-8"))["exit_code_by_key"].items():
            yield path, name, status_by_exit_code[exit_code]


def main(patterns: list[str]) -> int:
    """Test all mutants, or those whose names match the patterns, such as `app.storage.bindings*`."""
    start = time.monotonic()
    if not patterns or not FOLDER.exists():
        make_folder()
    with template_database() as url:
        is_complete = run_mutmut(patterns, url)
    if not is_complete:
        print((FOLDER / "run.log").read_text("utf-8", "replace")[-4000:])
        return 1
    os.chdir(FOLDER)
    mutants = [result for result in results() if any(fnmatchcase(result[1], name) for name in patterns or "*")]
    survivors = [
        Mutant(function_of(name), change_of(get_diff_for_mutant(name, path=path)))
        for path, name, status in mutants
        if status not in _KILLED
    ]
    equivalent = read_equivalent(EQUIVALENT)
    found = faults(survivors, equivalent)
    print("\n".join(found))
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(Counter(m[2] for m in mutants).items()))
    seconds = time.monotonic() - start
    print(f"{len(mutants)} mutants in {seconds:.0f} s: {statuses}; {len(equivalent)} listed as equivalent")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
