"""Export the trial's state for the real stack: python -m trial.carry FOLDER, which scripts/import.sh --trial runs.

The trial's PostgreSQL may be newer than the stack's, and an older one reads no newer dump. What travels is therefore
plain SQL with rows alone; the stack makes the tables by its own migrations.
"""

import shutil
import sys
from pathlib import Path

from psycopg2.extensions import parse_dsn

from trial.__main__ import prepare
from trial.environment import CHECKOUT, Trial, with_trial
from trial.postgres import DATABASE, PROGRAM_ENVIRONMENT, EmbeddedPostgres, install_binaries, program
from trial.programs import TrialError, run

_FOLDERS = ("keys", "files", "functions")  # in the trial's folder as in the stack's data/
_DUMP = ("--data-only", "--no-owner", "--no-privileges", "--exclude-table=schema_*", "--exclude-table=host")
_CONTENTS = ("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1")
_CONTENTS_SQL = CHECKOUT / "scripts" / "lib" / "contents.sql"


def main(trial: Trial) -> int:
    """Fill the folder that the argument names, and print the trial's."""
    target = Path(sys.argv[1])
    if not (trial.cluster.is_dir() and trial.kernal_data_key_file.is_file()):
        raise TrialError(
            f"{trial.data_dir} 中没有试用数据：请写明其目录。",
            f"There is no trial in {trial.data_dir}: name its folder after --trial.",
        )
    trial.hold()
    install_binaries(trial.binaries)
    with EmbeddedPostgres(trial.binaries, trial.cluster, log=trial.logs / "postgresql.log") as postgres:
        prepare(trial, postgres.url())
        # Not in the arguments, where the machine's other users would see the password.
        server = {f"PG{name.upper()}": value for name, value in parse_dsn(postgres.url()).items()}
        environ = PROGRAM_ENVIRONMENT | server | {"PGDATABASE": DATABASE}
        failure = ("无法读出试用数据。", "Could not read the trial's database.")
        pg_dump, psql = (str(program(trial.binaries, name)) for name in ("pg_dump", "psql"))
        run([pg_dump, *_DUMP, f"--file={target / 'database.sql'}"], failure, env=environ)
        run([psql, *_CONTENTS, f"--file={_CONTENTS_SQL}", f"--output={target / 'contents'}"], failure, env=environ)
    (target / "secrets").mkdir()
    for file in (trial.kernal_data_key_file, trial.sealing_key_file):
        shutil.copyfile(file, target / "secrets" / file.name)
    for name in _FOLDERS:
        if (trial.data_dir / name).is_dir():
            shutil.copytree(trial.data_dir / name, target / "data" / name, ignore=shutil.ignore_patterns(".*"))
    print(trial.data_dir)
    return 0


if __name__ == "__main__":
    sys.exit(with_trial("import.sh", main))
