"""The journal: limits on what strangers can write, and pruning."""
# Owns journal-bounds, journal-pruning.

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from hashlib import sha256

import pytest

from app.domain.codes import Code, Counted, EventKind
from app.domain.licence.policy import VerificationRequest
from app.services.cards.issuing import Issuing
from app.services.journal import journal_lists
from app.services.journal.journal_lists import JournalFilter
from app.services.licence.licence import LicenceService, Verdict, Verification
from app.services.system import periodic
from app.storage import journal
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.models import Card, DailyCount, Event
from tests.conftest import Clock
from tests.support.licence.asking import ask, claims

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


def test_a_card_has_50_places_a_day_of_each_kind(
    verification: Verification, issuing: Issuing, card_id: str, clock: Clock
) -> None:
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


def test_a_repeated_rejection_has_the_reference_of_the_entry_that_it_repeats(
    verification: Verification, card_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_refusals_keep_a_digest_of_hardware(
    verification: Verification, issuing: Issuing, card_id: str, clock: Clock
) -> None:
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
    DailyCount.create(card_id=card_id, day=clock.now.date(), kind=Counted.CLIENT_MISMATCH, count=1, last_at=clock.now)
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
