"""What strangers, a customer and a seller can make the server store: SECURITY.md's figures, from the largest rows."""

import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from app.domain.cards import Card
from app.domain.ceilings import MAX_CHANGES_PER_DAY, OPERATOR_DEFAULTS
from app.domain.codes import Code, Counted, EventKind
from app.domain.operators import Role
from app.domain.policy import Client, Facts, VerificationRequest, decide
from app.services.evaluation import Evaluation, bound_to, rejection
from app.services.issuing import Issuing
from app.storage import journal
from app.storage.database import Database
from app.storage.journal import Entry
from tests.conftest import START
from tests.support.documents import document
from trial.postgres import EmbeddedPostgres

HOME, AWAY = "198.51.100.1", "192.0.2.1"
MB, YEAR_DAYS, ROWS = 10**6, 365, 500
RANDOM = Random(14)  # noqa: S311
_SIZE = """
SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


class Size(NamedTuple):
    """Megabytes in the database, with indexes, and in a backup."""

    database: float
    backup: float

    def times(self, factor: float) -> "Size":
        return Size(self.database * factor, self.backup * factor)


def size_of(database: Database, command: tuple[Path | str, ...]) -> tuple[int, int]:
    database.execute_sql("VACUUM")
    ((size,),) = database.execute_sql(_SIZE).fetchall()
    return int(size), len(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database of its own: no room is left in it that rows could take unseen."""
    server = Database(postgres.url("postgres"), bulk=True)
    server.execute_sql("CREATE DATABASE bounds TEMPLATE kadun")
    yield postgres.url("bounds")
    server.execute_sql("DROP DATABASE bounds WITH (FORCE)")
    server.close()


def text(length: int, first: int = 0x10000, last: int = 0x110000) -> str:
    """So many characters of four bytes each, which nothing compresses."""
    return "".join(map(chr, RANDOM.choices(range(first, last), k=length)))


def printable(length: int) -> str:
    return text(length, 0x20000, 0x2A6D0)


def refused(card_id: str, facts: Facts, code: Code) -> Entry:
    """What the service journals of a request with the longest texts."""
    more = {"claimed_ip": text(64), "public_key": "k" * 43, "version": "1." * 15 + "12"}
    request = VerificationRequest.from_fields(card_id, text(1024), text(64), "n" * 64, AWAY, **more)
    evaluation = Evaluation(request, START, f"{RANDOM.getrandbits(120):032X}", decide(facts, request, START), None)
    assert evaluation.decision.code is code
    return rejection(evaluation, code, bound_to(facts, code))


def refused_strangers() -> list[Entry]:
    return [refused(text(64), Facts(), Code.CARD_NOT_FOUND) for _ in range(ROWS)]


def rejected_customers() -> list[Entry]:
    card = Card("C" * 32, None, START, None, None)
    bound = (Facts(card, Client("c", card.id, text(1024), HOME)) for _ in range(ROWS))
    return [refused(card.id, facts, Code.CLIENT_MISMATCH) for facts in bound]


def moves() -> list[Entry]:
    """What `app.services.card_moves` journals."""
    more = {"card_id": "C" * 32, "reference": "V5GJS7T0", "ip": AWAY, "actor": f"console:{printable(32)}"}
    before = ({"hardware": text(1024), "ip": HOME} for _ in range(ROWS))
    return [Entry(START, EventKind.MOVED, hardware=text(1024), details={"before": each}, **more) for each in before]


@pytest.fixture
def measured(database: Database, database_url: str, postgres_binaries: Path, issuing: Issuing) -> dict[str, Size]:
    """What SECURITY.md has a table of."""

    def issues() -> list[Entry]:
        for _ in range(ROWS):
            issuing.issue(1, timedelta(days=30), batch=printable(200), note=printable(200))
        return []  # each has written its own

    (pg_dump,) = postgres_binaries.rglob("bin/pg_dump")
    command = (pg_dump, "--format=custom", "--dbname", database_url)

    def of_a_row(make: Callable[[], list[Entry]]) -> Size:
        before = size_of(database, command)
        journal.append(make())
        return Size(*((new - old) / ROWS / MB for new, old in zip(size_of(database, command), before, strict=True)))

    refusal, rejected, change, card = map(of_a_row, (refused_strangers, rejected_customers, moves, issues))
    of_customer = len(Counted) * journal.MAX_ENTRIES_PER_DAY
    return {
        "strangers, however many, for ever": refusal.times(journal.STOCK),
        "one customer, for each card, in a day": rejected.times(of_customer),
        "one customer, for each card, in a year": rejected.times(of_customer * YEAR_DAYS),
        "one seller, by default, in a day": card.times(OPERATOR_DEFAULTS[Role.SELLER].cards_per_day or 0),
        "one seller with 10,000 changes, in a day": change.times(MAX_CHANGES_PER_DAY),
    }


def test_what_others_can_make_the_server_store_is_what_security_says(measured: dict[str, Size]) -> None:
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([\d,]+) MB \| ([\d,]+) MB \|$", document("SECURITY.md"), re.MULTILINE)
    stated = {who: Size(*(float(number.replace(",", "")) for number in numbers)) for who, *numbers in rows}
    assert stated.keys() == measured.keys(), measured
    for who, size in measured.items():
        for real, said in zip(size, stated[who], strict=True):
            assert 0.7 * said <= real <= said, measured
