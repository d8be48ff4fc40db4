"""D: the hot path's statements alone, by pgbench."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg2

from app.domain.policy import OPEN_PROGRAM
from app.storage.database import Database
from app.storage.statements import PREPARED
from bench import children
from bench.cards import HARDWARE, CardTable
from bench.errors import BenchError
from tests.support.sample_year import COUNTED, SCATTERED
from trial.binaries import program
from trial.ports import LOOPBACK

_GRACE_SECONDS = 30
_TRANSACTIONS = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)
_FAILED = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)
_RATE = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)

# As the app does it: PREPARE once a connection, then EXECUTE as plain text. pgbench has no hook for a new
# connection, but variables of each client's own, so the first script of each client prepares. pgbench knows
# numbers only; the hash of the hardware, which the app computes in Python, is therefore made by the server
# (about a microsecond).
_SCRIPT = r"""
\if :unprepared
{prepare}
\set unprepared 0
\endif
\set i random(0, {last})
\set a {scattered}
\set b {counted}
EXECUTE touch(ARRAY[':a:b'], ARRAY[{sha256}], ARRAY['{ip}'], ARRAY['{function}'], ARRAY[1], '{day}', now());
"""


def script(table: CardTable) -> str:
    """Return a pgbench script that verifies one card at random, with the very statements of the app."""
    database = Database(table.url)
    with psycopg2.connect(table.url) as connection, connection.cursor() as cursor:
        prepare = []
        for name, statement in PREPARED.items():
            sql, literals = database.get_sql_context().sql(statement()).query()
            prepare.append(cursor.mogrify(f"PREPARE {name} AS {sql};", literals).decode())
    connection.close()
    return _SCRIPT.format(
        prepare="\n".join(prepare),
        last=table.cards - 1,
        scattered=SCATTERED.format(i=":i"),
        counted=COUNTED.format(i=":i"),
        sha256=f"encode(sha256('{HARDWARE}:i'), 'hex')",
        ip=LOOPBACK,
        function=OPEN_PROGRAM,
        day=table.day.isoformat(),
    )


def run(binaries: Path, table: CardTable, *, connections: int, seconds: int) -> float:
    """Return how many verifications a second the database does when nobody else takes part.

    Raises:
        BenchError: a transaction failed, or a touch missed its row.
    """
    before = table.accepted()
    command = [str(program(binaries, "pgbench")), "--no-vacuum", "--file", "-", "--protocol", "simple"]
    command += ["--define", "unprepared=1", "--client", str(connections), "--time", str(seconds)]
    printed = children.run(
        command, environ=_environment(table.url), seconds=seconds + _GRACE_SECONDS, text=script(table)
    )
    found = [pattern.search(printed) for pattern in (_TRANSACTIONS, _FAILED, _RATE)]
    if not all(found):
        raise BenchError(f"pgbench printed something new: {printed.strip()[-200:]!r}")
    transactions, failed, rate = (float(match[1]) for match in found if match)
    counted = table.accepted() - before
    if failed or counted < transactions:  # more: the last wrk left some under way
        raise BenchError(f"pgbench: of {transactions:.0f} transactions {failed:.0f} failed and {counted} were counted")
    return rate


def _environment(url: str) -> dict[str, str]:
    # Not on the command line, which everybody can read.
    parts = urlsplit(url)
    return {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C",
        "PGHOST": str(parts.hostname),
        "PGPORT": str(parts.port),
        "PGUSER": unquote(parts.username or ""),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": unquote(parts.path.lstrip("/")),
    }
