"""Run mutmut, and exit with 1 if a mutant survives that is not listed.

python -m tests.mutation [--killed FILE] [PATTERN…]

Without a pattern, all mutants are tested. FILE keeps those that are killed: the first run with it writes it, and later
ones name those in it that survive now.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

from tests.conftest import TEMPLATE_URL, postgres_binaries_folder
from tests.mutation.mutants import EQUIVALENT, Mutant, change_of, faults, function_of, read_equivalent
from tests.support.hosts.prepared_cluster import copy_to
from trial.postgres import EmbeddedPostgres, install_binaries

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "test-artifacts" / "mutation"
PROCESSES = 2
PYPROJECT = "pyproject.toml"
_KILLED = ("killed", "timeout", "caught by type check")
# The integration tests of what uses the statements, the bindings, the journal and the claims of orders.
_WHOLE_WRITES = ("card_actions", "idempotency", "journal", "journal_lists", "reports", "terms", "batcher", "verdicts")
_READS_THE_REPOSITORY = re.compile(r"\bcheckout\b|\bdocuments\b")
# mutmut's copies of methods repeat definitions, and its decorator has no types.
_MYPY = (
    *("--output=json", "--follow-imports=silent", "--no-warn-unused-ignores", "--allow-untyped-decorators"),
    "--disable-error-code=no-redef",
)


def mutated_files() -> list[str]:
    """Return the files that mutmut mutates. In its patterns an asterisk stands for folders too."""
    table = tomllib.loads((ROOT / PYPROJECT).read_text("utf-8"))["tool"]["mutmut"]
    files = (path for folder in table["source_paths"] for path in (FOLDER / folder).rglob("*.py"))
    names = sorted(str(path.relative_to(FOLDER)) for path in files)
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in table["only_mutate"])]


def selected_tests(mutated: Iterable[str]) -> list[str]:
    """Return the test files of what is mutated.

    Those are unit tests that import a mutated module, or are named after one of the SDK's, and the integration tests of
    `_WHOLE_WRITES`. Tests of scripts and documents stay out: mutmut's folder has none.
    """
    modules = [path.removeprefix("src/").removesuffix(".py").replace("/", ".") for path in mutated]
    packages = {re.sub(r"^(app\.(domain|tokens))\..*", r"\1", name) for name in modules}
    imports = re.compile(rf"^from ({'|'.join(sorted(packages))})[ .]", re.MULTILINE)
    sdk = [name.removeprefix("kadun.") for name in modules if name.startswith("kadun.")]
    unit = {path: path.read_text("utf-8") for path in ROOT.glob("tests/unit/*/test_*.py")}
    selected = [
        path
        for path, text in unit.items()
        if (imports.search(text) or any(name in path.stem for name in sdk)) and not _READS_THE_REPOSITORY.search(text)
    ]
    integration = {path.stem.removeprefix("test_"): path for path in ROOT.glob("tests/integration/*/test_*.py")}
    if missing := [name for name in _WHOLE_WRITES if name not in integration]:
        raise FileNotFoundError(f"not among the integration tests: {missing}")
    return sorted(str(path.relative_to(ROOT)) for path in {*selected, *(integration[name] for name in _WHOLE_WRITES)})


def make_folder() -> None:
    """Make the folder that mutmut runs in: links to the repository, with the SDK at `src`.

    mutmut knows a module by its path, and only `src/kadun` has the path of the module `kadun`.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.name not in ("data", "secrets", "test-artifacts", PYPROJECT) and not path.name.startswith("."):
            (FOLDER / path.name).symlink_to(path)
    (FOLDER / "src").symlink_to(ROOT / "client" / "src")
    write_configuration()


def write_configuration() -> None:
    """Write mutmut's configuration: the repository's, with the files that follow from it.

    What mypy refuses, the tier `lint` finds; no test is run for it.
    """
    mutated = mutated_files()
    table = {
        "pytest_add_cli_args_test_selection": selected_tests(mutated),
        "type_check_command": [sys.executable, "-m", "mypy", *_MYPY, *mutated],
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    text = (ROOT / PYPROJECT).read_text("utf-8").replace('mypy_path = ["client/src"', 'mypy_path = ["src"')
    (FOLDER / PYPROJECT).write_text(text.replace("[tool.mutmut]", "\n".join(["[tool.mutmut]", *lines, "#"])), "utf-8")


@contextlib.contextmanager
def template_database() -> Iterator[str]:
    """Start a PostgreSQL with a migrated database, which each mutant's tests copy."""
    binaries = postgres_binaries_folder()
    install_binaries(binaries)
    folder = Path(tempfile.mkdtemp(prefix="kadun-mutation-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        copy_to(folder / "cluster", binaries)
        with EmbeddedPostgres(binaries, folder / "cluster", settings={"fsync": "off"}) as postgres:
            yield postgres.url()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_mutmut(patterns: list[str], url: str) -> bool:
    program = [sys.executable, str(Path(sys.executable).with_name("mutmut"))]
    command = [*program, "run", "--max-children", str(PROCESSES), *patterns]
    with (FOLDER / "run.log").open("wb") as log:
        environment = {**os.environ, TEMPLATE_URL: url}
        return subprocess.run(command, cwd=FOLDER, env=environment, stdout=log, stderr=log, check=False).returncode == 0


def results() -> Iterator[tuple[str, str, str]]:
    for meta in sorted((FOLDER / "mutants").rglob("*.meta")):
        path = str(meta.relative_to(FOLDER / "mutants").with_suffix(""))
        for name, exit_code in json.loads(meta.read_text("utf-8"))["exit_code_by_key"].items():
            yield path, name, status_by_exit_code[exit_code]


def lost(file: Path, killed: set[Mutant], survivors: set[Mutant]) -> list[str]:
    """Return a line for each mutant of the file that survives now; write the file if there is none."""
    if file.exists():
        return [
            f"was killed before: {mutant}"
            for mutant in sorted({Mutant(*each) for each in json.loads(file.read_text())} & survivors)
        ]
    file.write_text(json.dumps(sorted(killed), indent=1))
    return []


def main(arguments: list[str]) -> int:
    """Test all mutants, or those whose names match the patterns, such as `app.storage.bindings*`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--killed", type=Path)
    parser.add_argument("patterns", nargs="*")
    given = parser.parse_args(arguments)
    start, patterns = time.monotonic(), given.patterns
    if not patterns or not FOLDER.exists():
        make_folder()
    else:
        write_configuration()
    with template_database() as url:
        is_complete = run_mutmut(patterns, url)
    if not is_complete:
        print((FOLDER / "run.log").read_text("utf-8", "replace")[-4000:])
        return 1
    killed_file = given.killed.absolute() if given.killed else None
    os.chdir(FOLDER)
    tried = [result for result in results() if any(fnmatchcase(result[1], name) for name in patterns or "*")]
    mutants = {
        name: Mutant(function_of(name), change_of(get_diff_for_mutant(name, path=path))) for path, name, _ in tried
    }
    killed = {mutants[name] for _, name, status in tried if status in _KILLED}
    survivors = {mutants[name] for _, name, status in tried if status not in _KILLED}
    functions = {mutant.function for mutant in mutants.values()}
    listed = read_equivalent(EQUIVALENT)
    equivalent = [mutant for mutant in listed if mutant.function in functions] if patterns else [*listed]
    found = faults(survivors, equivalent) + (lost(killed_file, killed, survivors) if killed_file else [])
    print("\n".join(found))
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(Counter(m[2] for m in tried).items()))
    seconds = time.monotonic() - start
    print(f"{len(tried)} mutants in {seconds:.0f} s: {statuses}; {len(listed)} listed as equivalent")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
