"""What the vendor's terms change for a request: the verdict, what it carries, and what is recorded of it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from app.domain.codes import Code
from app.domain.policy import VerificationRequest
from app.services.issuing import Issuing
from app.services.licence import LicenceService
from app.services.terms import VendorTerms
from app.services.verification import Verification
from app.storage import daily_counts
from app.storage.database import Database
from app.storage.models import Card, Client, DailyCount, Event
from tests.conftest import Clock
from tests.support.asking import ask, claims
from tests.support.service import OPEN

HOME, AWAY = "198.51.100.1", "203.0.113.7"


def set_terms(licences: LicenceService, terms: VendorTerms, **changes: str) -> None:
    terms.change(changes.items())
    licences.rules.renew()


def of_version(card_id: str, version: str | None, *, function: str = OPEN) -> VerificationRequest:
    fields = (card_id, "h1", function, "n" * 22, HOME)
    return VerificationRequest.from_fields(*fields, version=version, needs_version=function == OPEN)


def test_accepted_verdicts_carry_what_the_terms_set(
    verification: Verification, licences: LicenceService, terms: VendorTerms, card_id: str
) -> None:
    said = {"notice", "latest_version", "update_url"}
    assert not said & set(claims(ask(verification, card_id)))
    set_terms(licences, terms, notice="维护", latest_version="2.0", update_url="https://example.com/2.0")
    opened = claims(ask(verification, card_id))
    assert {name: opened[name] for name in said} == {
        "notice": "维护",
        "latest_version": "2.0",
        "update_url": "https://example.com/2.0",
    }
    used = claims(ask(verification, card_id, function="导出"))
    assert said & set(used) == {"latest_version", "update_url"}
    assert not said & set(claims(ask(verification, "0" * 32)))


@pytest.mark.parametrize(
    ("binding", "code"), [("either", Code.OK), ("hardware", Code.OK), ("both", Code.CLIENT_MISMATCH)]
)
def test_the_term_binding_is_in_force(
    verification: Verification, licences: LicenceService, terms: VendorTerms, card_id: str, binding: str, code: Code
) -> None:
    set_terms(licences, terms, binding=binding)
    ask(verification, card_id)
    assert ask(verification, card_id, address=AWAY).code is code
    assert ask(verification, card_id, "h2", address=AWAY).code is (
        Code.OK if binding == "either" else Code.CLIENT_MISMATCH
    )


def test_more_changes_than_a_day_allows_are_refused_counted_and_over_the_next_day(
    verification: Verification, licences: LicenceService, terms: VendorTerms, card_id: str, clock: Clock
) -> None:
    ask(verification, card_id)
    ask(verification, card_id, address=AWAY)
    set_terms(licences, terms, changes_per_day="2")
    ask(verification, card_id, "h2", AWAY)
    refused = [ask(verification, card_id, "h2", HOME), ask(verification, card_id, "h3", AWAY)]
    assert [verdict.code for verdict in refused] == [Code.TOO_MANY_CHANGES] * 2
    assert ask(verification, card_id, "h2", AWAY).code is Code.OK, "where it was last"
    assert (Client.get().hardware, Client.get().ip) == ("h2", AWAY)
    assert DailyCount.get(DailyCount.kind == "TOO_MANY_CHANGES").count == 2
    clock.advance(timedelta(days=1))
    assert ask(verification, card_id, "h2", HOME).code is Code.OK


def test_changes_that_race_are_not_more_than_the_day_allows(
    verification: Verification, licences: LicenceService, terms: VendorTerms, database: Database, card_id: str
) -> None:
    set_terms(licences, terms, changes_per_day="3")
    ask(verification, card_id)

    def move(number: int) -> Code:
        verdict = ask(verification, card_id, address=f"203.0.113.{number}")
        database.close()
        return verdict.code

    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(move, range(1, 13)))
    assert codes.count(Code.OK) == 3
    assert codes.count(Code.TOO_MANY_CHANGES) == 9


def test_a_change_is_not_counted_against_the_machine_that_has_just_made_it(  # fixtures
    verification: Verification, licences: LicenceService, terms: VendorTerms, database: Database, card_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A program that asks twice at once from a new address: one of the two is recorded while the other is read."""
    set_terms(licences, terms, changes_per_day="1")
    ask(verification, card_id)
    count, asked = daily_counts.changes, []

    def twin() -> Code:
        with database.connection_context():
            return ask(verification, card_id, address=AWAY).code

    def count_late(*given: Any) -> int:
        if not asked:
            asked.append(AWAY)
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(twin).result() is Code.OK
        return count(*given)

    monkeypatch.setattr(daily_counts, "changes", count_late)
    assert ask(verification, card_id, address=AWAY).code is Code.OK
    assert ask(verification, card_id, address="192.0.2.7").code is Code.TOO_MANY_CHANGES


def test_an_old_program_is_told_to_update_and_changes_nothing(
    verification: Verification, licences: LicenceService, terms: VendorTerms, card_id: str
) -> None:
    set_terms(licences, terms, minimum_version="2.0", latest_version="2.1", update_url="https://example.com")
    for version in (None, "1.99"):
        verdict = verification.verify(of_version(card_id, version))
        assert verdict.code is Code.UPDATE_REQUIRED
        told = claims(verdict)
        assert (told["latest_version"], told["update_url"]) == ("2.1", "https://example.com")
        assert "KERNAL_DATA_KEY" not in told
    assert not Card.get_by_id(card_id).is_activated
    assert DailyCount.get(DailyCount.kind == "UPDATE_REQUIRED").count == 2
    entries = Event.select().where(Event.code == Code.UPDATE_REQUIRED).order_by(Event.id)
    assert [entry.details for entry in entries] == [{"terms": 1}]
    assert verification.verify(of_version(card_id, "2.0")).code is Code.OK
    before = Client.get().requested_at
    assert verification.verify(of_version(card_id, "1.99")).code is Code.UPDATE_REQUIRED
    assert Client.get().requested_at == before
    assert verification.verify(of_version(card_id, None, function="导出")).code is Code.OK


def test_an_entry_tells_by_which_terms_a_request_was_judged(
    verification: Verification, licences: LicenceService, terms: VendorTerms, issuing: Issuing
) -> None:
    first, second, third = (card.id for card in issuing.issue(3, timedelta(days=30)).cards)
    ask(verification, first)
    set_terms(licences, terms, binding="hardware")
    ask(verification, second, "h2")
    terms.change([("binding", "both")])
    ask(verification, second, "h3")  # this process holds the terms before
    licences.rules.renew()
    ask(verification, third, "h4")
    ask(verification, third, "h4", AWAY)
    judged = Event.select().where(Event.hardware.is_null(is_null=False)).order_by(Event.id)
    assert [(entry.kind, (entry.details or {}).get("terms")) for entry in judged] == [
        ("activated", None),
        ("activated", 1),
        ("rejected", 1),
        ("activated", 2),
        ("rejected", 2),
    ]
