"""The journal: limits on what strangers can write, pruning, and `events --follow`, which shows every entry once."""
# Owns journal-bounds, journal-pruning, journal-follow.

import contextlib
import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import psycopg2
import pytest

from app.domain.codes import Code, EventKind
from app.domain.errors import DatabaseUnavailableError
from app.domain.licence.policy import VerificationRequest
from app.services.cards.issuing import Issuing
from app.services.journal import journal_lists
from app.services.journal.journal_follow import REST_SECONDS, Follower
from app.services.journal.journal_lists import JournalFilter
from app.services.licence.licence import LicenceService, Verdict, Verification
from app.services.system import periodic
from app.storage import journal
from app.storage.database import Database, connect_to
from app.storage.journal import Entry
from app.storage.models import Card, DailyCount, Event
from tests.conftest import Clock
from tests.support.licence.bound_cards import ask, claims
from tests.support.services.service import Service, wait_for
from trial.postgres import EmbeddedPostgres

DAY = date(2026, 3, 1)
KEEP = timedelta(days=365)
pytestmark = pytest.mark.apart  # services prune the journal, too


def test_an_addresss_refusals_are_journalled_to_a_limit(verification: Verification, card_id: str, clock: Clock) -> None:
    verification.licences.database.close()  # this process's tests may have opened it
    for number in range(30):
        ask(verification, "0" * 32, address=f"2001:db8::{number:x}")  # one network
    assert Event.select().where(Event.code == Code.CARD_NOT_FOUND).count() == 20
    assert verification.licences.database.is_closed(), "the connection of a refusal was given back"
    assert {event.ip_network for event in Event.select().where(Event.code == Code.CARD_NOT_FOUND)} == {"2001:db8::/64"}
    ask(verification, "0" * 32, address="203.0.113.6")
    clock.advance(timedelta(minutes=1))
    ask(verification, "0" * 32, address="2001:db8::1")
    assert Event.select().where(Event.code == Code.CARD_NOT_FOUND).count() == 22
    assert not DailyCount.select().exists()


def test_a_card_has_50_places_a_day(verification: Verification, issuing: Issuing, card_id: str, clock: Clock) -> None:
    ask(verification, card_id)
    rival = issuing.issue(1, None).cards[0].id
    for number in range(60):
        ask(verification, card_id, hardware=f"machine {number}")
        ask(verification, card_id, hardware=f"machine {number}", address=f"203.0.113.{number}")
        ask(verification, card_id, hardware="h9", address="192.0.2.9")
        ask(verification, rival, hardware=f"machine {number}", address="192.0.2.9")
        ask(verification, card_id, hardware=f"machine {number}")
    mine = (("hardware_changed", 60), ("address_changed", 120), ("CLIENT_MISMATCH", 60))
    counted = sorted((row.card_id, row.kind, row.count) for row in DailyCount.select())
    assert counted == sorted([*((card_id, *each) for each in mine), (rival, "CLIENT_HAS_ANOTHER_CARD", 60)])
    entries = Counter((event.card_id, event.code or event.kind) for event in Event.select())
    assert entries[card_id, "environment_changed"] == 100
    assert entries[card_id, "CLIENT_MISMATCH"] == 1
    assert entries[rival, "CLIENT_HAS_ANOTHER_CARD"] == 50
    clock.advance(timedelta(days=1))
    ask(verification, card_id, hardware="h9", address="192.0.2.9")
    assert Event.select().where(Event.code == Code.CLIENT_MISMATCH).count() == 2
    assert DailyCount.select().count() == 5


def test_repeats_share_one_reference(verification: Verification, card_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(verification, card_id)

    def refused(hardware: str, address: str) -> Verdict:
        return ask(verification, card_id, hardware=hardware, address=address)

    first, other, again = refused("h9", "192.0.2.9"), refused("h8", "192.0.2.9"), refused("h9", "192.0.2.9")
    assert first.reference == again.reference != other.reference
    assert claims(first)["jti"] != claims(again)["jti"]
    assert str(claims(again)["jti"]).endswith(first.reference)
    nearby = refused("h9", "192.0.2.8")
    assert nearby.reference != first.reference == refused("h9", "192.0.2.9").reference
    monkeypatch.setattr(journal, "MAX_ENTRIES_PER_DAY", 3)
    written = [first.reference, other.reference, nearby.reference]
    assert refused("h7", "192.0.2.9").reference not in written
    mismatches = Event.select().where(Event.code == Code.CLIENT_MISMATCH).order_by(Event.id)
    assert [event.reference for event in mismatches] == written


def test_beyond_the_first_of_a_day_a_rejection_has_the_reference_of_one_alike(
    licences: LicenceService, card_id: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MAX_ENTRIES_PER_DAY", 3)

    def refused(code: Code, hardware: str, function: str) -> str:
        clock.advance(timedelta(minutes=1))
        fields = (card_id, hardware, function, "n" * 22, "198.51.100.1")
        evaluation = licences.evaluate(VerificationRequest.from_fields(*fields))
        return (licences.reject(evaluation, code) if evaluation.decision.accepted else evaluation).reference

    machine = "机" * 65
    for code in (Code.FUNCTION_FAILED, Code.CARD_FROZEN):
        if code is Code.CARD_FROZEN:
            Card.update(frozen_at=clock.now).where(Card.id == card_id).execute()
        first, *others = (refused(code, *what) for what in ((machine, "f"), (machine, "g"), (f"{machine}2", "f")))
        assert refused(code, machine, "f") == first, code
        assert refused(code, "new", "f") not in {first, *others}, code
        assert Event.select().where(Event.code == code).count() == 3, code


def test_refusals_keep_hardware_short(verification: Verification, issuing: Issuing, card_id: str, clock: Clock) -> None:
    hardware = "机" * 1024
    ask(verification, "0" * 32, hardware=hardware)
    ask(verification, card_id)
    ask(verification, card_id, hardware=hardware, address="192.0.2.9")
    clock.advance(timedelta(days=31))
    ask(verification, card_id, hardware=hardware)
    short, digest = hardware[:64], {"hardware_sha256": sha256(hardware.encode()).hexdigest()}
    assert len(journal_lists.page(JournalFilter(hardware=hardware)).rows) == 3
    kept = {event.code: (event.hardware, event.details) for event in Event.select().where(Event.kind == "rejected")}
    assert kept.pop("CLIENT_MISMATCH")[0] == hardware
    assert kept == {"CARD_NOT_FOUND": (short, digest), "CARD_EXPIRED": (short, digest)}


def test_the_newest_refusals_are_kept(database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "STOCK", 3)

    def refused(code: Code | EventKind, minutes: int) -> journal.Entry:
        kind, code = (code, None) if isinstance(code, EventKind) else (EventKind.REJECTED, code)
        return Entry(clock.now + timedelta(minutes=minutes), kind, code)

    others = [refused(code, 0) for code in (Code.CLIENT_MISMATCH, Code.CARD_FROZEN)]
    journal.append([*others, *(refused(journal.STRANGERS[number], number) for number in range(3))])
    assert periodic.prune_journal(KEEP, clock.now) == 0
    journal.append([refused(EventKind.LOGIN_REFUSED, number) for number in (3, 4)])
    assert periodic.prune_journal(KEEP, clock.now) == 2
    codes = [event.code for event in Event.select().order_by(Event.at, Event.id)]
    assert codes == ["CLIENT_MISMATCH", "CARD_FROZEN", None, None, None]


def test_only_what_clients_write_is_pruned_before_the_time_and_in_batches(
    verification: Verification, card_id: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(verification, card_id)
    ask(verification, card_id, hardware="h2")
    ask(verification, "0" * 32)
    download = Entry(at=clock.now, kind=EventKind.FILE_DOWNLOADED, card_id=card_id)
    journal.append([download, replace(download, kind=EventKind.FILE_ADDED)])
    clock.advance(timedelta(days=300))
    ask(verification, "0" * 32)
    journal.append([replace(download, at=clock.now)])
    DailyCount.create(card_id=card_id, day=clock.now.date(), kind=Code.CLIENT_MISMATCH, count=1, last_at=clock.now)
    assert periodic.prune_journal(KEEP, clock.now) == 0
    clock.advance(timedelta(days=100))
    assert periodic.prune_journal(KEEP, clock.now) == 4
    assert DailyCount.select().count() == 1
    left = [event.kind for event in Event.select().order_by(Event.id)]
    assert left == ["issued", "activated", "file_added", "rejected", "file_downloaded"]
    monkeypatch.setattr(journal, "PRUNE_BATCH", 2)
    long_ago = clock.now - timedelta(days=500)
    journal.append([replace(download, at=long_ago)] * 3)
    assert journal.prune(long_ago) == 0
    assert [journal.prune(long_ago + timedelta(microseconds=1)) for _ in range(3)] == [2, 1, 0]


def test_an_ipv6_site_has_a_wider_limit_for_all_its_networks(database: Database, clock: Clock) -> None:
    def is_written(address: str) -> bool:
        entry = Entry(clock.now, EventKind.REJECTED, Code.CARD_NOT_FOUND, ip=address)
        return journal.append_rejection(entry, DAY)

    limit = journal.MAX_REFUSALS_PER_MINUTE_OF_SITE
    assert all(is_written(f"2001:db8:1:{number:x}::1") for number in range(limit))
    others = ["2001:db8:1:ffff::1", "2001:db8:2::1", "198.51.100.1"]
    assert [is_written(address) for address in others] == [False, True, True]
    clock.advance(timedelta(minutes=1))
    assert is_written("2001:db8:1:ffff::1")


def test_refused_log_ins_of_an_address_end_at_the_limit_and_hide_no_refusals(database: Database, clock: Clock) -> None:
    refused = Entry(clock.now, EventKind.LOGIN_REFUSED, ip="203.0.113.5")
    assert [journal.append_refused_log_in(refused) for _ in range(22)] == [True] * 20 + [False] * 2
    assert Event.select().count() == 20
    assert not journal.has_too_many_refusals("203.0.113.5", clock.now)
    journal.append([Entry(clock.now, EventKind.REJECTED, Code.CARD_NOT_FOUND, ip="203.0.113.5")] * 20)
    assert journal.has_too_many_refusals("203.0.113.5", clock.now)
    assert not journal.has_too_many_refusals("203.0.113.6", clock.now)


def test_a_machine_is_found_by_the_first_entry_of_its_reference_that_names_it(database: Database, clock: Clock) -> None:
    for name, text in (("R2", "other"), ("R1", None), ("R1", "first"), ("R1", "second")):
        journal.append([Entry(clock.now, EventKind.REJECTED, Code.CARD_FROZEN, "A" * 32, name, hardware=text)])
    assert journal.hardware_sha256_of("R1") == sha256(b"first").hexdigest()
    assert journal.hardware_sha256_of("R3") is None


INSERT = "INSERT INTO event (at, kind, actor) VALUES (now(), 'frozen', %s)"
CONTROL = "\x1b[31m\u202e"


@pytest.fixture
def writer(database_url: str) -> Iterator[Callable[[], Any]]:
    """Makes connections of their own, each in a transaction from its first statement on."""
    with contextlib.ExitStack() as opened:
        yield lambda: opened.enter_context(contextlib.closing(psycopg2.connect(database_url)))


def write(connection: Any, name: str) -> None:
    connection.cursor().execute(INSERT, (name,))


def append(*names: str) -> None:
    journal.append([Entry(at=datetime.now(UTC), kind=EventKind.FROZEN, actor=name) for name in names])


def actors(events: list[Any]) -> list[str]:
    return [event.actor for event in events]


class FakeMonotonic:
    """Stands still until `now` is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_following_begins_with_the_last_entries_or_at_a_time_and_shows_what_is_wanted(database: Database) -> None:
    append("a", "b", "c")
    follower = Follower(database, JournalFilter())
    assert actors(follower.begin(2)) == ["b", "c"]
    assert follower.look() == []
    append("d", "e")
    assert actors(follower.look()) == ["d", "e"]
    assert follower.look() == []
    since = datetime.now(UTC) - timedelta(hours=1)
    assert len(Follower(database, JournalFilter(since=since)).begin(None)) == 5
    journal.append([Entry(at=datetime.now(UTC), kind=EventKind.ISSUED, actor="issued")])
    issues = Follower(database, JournalFilter(kind=EventKind.ISSUED))
    assert actors(issues.begin(10)) == ["issued"]
    append("f")
    assert issues.look() == []


def test_entries_that_commit_late_are_shown_then_and_once(database: Database, writer: Callable[[], Any]) -> None:
    before, importing, failing, time = writer(), writer(), writer(), FakeMonotonic()
    write(before, "before")
    write(failing, "never")
    follower = Follower(database, JournalFilter(), time)
    assert follower.begin(10) == []
    for n in range(10):
        write(importing, f"import {n}")
        append(f"sale {n}")
        assert actors(follower.look()) == [f"sale {n}"], "others are shown while it goes on"
        time.now += REST_SECONDS
    failing.rollback()
    for connection, late in ((before, ["before"]), (importing, [f"import {n}" for n in range(10)])):
        connection.commit()
        assert actors(follower.look()) == late
        for _ in range(4):
            time.now += REST_SECONDS
            assert follower.look() == []
    assert len(follower._seen) < 5, "of what is settled nothing is remembered"  # noqa: SLF001  # it is memory


def test_an_entry_whose_transaction_was_numbered_late_is_shown(database: Database, writer: Callable[[], Any]) -> None:
    append("before")  # the sequence itself gives its transaction a number now and then, at its first use for one
    stalled = writer()
    follower = Follower(database, JournalFilter(), FakeMonotonic())
    follower.begin(10)
    cursor = stalled.cursor()
    cursor.execute("SELECT nextval(pg_get_serial_sequence('event', 'id'))")
    (event_id,) = cursor.fetchone()
    for n in range(5):
        append(str(n))
        assert actors(follower.look()) == [str(n)]
    late = "INSERT INTO event (id, at, kind, actor) OVERRIDING SYSTEM VALUE VALUES (%s, now(), 'frozen', 'late')"
    cursor.execute(late, (event_id,))
    for _ in range(5):
        assert follower.look() == []
    stalled.commit()
    assert actors(follower.look()) == ["late"]
    assert follower.look() == []


class Following:
    """`cardctl events --follow` as a process, its output taken line by line."""

    def __init__(self, service: Service, *arguments: str, **options: Any) -> None:
        self.out, self.err = service.folder / "out", service.folder / "err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            options = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, **options}
            self.process = service.spawn_cardctl("events", "--follow", *arguments, **options)

    def wait_for(self, count: int) -> list[str]:
        wait_for(lambda: len(self.out.read_text().splitlines()) >= count or self.process.poll())
        return self.out.read_text().splitlines()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def test_for_people_an_entry_is_an_escaped_line_and_following_can_end_with_standard_input(offline: Service) -> None:
    append(CONTROL)
    with Following(offline, "--since", "1h", "--until-input-ends", stdin=subprocess.PIPE) as following:
        (line,) = following.wait_for(1)
        assert ("frozen" in line, "\\x1b[31m\\u202e" in line) == (True, True)
        following.process.stdin.write(b"typed\n")
        following.process.stdin.flush()
        append("b")
        following.wait_for(2)
        following.process.stdin.close()
        assert following.process.wait(60) == 0


def test_following_survives_a_restart_of_the_database(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    own = connect_to(Database(own_postgres.url(), bulk=True))

    def appended(actor: str) -> bool:
        try:
            own.with_connection(lambda: append(actor))
        except DatabaseUnavailableError:
            return False
        return True

    assert appended(CONTROL)
    with Following(Service(tmp_path, own_postgres.url()), "--format", "json") as following:
        following.wait_for(1)
        own_postgres.stop()
        wait_for(lambda: "数据库不可用" in following.err.read_text())
        own_postgres.start()
        own.close()
        wait_for(lambda: appended("after"))  # another thread of the tests may have found it away a moment ago
        assert [json.loads(line)["actor"] for line in following.wait_for(2)] == [CONTROL, "after"]
        assert "\x1b" not in following.out.read_text()
        following.process.send_signal(signal.SIGINT)
        assert following.process.wait(60) == 0
    own.close()
    away, back = following.err.read_text().splitlines()
    assert ("数据库不可用" in away, "数据库已恢复" in back) == (True, True)
