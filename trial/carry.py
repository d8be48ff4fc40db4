"""Export the trial's state for the real stack: python -m trial.carry FOLDER, which scripts/import.sh --trial runs.

The trial's PostgreSQL may be newer than the stack's, and an older one reads no newer dump. What travels is therefore
plain SQL with rows alone; the stack makes the tables by its own migrations.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from psycopg2.extensions import parse_dsn

from trial import binaries
from trial.__main__ import migrate
from trial.environment import CHECKOUT, Trial, write_secret
from trial.messages import TrialError, fail, tail
from trial.postgres import PROGRAM_ENVIRONMENT, EmbeddedPostgres

_FOLDERS = ("keys", "files", "functions")  # in the trial's folder as in the stack's data/
_DUMP = (
    *("pg_dump", "--data-only", "--no-owner", "--no-privileges"),
    *("--exclude-table=schema_*", "--exclude-table=host"),
)
_CONTENTS = ("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1")
_CONTENTS_SQL = CHECKOUT / "scripts" / "lib" / "contents.sql"


def main() -> int:
    """Fill the folder that the argument names, and print the trial's; return the exit status."""
    try:
        trial = Trial.from_environ(os.environ)
        _carry(trial, Path(sys.argv[1]))
    except TrialError as error:
        return fail("import.sh", error)
    print(trial.data_dir)
    return 0


def _carry(trial: Trial, target: Path) -> None:
    if not (trial.cluster.is_dir() and trial.kernal_data_key_file.is_file()):
        raise TrialError(
            f"{trial.data_dir} 中没有试用数据：请写明其目录。",
            f"There is no trial in {trial.data_dir}: name its folder after --trial.",
        )
    trial.logs.mkdir(mode=0o700, exist_ok=True)
    with trial.hold():
        binaries.install_binaries(trial.binaries)
        with EmbeddedPostgres(trial.binaries, trial.cluster, log=trial.logs / "postgresql.log") as postgres:
            write_secret(trial.database_url_file, postgres.url())
            trial.make_sealing_key()
            migrate(trial.service_environment(os.environ))
            _write_database(trial, postgres.url(), target)
        _copy_files(trial, target)


def _write_database(trial: Trial, url: str, target: Path) -> None:
    dsn = parse_dsn(url)
    environ = PROGRAM_ENVIRONMENT | {
        "PGHOST": dsn["host"],
        "PGPORT": dsn["port"],
        "PGUSER": dsn["user"],
        "PGPASSWORD": dsn["password"],
        "PGDATABASE": dsn["dbname"],
    }
    for command, name in ((_DUMP, "database.sql"), ((*_CONTENTS, f"--file={_CONTENTS_SQL}"), "contents")):
        _run(trial, command, environ, target / name)


def _run(trial: Trial, command: tuple[str, ...], environ: Mapping[str, str], output: Path) -> None:
    program = str(binaries.program(trial.binaries, command[0]))
    with output.open("wb") as file:
        done = subprocess.run(
            [program, *command[1:]],
            check=False,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    if done.returncode:
        raise TrialError("无法读出试用数据。", "Could not read the trial's database.", detail=tail(done.stderr))


def _copy_files(trial: Trial, target: Path) -> None:
    """Copy what is not in the database: the signing keys, secrets, files and functions."""
    (target / "secrets").mkdir()
    shutil.copyfile(trial.kernal_data_key_file, target / "secrets" / "kernal_data_key")
    shutil.copyfile(trial.sealing_key_file, target / "secrets" / "sealing_key")
    for name in _FOLDERS:
        if (trial.data_dir / name).is_dir():
            shutil.copytree(trial.data_dir / name, target / "data" / name, ignore=shutil.ignore_patterns(".*"))


if __name__ == "__main__":
    sys.exit(main())
