"""The journal's seals: what is sealed when, and that every change of a sealed entry shows."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import peewee
import pytest
from playhouse.migrations import Runner

from app.domain.codes import Code, EventKind
from app.services import connection, housekeeping
from app.services.journal_seals import JournalSeals
from app.storage import inspection, journal, journal_seals, schema
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.models import Event, JournalSeal
from app.tokens.key_folder import KeyFolder
from app.tokens.signer import Signer
from tests.conftest import START, Clock
from tests.support.doctor_results import results
from tests.support.service import Service, question, wait_for
from trial.postgres import EmbeddedPostgres

KEEP = timedelta(days=365)
ISSUED = Entry(START, EventKind.ISSUED, actor="tests", details={"count": 1, "batch": "春"})
REJECTED = Entry(START, EventKind.REJECTED, Code.CLIENT_MISMATCH, "0" * 32, "ABCDEFGH", "2001:db8::1", None, "h", "f")


@pytest.fixture
def database_url(apart_url: str) -> str:
    """No other test's service, which seals the journal, too, sees these entries."""
    return apart_url


def as_owner(database: Database, sql: str, *values: int) -> None:
    """Do what only somebody who owns the tables can do: go round the triggers."""
    database.execute_sql("SET session_replication_role = replica")
    try:
        database.execute_sql(sql, values)
    finally:
        database.execute_sql("SET session_replication_role = DEFAULT")


@pytest.fixture
def sealed(seals: JournalSeals) -> list[int]:
    """Six entries under three seals; their IDs."""
    for _ in range(3):
        journal.append([ISSUED, REJECTED])
        assert seals.seal() == 2
    return [event.id for event in Event.select().order_by(Event.id)]


def test_a_whole_journal_verifies(seals: JournalSeals, sealed: list[int]) -> None:
    journal.append([ISSUED])
    found = seals.verify()
    assert (found.seals, found.entries, found.pruned, found.unsealed, found.fault) == (3, 6, 0, 1, None)
    assert seals.seal() == 1
    assert seals.seal() == 0
    assert seals.verify().entries == 7
    assert JournalSeal.select().count() == 4


def test_an_empty_journal_verifies(seals: JournalSeals) -> None:
    assert seals.seal() == 0
    assert seals.verify().fault is None


def test_many_entries_are_sealed_in_parts(seals: JournalSeals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.journal_seals.MAX_ENTRIES", 3)
    journal.append([ISSUED] * 8)
    assert seals.seal() == 8
    found = seals.verify()
    assert (found.seals, found.entries, found.fault) == (3, 8, None)


COLUMNS = {
    "at": "at + interval '1 microsecond'",
    "kind": "'imported'",
    "actor": "'somebody else'",
    "details": '\'{"count": 2, "batch": "春"}\'',
    "card_id": "'1'",
    "reference": "'R'",
    "ip": "'192.0.2.1'",
    "ip_network": "'192.0.2.1'",
    "claimed_ip": "'192.0.2.1'",
    "hardware": "'other'",
    "function": "'other'",
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_changed_entry_is_named(seals: JournalSeals, sealed: list[int], database: Database, column: str) -> None:
    as_owner(database, f"UPDATE event SET {column} = {COLUMNS[column]} WHERE id = %s", sealed[2])  # noqa: S608
    found = seals.verify()
    assert str(found.fault) == f"日志条目 {sealed[2]} 被修改 / entry {sealed[2]} was changed"
    assert (found.seals, found.entries) == (1, 2)


def test_a_changed_code_is_named(seals: JournalSeals, sealed: list[int], database: Database) -> None:
    as_owner(database, "UPDATE event SET code = 'CARD_FROZEN' WHERE id = %s", sealed[1])
    assert "was changed" in str(seals.verify().fault)


def test_a_removed_entry_is_named_even_if_its_kind_is_pruned(
    seals: JournalSeals, sealed: list[int], database: Database
) -> None:
    for place, event in ((5, sealed[5]), (0, sealed[0])):
        as_owner(database, "DELETE FROM event WHERE id = %s", event)
        assert str(seals.verify().fault).endswith(f"entry {event} was removed"), place


def test_an_inserted_entry_is_named(seals: JournalSeals, sealed: list[int], database: Database) -> None:
    free = sealed[-1] + 1
    database.execute_sql("SELECT nextval(pg_get_serial_sequence('event', 'id'))")  # by a transaction that was undone
    journal.append([ISSUED])
    seals.seal()
    assert seals.verify().fault is None
    as_owner(database, "INSERT INTO event (id, at, kind) VALUES (%s, now(), 'issued')", free)
    assert str(seals.verify().fault).endswith(f"entry {free} was inserted")


FORGED = "INSERT INTO event (id, at, kind) OVERRIDING SYSTEM VALUE VALUES (%s, now(), 'issued')"


@pytest.mark.parametrize("number", [0, -5, -(1 << 63)])
def test_an_entry_below_the_first_is_refused(database: Database, number: int) -> None:
    with pytest.raises(peewee.IntegrityError, match="event_id"):
        database.execute_sql(FORGED, (number,))


@pytest.mark.parametrize("number", [0, -5, -(1 << 63)])
def test_an_entry_below_the_first_is_named(
    seals: JournalSeals, sealed: list[int], database: Database, number: int
) -> None:
    with database.atomic() as transaction:
        database.execute_sql("ALTER TABLE event DROP CONSTRAINT event_id")
        database.execute_sql(FORGED, (number,))
        assert str(seals.verify().fault).endswith(f"entry {number} was inserted")
        transaction.rollback()


def test_an_older_release_with_a_forged_entry_is_upgraded(postgres: EmbeddedPostgres) -> None:
    postgres.create_database("before_bounds")
    database = Database(postgres.url("before_bounds"), bulk=True)
    Runner(database, "app/storage/migrations", "schema_migration").up("0007_ceilings")
    database.execute_sql(FORGED, (-5,))
    schema.migrate(database, lambda _line: None)
    assert database.execute_sql("SELECT id FROM event").fetchall() == [(-5,)]
    database.close()


def test_entries_that_changed_places_are_named(seals: JournalSeals, sealed: list[int], database: Database) -> None:
    first, second = sealed[0], sealed[1]
    for old, new in ((first, 1 << 40), (second, first), (1 << 40, second)):
        as_owner(database, "UPDATE event SET id = %s WHERE id = %s", new, old)
    assert str(seals.verify().fault).endswith(f"entry {first} was changed")


SEALS: dict[str, tuple[str, str]] = {
    "changed digests": ("UPDATE journal_seal SET digests = digests || digests WHERE number = 2", "seal 2 is not valid"),
    "removed": ("DELETE FROM journal_seal WHERE number = 2", "seal 3 is not valid"),
    "a forged token": ("UPDATE journal_seal SET token = token || 'A' WHERE number = 1", "seal 1 is not valid"),
    "another's token": (
        "UPDATE journal_seal SET token = (SELECT token FROM journal_seal WHERE number = 1) WHERE number = 2",
        "seal 2 is not valid",
    ),
    "another end": ("UPDATE journal_seal SET last_event = 0 WHERE number = 1", "seal 1 is not valid"),
}


@pytest.mark.parametrize("way", SEALS)
def test_a_changed_seal_is_named(seals: JournalSeals, sealed: list[int], database: Database, way: str) -> None:
    sql, says = SEALS[way]
    as_owner(database, sql)
    assert says in str(seals.verify().fault)


def test_a_chain_that_lost_its_end_shows_against_an_earlier_look(
    seals: JournalSeals, sealed: list[int], database: Database
) -> None:
    before = seals.verify().last_seal
    as_owner(database, "DELETE FROM journal_seal WHERE number = 3")
    found = seals.verify()
    assert (found.fault, found.unsealed) == (None, 2)
    assert found.last_seal != before


def test_the_seals_of_a_retired_key_stay_good_and_those_of_another_server_are_not(
    seals: JournalSeals, sealed: list[int], clock: Clock, tmp_path: Path, database: Database
) -> None:
    KeyFolder(tmp_path / "keys").rotate(clock.now, "kadun")
    rotated = replace(seals, signer=Signer(KeyFolder(tmp_path / "keys")))
    journal.append([ISSUED])
    assert rotated.seal() == 1
    assert rotated.verify().fault is None
    KeyFolder(tmp_path / "other").create(clock.now, "kadun")
    other = replace(seals, signer=Signer(KeyFolder(tmp_path / "other")))
    assert "seal 4 is not valid: none of this server's keys signed it" in str(other.verify().fault)
    journal.append([ISSUED])
    assert other.seal() == 1, "the chain goes on"


def test_the_doctors_probes_have_no_seal_and_can_be_deleted(
    seals: JournalSeals, clock: Clock, database: Database
) -> None:
    probes = [replace(REJECTED, card_id=journal.PROBE, reference=name) for name in ("AAAAAAAA", "BBBBBBBB", "CCCCCCCC")]
    for probe in probes:
        journal.append([probe, ISSUED, probe])
        assert seals.seal() == 1
        assert seals.verify().fault is None
    assert journal_seals.oldest_unsealed(clock.now, KEEP) is None
    assert inspection.take_probes(["BBBBBBBB"]) == {"BBBBBBBB": "2001:db8::1"}
    assert Event.select().count() == 7
    assert (seals.verify().fault, seals.verify().entries) == (None, 3)
    sealed = Event.get(Event.kind == EventKind.ISSUED).id
    code = f"code = '{Code.CARD_NOT_FOUND}', card_id = '{journal.PROBE}'"
    as_owner(database, f"UPDATE event SET kind = 'rejected', {code} WHERE id = %s", sealed)  # noqa: S608
    assert f"entry {sealed} was changed" in str(seals.verify().fault)


def test_what_was_pruned_may_be_missing_and_nothing_else(
    seals: JournalSeals, sealed: list[int], clock: Clock, database: Database
) -> None:
    clock.advance(KEEP + timedelta(days=1))
    assert housekeeping.prune_journal(seals, clock.now) == 0, "no seal allows it yet"
    journal.append([replace(ISSUED, at=clock.now)])
    seals.seal()
    assert housekeeping.prune_journal(seals, clock.now) == 3
    found = seals.verify()
    assert (found.entries, found.pruned, found.fault) == (4, 3, None)
    as_owner(database, "DELETE FROM event WHERE id = %s", sealed[0])
    assert str(seals.verify().fault).endswith(f"entry {sealed[0]} was removed")


def test_entries_of_transactions_that_commit_late_are_sealed_in_their_place(
    seals: JournalSeals, database: Database, database_url: str
) -> None:
    """One writer draws its ID first and commits last: sealing waits for it."""
    drawn, commit = threading.Event(), threading.Event()

    def write_slowly() -> None:
        other = Database(database_url)
        with other.connection_context(), other.atomic():
            other.execute_sql("INSERT INTO event (at, kind) VALUES (now(), 'issued')")
            drawn.set()
            commit.wait(60)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    assert drawn.wait(60)
    journal.append([ISSUED])
    counts: list[int] = []
    sealing = threading.Thread(target=lambda: counts.append(seals.seal()))
    sealing.start()
    wait_for(
        lambda: database.execute_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()[0] > 0
    )
    assert not counts
    commit.set()
    writer.join()
    sealing.join()
    assert counts == [2]
    assert seals.verify().fault is None


def test_sealing_gives_up_waiting_and_seals_nothing(
    seals: JournalSeals, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.services.journal_seals.WAIT_SECONDS", 0.0)
    journal.append([ISSUED])
    other = Database(database_url)
    with other.connection_context(), other.atomic():
        other.execute_sql("INSERT INTO event (at, kind) VALUES (now(), 'issued')")
        assert seals.seal() == 0
    assert seals.seal() == 2


@pytest.mark.parametrize(
    "sql", ["UPDATE journal_seal SET token = ''", "DELETE FROM journal_seal", "TRUNCATE journal_seal"]
)
def test_the_database_refuses_to_change_seals(
    seals: JournalSeals, sealed: list[int], database: Database, sql: str
) -> None:
    with pytest.raises(Exception, match="seals of the journal are never changed"):
        database.execute_sql(sql)


def test_the_command_checks_another_database_of_the_server(keyed: Service, postgres: EmbeddedPostgres) -> None:
    postgres.create_database("restored")
    connection.migrate(postgres.url("restored"), "here", lambda _line: None)
    keyed.issue()
    assert '"unsealed": 1' in keyed.cardctl("events", "verify", "--format", "json").stdout
    restored = keyed.cardctl("events", "verify", "--format", "json", "--database", "restored")
    assert '"unsealed": 0' in restored.stdout
    refused = keyed.cardctl("events", "verify", "--database", "missing", check=False)
    assert refused.returncode == 1
    assert '"missing" does not exist' in refused.stderr


def test_the_command_says_what_it_found(own_service: Service, database: Database) -> None:
    (card_id,) = own_service.issue()
    assert own_service.verify(question(card_id)).status == 200
    own_service.stop()  # or it might seal them first
    assert "Sealed 2 entries" in own_service.cardctl("events", "seal").stderr
    assert '"entries": 2' in own_service.cardctl("events", "verify", "--format", "json").stdout
    as_owner(database, "UPDATE event SET actor = 'nobody' WHERE kind = 'issued'")
    refused = own_service.cardctl("events", "verify", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "was changed" in refused.stderr


MINUTE = timedelta(minutes=1)


@contextmanager
def sealing_held(database_url: str) -> Iterator[None]:
    """Hold the lock of sealing, as anybody can who may log in to the database."""
    other = Database(database_url)
    with other.connection_context():
        other.execute_sql("SELECT pg_advisory_lock(%s)", (0x7365616C,))
        yield
        other.execute_sql("SELECT pg_advisory_unlock(%s)", (0x7365616C,))  # a closed connection lets go a moment later


def test_entries_that_stay_unsealed_are_told(seals: JournalSeals, clock: Clock, database_url: str) -> None:
    assert seals.overdue_since() is None
    journal.append([ISSUED])
    clock.advance(10 * MINUTE)
    assert seals.overdue_since() is None
    clock.advance(MINUTE)
    assert seals.overdue_since() == START, "there was never a seal"
    assert seals.seal() == 1
    assert seals.overdue_since() is None
    second = clock.now
    journal.append([replace(ISSUED, at=second), replace(ISSUED, at=second + 2 * MINUTE)])
    clock.advance(11 * MINUTE)
    with sealing_held(database_url):
        assert seals.seal() == 0
        assert seals.overdue_since() == second
    assert seals.seal() == 2
    clock.advance(timedelta(days=1))
    assert seals.overdue_since() is None, "a quiet day needs no seal"


def test_neither_a_high_id_nor_a_seal_from_the_future_hides_that_sealing_has_stopped(
    seals: JournalSeals, clock: Clock, database: Database
) -> None:
    database.execute_sql(FORGED, ((1 << 63) - 2,))
    assert seals.seal() == 1
    later = clock.now + 11 * MINUTE
    journal.append([replace(ISSUED, at=later)])
    clock.advance(22 * MINUTE)
    assert seals.seal() == 0
    assert seals.overdue_since() == later
    journal_seals.insert(2, (1 << 63) - 1, b"", "forged", clock.now + timedelta(days=365))
    assert seals.overdue_since() == later


def test_sealing_that_finds_no_turn_is_logged_once(
    seals: JournalSeals, clock: Clock, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    journal.append([ISSUED])
    clock.advance(11 * MINUTE)
    late = 0
    with sealing_held(database_url):
        for turn in range(1, 6):
            late = housekeeping.seal_journal(seals, late)
            assert late == turn
    said = [record for record in caplog.records if record.message.startswith("the journal is not being sealed")]
    assert [record.__dict__["since"] for record in said] == [START.isoformat()]
    assert housekeeping.seal_journal(seals, late) == 0


def test_an_unexpected_failure_to_seal_does_not_end_the_thread(
    seals: JournalSeals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: JournalSeals) -> int:
        raise ValueError("odd")

    monkeypatch.setattr(JournalSeals, "seal", fail)
    assert housekeeping.seal_journal(seals, 2) == 2
    assert "sealing the journal failed" in caplog.text


def test_doctor_names_a_journal_that_is_not_being_sealed(keyed: Service, database: Database) -> None:
    database.execute_sql("INSERT INTO event (at, kind) VALUES (now() - interval '11 minutes', 'issued')")
    since = Event.get().at
    found = results(keyed)["journal-seals"]
    assert (found["status"], f"since {since:%Y-%m-%d %H:%M} UTC have no seal" in found["message_en"]) == ("WARN", True)
    keyed.cardctl("events", "seal")
    assert results(keyed)["journal-seals"]["status"] == "OK"
