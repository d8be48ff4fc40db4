"""The journal: limits on what strangers can write, and pruning."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from app.domain.codes import Code, EventKind
from app.domain.policy import VerificationRequest
from app.services import housekeeping
from app.services.licence import LicenceService, Verdict
from app.services.verification import Verification
from app.storage import journal
from app.storage.database import Database
from app.storage.models import Event
from tests.conftest import Clock
from tests.support.asking import ask
from tests.support.service import OPEN


def test_an_addresss_refusals_are_journalled_to_a_limit_and_mismatches_always(
    verification: Verification, card_id: str, clock: Clock
) -> None:
    ask(verification, card_id)
    for _ in range(30):
        ask(verification, "0" * 32, address="203.0.113.5")
        ask(verification, card_id, hardware="h2", address="203.0.113.5")
    counted = [Event.select().where(Event.code == c).count() for c in (Code.CARD_NOT_FOUND, Code.CLIENT_MISMATCH)]
    assert counted == [20, 30]
    ask(verification, "0" * 32, address="203.0.113.6")
    clock.advance(timedelta(minutes=1))
    ask(verification, "0" * 32, address="203.0.113.5")
    assert Event.select().where(Event.code == Code.CARD_NOT_FOUND).count() == 22


def test_failures_of_functions_have_a_limit_of_their_own(licences: LicenceService, card_id: str) -> None:
    def refuse(code: Code) -> Verdict:
        evaluation = licences.evaluate(VerificationRequest.from_fields(card_id, "h1", "f", "n" * 22, "203.0.113.5"))
        return licences.reject(evaluation, code, {"detail": "Traceback"})

    for _ in range(25):
        licences.evaluate(VerificationRequest.from_fields("0" * 32, "h2", OPEN, "n" * 22, "203.0.113.5"))
        refuse(Code.FUNCTION_NOT_FOUND)
    failed = refuse(Code.FUNCTION_FAILED)
    assert Event.get(Event.reference == failed.reference).details == {"detail": "Traceback"}
    for code in (Code.FUNCTION_FAILED, Code.FUNCTION_TIMEOUT) * 15:
        refuse(code)
    counted = Counter(event.code for event in Event.select().where(Event.kind == EventKind.REJECTED))
    assert (counted[Code.CARD_NOT_FOUND], counted[Code.FUNCTION_NOT_FOUND]) == (20, 20)
    assert counted[Code.FUNCTION_FAILED] + counted[Code.FUNCTION_TIMEOUT] == 20


def test_an_ipv6_network_counts_as_one_address(verification: Verification) -> None:
    for number in range(30):
        ask(verification, "0" * 32, address=f"2001:db8::{number:x}")
    assert Event.select().count() == 20


def test_only_old_rejections_and_downloads_are_pruned(verification: Verification, card_id: str, clock: Clock) -> None:
    ask(verification, card_id)
    ask(verification, "0" * 32)
    download = journal.Entry(at=clock.now, kind=EventKind.FILE_DOWNLOADED, card_id=card_id)
    journal.append([download, replace(download, kind=EventKind.FILE_ADDED)])
    clock.advance(timedelta(days=300))
    ask(verification, "0" * 32)
    journal.append([replace(download, at=clock.now)])
    assert housekeeping.prune_journal(timedelta(days=365), clock.now) == 0
    clock.advance(timedelta(days=100))
    assert housekeeping.prune_journal(timedelta(days=365), clock.now) == 2
    left = [event.kind for event in Event.select().order_by(Event.id)]
    assert left == ["issued", "activated", "file_added", "rejected", "file_downloaded"]


def test_a_rejection_says_whether_it_was_written_and_counting_ends_at_the_limit(
    database: Database, clock: Clock
) -> None:
    entry = journal.Entry(clock.now, EventKind.REJECTED, Code.CARD_NOT_FOUND, ip="2001:db8::1")
    journal.append([entry] * (journal.MAX_REFUSALS_PER_MINUTE - 1))
    assert journal.append_rejection(entry)
    assert not journal.append_rejection(entry)
    journal.append([entry])
    assert journal.recent_refusals(entry, journal.BOUNDED_GROUPS[0]).count() == journal.MAX_REFUSALS_PER_MINUTE
    assert {event.ip_network for event in Event.select()} == {"2001:db8::/64"}


def test_pruning_ends_before_the_time_and_at_the_size_of_a_batch(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "PRUNE_BATCH", 2)
    journal.append([journal.Entry(clock.now, EventKind.FILE_DOWNLOADED)] * 3)
    assert journal.prune(clock.now) == 0
    after = clock.now + timedelta(microseconds=1)
    assert [journal.prune(after) for _ in range(3)] == [2, 1, 0]


def test_a_rejection_is_known_by_its_code_and_any_other_entry_by_its_kind() -> None:
    rejections = [str(code) for code in Code if code is not Code.OK]
    kinds = [str(kind) for kind in EventKind if kind is not EventKind.REJECTED]
    assert journal.codes_or_kinds(EventKind.ISSUED, Code.CARD_FROZEN) == ["issued", "CARD_FROZEN"]
    assert journal.codes_or_kinds(EventKind.ISSUED, EventKind.REJECTED) == ["issued", *rejections]
    assert journal.codes_or_kinds(EventKind.ISSUED, None) == ["issued", *rejections, *kinds]
